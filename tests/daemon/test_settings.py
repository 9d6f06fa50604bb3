"""Settings: which place wins, and that nothing wrong is passed over in silence."""

import argparse
import json
import re
from pathlib import Path

import pytest

from mird.daemon.cli_settings import OPTIONS, SWITCHES, add_setting_arguments, settings_of
from mird.daemon.errors import SettingsError
from mird.daemon.settings import Settings, allowed, load_settings


@pytest.fixture
def user_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's settings file, empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "mird" / "mird.toml"
    path.parent.mkdir()
    path.touch()
    return path


def test_defaults_need_no_file() -> None:
    effective = load_settings()
    assert effective.settings == Settings()
    assert effective.settings.hop_ms == 100
    assert effective.origins == {}


def test_each_place_overrides_the_weaker_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user_file: Path) -> None:
    user_file.write_text("hop_ms = 50\nhold_ms = 1\nrelease_ms = 1\ntop_k = 1\n")
    config = tmp_path / "stage.toml"
    config.write_text("hold_ms = 2\nrelease_ms = 2\ntop_k = 2\n")
    monkeypatch.setenv("MIRD_RELEASE_MS", "3")
    monkeypatch.setenv("MIRD_TOP_K", "3")
    effective = load_settings({"top_k": "4", "threads": None}, config)
    settings = effective.settings
    assert (settings.hop_ms, settings.hold_ms, settings.release_ms, settings.top_k) == (50, 2, 3, 4)
    assert effective.origins == {
        "hop_ms": str(user_file),
        "hold_ms": str(config),
        "release_ms": "MIRD_RELEASE_MS",
        "top_k": "--top-k",
    }


def test_class_thresholds_of_several_places_are_joined(monkeypatch: pytest.MonkeyPatch, user_file: Path) -> None:
    user_file.write_text("[class_thresholds]\nviola = 0.5\n'bass clarinet' = 0.6\n")
    monkeypatch.setenv("MIRD_CLASS_THRESHOLDS", '{"viola": 0.7}')
    effective = load_settings()
    assert effective.settings.class_thresholds == {"viola": 0.7, "bass clarinet": 0.6}
    assert effective.origins == {
        "class_thresholds.viola": "MIRD_CLASS_THRESHOLDS",
        "class_thresholds.bass clarinet": str(user_file),
    }


def test_making_settings_reads_nothing(monkeypatch: pytest.MonkeyPatch, user_file: Path) -> None:
    user_file.write_text("hop_ms = 50\n")
    monkeypatch.setenv("MIRD_TOP_K", "3")
    assert Settings() == Settings(hop_ms=100, top_k=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hop-ms = 50", r"unknown setting hop-ms in \S+mird\.toml; did you mean hop_ms\?"),
        ("hop_sm = 50", r"unknown setting hop_sm in \S+mird\.toml; did you mean hop_ms\?"),
        ("[zzz]\nqqq = 1", r"unknown setting zzz in \S+mird\.toml; `mird config` lists the settings"),
        ("hop_ms = 5", r"setting hop_ms=5 \(\S+mird\.toml\): must be a whole number from 20 to 1000"),
        ("hop_ms = 50.5", r"setting hop_ms=50\.5 \(\S+mird\.toml\): must be a whole number from 20 to 1000"),
        ("source = 3", r"setting source=3 \(\S+mird\.toml\): must be text"),
        ("fast = 'maybe'", r"setting fast='maybe' \(\S+mird\.toml\): must be true or false"),
        ("silence_dbfs = nan", r"setting silence_dbfs=nan \(\S+mird\.toml\): must be a number from -150 to 0"),
        ("unknown_threshold = 2.0", r"setting unknown_threshold=2\.0 \(\S+mird\.toml\): must be a number from 0 to 1"),
        ("log_level = 'all'", r"setting log_level='all' \(\S+mird\.toml\): must be one of debug, info, warning, error"),
        ("publish = ':7475'", r"setting publish=':7475' \(\S+\): must be an address that begins with tcp:// or ipc://"),
        (
            "class_thresholds = 1",
            r"setting class_thresholds=1 \(\S+mird\.toml\): must be a table of numbers from 0 to 1",
        ),
        ("[class_thresholds]\nviola = 7", r"setting class_thresholds\.viola=7 \(\S+mird\.toml\): .* from 0 to 1"),
        ("hop_ms 50", r"settings file \S+mird\.toml: not TOML: .*line 1"),
        ("hop_ms = 50\nhop_ms = 60", r"settings file \S+mird\.toml: not TOML: Cannot overwrite a value"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(user_file: Path, text: str, message: str) -> None:
    user_file.write_text(text)
    with pytest.raises(SettingsError, match=rf"^{message}") as raised:
        load_settings()
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_text_is_named(user_file: Path) -> None:
    user_file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"settings file \S+mird\.toml: not TOML: "):
        load_settings()


def test_a_place_that_cannot_be_looked_into_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ("x" * 300)))  # as root there is no other such place
    with pytest.raises(SettingsError, match=r"settings file /.*/mird/mird.toml: File name too long$"):
        load_settings()


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"settings file \S+absent\.toml: No such file or directory"):
        load_settings(config=tmp_path / "absent.toml")
    with pytest.raises(SettingsError, match=r"settings file \S+: Is a directory"):
        load_settings(config=tmp_path)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("MIRD_HOPMS", "50", r"unknown setting MIRD_HOPMS in the environment; did you mean MIRD_HOP_MS\?"),
        ("mird_hopms", "50", r"unknown setting MIRD_HOPMS in the environment; did you mean MIRD_HOP_MS\?"),
        ("MIRD_HOP_MS", "", r"setting hop_ms='' \(MIRD_HOP_MS\): must be a whole number from 20 to 1000"),
        ("MIRD_CLASS_THRESHOLDS", "viola=1", r"MIRD_CLASS_THRESHOLDS='viola=1' .* not a JSON object such as "),
        ("MIRD_CLASS_THRESHOLDS", "[1]", r"class_thresholds=\[1\] \(MIRD_CLASS_THRESHOLDS\): must be a table of"),
    ],
)
def test_what_is_wrong_in_a_variable_is_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=message):
        load_settings()


def test_the_variable_of_the_tests_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRD_RECORDINGS", "/nowhere")
    assert load_settings().settings == Settings()


def _parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_setting_arguments(parser, *OPTIONS, *SWITCHES, "class_thresholds")
    return parser.parse_args(argv)


def test_options_reach_the_settings() -> None:
    args = _parsed("--hop-ms", "20", "--fast", "--class-threshold", "a=b=0.4", "--source", "file:a b.flac")
    settings = settings_of(args).settings
    assert settings == Settings(hop_ms=20, fast=True, class_thresholds={"a=b": 0.4}, source="file:a b.flac")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--hop-ms", "5"), r"setting hop_ms='5' \(--hop-ms\): must be a whole number from 20 to 1000"),
        (("--class-threshold", "viola"), r"--class-threshold 'viola': must be NAME=SCORE"),
        (("--class-threshold", "viola=x"), r"class_thresholds\.viola='x' \(--class-threshold\): must be a number"),
    ],
)
def test_what_is_wrong_in_an_option_is_one_line(argv: tuple[str, ...], message: str) -> None:
    args = _parsed(*argv)
    with pytest.raises(SettingsError, match=message):
        settings_of(args)


def test_every_setting_is_an_option_with_its_default_in_the_help() -> None:
    assert set(OPTIONS) | set(SWITCHES) | {"class_thresholds"} == set(Settings.model_fields)
    for name, (_, text) in OPTIONS.items():
        default = Settings.model_fields[name].default
        if default in ("", None):
            assert "(default: " in text or "; default: " in text, name
        else:
            shown = f"{default:g}" if isinstance(default, float) else str(default)
            assert f"(default {shown})" in text, name


def test_every_setting_has_a_text_and_says_what_it_may_be() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert allowed(name), name


def test_the_readme_lists_every_setting() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", readme.partition("## Settings")[2], re.MULTILINE))
    for name, field in Settings.model_fields.items():
        default = field.default
        if default not in ("", None, {}):
            shown = f"{default:g}" if isinstance(default, float) else json.dumps(default)
            assert rows[name].strip("`") == shown, name
        else:
            assert rows[name], name
