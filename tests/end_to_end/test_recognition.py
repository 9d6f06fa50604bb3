"""Real sound in, the right instruments out in another process: from a sound server, from files, from a pipe."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
import soxr

if TYPE_CHECKING:
    from tests.conftest import NullSink
    from tests.end_to_end.conftest import Demonstration, User

pytestmark = pytest.mark.system

N_RIGHT = 4
"""Of the demonstration's six instruments; by chance, among forty classes, not even one would be right."""


def maps(lines: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


def silence_again(n_frames: int) -> Callable[[dict[str, Any]], bool]:
    """Of messages in their order: whether so many frames in a row were silent since something sounded."""
    sounded, n_silent = False, 0

    def is_so(message: dict[str, Any]) -> bool:
        nonlocal sounded, n_silent
        if message["kind"] == "frame":
            silent = message["label"] == "silence"
            sounded = sounded or not silent
            n_silent = n_silent + 1 if silent and sounded else 0
        return n_silent >= n_frames

    return is_so


def assert_in_order(events: list[dict[str, Any]]) -> None:
    """Events of a channel follow each other, each with its end."""
    running, until = "", 0
    for event in events:
        if event["event"] == "start":
            assert not running
            assert event["sample_start"] >= until
            assert event["sample_end"] is None
            running = event["event_id"]
        else:
            assert event["event_id"] == running
            assert event["sample_end"] > event["sample_start"]
            running, until = "", event["sample_end"]
    assert not running, "every event has its end"


@pytest.mark.pulseaudio
@pytest.mark.slow
def test_what_a_microphone_hears_is_named(null_sink: "NullSink", user: "User", demonstration: "Demonstration") -> None:
    user.environment |= null_sink.environment
    with user.daemon("--source", "device", "--channels", "1"), user.listening("frame", "event") as listener:
        listener.first(lambda message: message["kind"] == "frame" and message["label"] == "silence")
        assert not listener.received("event")
        null_sink.play(demonstration.path)
        listener.first(silence_again(20))  # two seconds; the pauses between the instruments have one
        frames, events = listener.received("frame"), listener.received("event")
    sounding = [frame for frame in frames if frame["label"] != "silence"]
    assert all(frame["label"] == "silence" for frame in frames[-5:]), "nothing sounds any more"
    assert_in_order(events)
    first = sounding[0]
    recognised = demonstration.recognised(events, first["sample_end"] / first["rate_hz"] - first["hop_s"])
    assert len(recognised) >= N_RIGHT, [(event["event"], event["label"]) for event in events]
    assert {frame["source"] for frame in frames} == {"default"}
    assert {frame["channel"] for frame in frames} == {1}
    seq = [frame["seq"] for frame in frames]
    assert seq == list(range(seq[0], seq[0] + len(seq)))


@pytest.fixture(scope="module")
def played(lasting_user: "User", demonstration: "Demonstration") -> list[dict[str, Any]]:
    """What the daemon publishes of the demonstration, at full speed."""
    done = lasting_user.run("run", "--source", f"file:{demonstration.path}", "--fast", "--json")
    assert done.returncode == 0, done.stderr
    return maps(done.stdout)


def test_what_a_file_holds_is_named(played: list[dict[str, Any]], demonstration: "Demonstration") -> None:
    events = [message for message in played if message["kind"] == "event"]
    assert len(demonstration.recognised(events)) >= N_RIGHT, events
    assert_in_order(events)
    states = [message["state"] for message in played if message["kind"] == "state"]
    assert states[-1] == "ENDED"
    assert "LIVE" in states
    frames = [message for message in played if message["kind"] == "frame"]
    n_samples = soundfile.info(demonstration.path).frames
    assert [frame["sample_end"] for frame in frames] == list(range(44_100, n_samples + 1, 4_410)), "none is lost"


def test_tagging_hears_what_the_daemon_hears(
    played: list[dict[str, Any]], user: "User", demonstration: "Demonstration"
) -> None:
    tagged = user.run("tag", demonstration.path, "--json")

    def spans(messages: list[dict[str, Any]]) -> list[tuple[str, int, int, Any]]:
        ends = (message for message in messages if message["kind"] == "event" and message["event"] == "end")
        return [(end["label"], end["sample_start"], end["sample_end"], pytest.approx(end["score"])) for end in ends]

    assert spans(maps(tagged.stdout)) == spans(played)
    assert spans(played)


def test_a_pipe_is_named(user: "User", demonstration: "Demonstration") -> None:
    samples, rate_hz = soundfile.read(demonstration.path, dtype="int16")
    options = ("--stdin-rate-hz", str(rate_hz), "--stdin-format", "s16le")
    done = user.run("run", "--source", "stdin", *options, "--json", stdin=samples.astype("<i2").tobytes())
    assert done.returncode == 0, done.stderr
    events = [message for message in maps(done.stdout) if message["kind"] == "event"]
    assert {event["source"] for event in events} == {"stdin"}
    assert len(demonstration.recognised(events)) >= N_RIGHT, events


@pytest.mark.parametrize("rate_hz", [44_100, 96_000])
def test_each_channel_is_named_by_itself(
    user: "User", demonstration: "Demonstration", tmp_path: Path, rate_hz: int
) -> None:
    forwards, _ = soundfile.read(demonstration.path, dtype="float32")
    backwards, native_hz, turned = demonstration.backwards()
    n = min(len(forwards), len(backwards))
    sound = soxr.resample(np.stack([backwards[:n], forwards[:n]], axis=-1), native_hz, rate_hz)
    soundfile.write(tmp_path / "two.wav", sound, rate_hz)
    done = user.run("tag", tmp_path / "two.wav", "--json")
    assert done.returncode == 0, done.stderr
    messages = maps(done.stdout)
    first, second = ([event for event in messages if event["channel"] == channel] for channel in (1, 2))
    assert len(demonstration.recognised(first, spans=turned)) >= N_RIGHT, first
    assert len(demonstration.recognised(second)) >= N_RIGHT, second
    assert len(demonstration.recognised(first)) < N_RIGHT, "the order matters"
