"""Sources in words: what is understood, and what is said of the rest."""

import pytest

from mird.daemon.errors import SettingsError, SourceError
from mird.daemon.source import SourceSpec, parse_channels, parse_source, select_channels, topic_name


def test_the_three_kinds() -> None:
    assert parse_source("device") == SourceSpec("device")
    assert parse_source("device:Scarlett") == SourceSpec("device", "Scarlett")
    assert parse_source("file:/tmp/a b:c.wav", fast=True, loop=True, name="take-1") == SourceSpec(
        "file", "/tmp/a b:c.wav", fast=True, loop=True, name="take-1"
    )
    assert parse_source("stdin", stdin_rate_hz=48_000, stdin_channels=2, stdin_format="s24le") == SourceSpec(
        "stdin", rate_hz=48_000, n_channels=2, sample_format="s24le"
    )
    assert parse_source("device", stdin_rate_hz=48_000).rate_hz is None


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("microphone", {}, "'microphone' is no source"),
        ("", {}, "is no source"),
        ("stdin:44100", {}, "is no source"),
        ("file:", {}, "names no file"),
        ("device:3", {}, "a number, which changes"),
        ("stdin", {"stdin_rate_hz": 0}, "0 Hz"),
        ("stdin", {"stdin_channels": 0}, "0 channels"),
        ("stdin", {"stdin_format": "mp3"}, "'mp3' is unknown: choose from u8, s16le"),
        ("device", {"name": "a/b"}, "'a/b'"),
        ("device", {"name": "x" * 65}, "1 to 64"),
        ("device", {"channels": "0"}, "outside 1"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_line(text: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        parse_source(text, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 3


def test_channels_are_numbers_and_ranges() -> None:
    assert parse_channels("all") is None
    assert parse_channels(" ALL ") is None
    assert parse_channels("2") == (2,)
    assert parse_channels("1,3-4, 8") == (1, 3, 4, 8)
    assert parse_channels("4,1") == (4, 1), "the order is the user's"


@pytest.mark.parametrize("text", ["", "0", "1,,2", "3-1", "1-", "-1", "one", "1,1", "1-3,2", "257", "99999", "²"])
def test_other_channels_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="channels"):
        parse_channels(text)


def test_a_channel_that_does_not_exist_is_named_with_those_that_do() -> None:
    assert select_channels(SourceSpec("device"), 3, "it") == (1, 2, 3)
    assert select_channels(SourceSpec("device", channels=(3, 1)), 3, "it") == (3, 1)
    with pytest.raises(SourceError, match=r"channel 5 does not exist: 'Scarlett' has 2 input channels"):
        select_channels(SourceSpec("device", channels=(1, 5)), 2, "'Scarlett'")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("viola.flac", "viola.flac"),
        ("Ma flûte (prise 2).wav", "Ma-flute-prise-2-.wav"),
        ("a/b\0c", "a-b-c"),
        ("東京", "source"),
        ("x" * 300, "x" * 64),
    ],
)
def test_names_become_fit_for_a_topic(text: str, name: str) -> None:
    assert topic_name(text) == name
    assert topic_name(name) == name
