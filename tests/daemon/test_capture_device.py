"""PortAudio's capture, from a PulseAudio null sink: sound, channels, absence, loss, return, and a server that hangs."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
import soundfile
from numpy.typing import NDArray

from mird.daemon.capture import Capture, CaptureState, SourceSpec, Stream, open_capture
from mird.daemon.devices import Device, find_input
from mird.daemon.errors import SourceError

if TYPE_CHECKING:
    from tests.conftest import NullSink

pytestmark = pytest.mark.pulseaudio

RATE_HZ = 44_100


@contextmanager
def running(**settings: object) -> Iterator[Capture]:
    capture = open_capture(SourceSpec("device", **settings))  # type: ignore[arg-type]
    capture.start()
    try:
        yield capture
    finally:
        capture.stop()


def awaited(capture: Capture, condition: Callable[[Capture], bool], timeout_s: float = 8.0) -> float:
    """Wait until something holds of a capture; the seconds that it took."""
    began_s = time.monotonic()
    while not condition(capture):
        assert time.monotonic() - began_s < timeout_s, capture.status
        time.sleep(0.005)
    return time.monotonic() - began_s


def streamed(capture: Capture) -> Stream:
    awaited(capture, lambda capture: capture.stream is not None)
    assert capture.stream is not None
    return capture.stream


def is_in(*states: CaptureState) -> Callable[[Capture], bool]:
    return lambda capture: capture.status.state in states


def tones(path: Path, seconds: float, *frequencies_hz: float) -> Path:
    """A recording with a tone of 0.5 in each channel."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = 0.5 * np.sin(2 * np.pi * np.array(frequencies_hz) * time_s[:, None])
    soundfile.write(path, sound, RATE_HZ, subtype="PCM_16")
    return path


def taken(stream: Stream, n: int) -> NDArray[np.float32]:
    """The next frames that come in."""
    stream.ring.read(stream.ring.n_frames)
    assert stream.ring.wait_for_data(n, 10.0)
    chunk = stream.ring.read(n)
    assert chunk.n_lost == 0
    return chunk.samples


def pitch_hz(samples: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * RATE_HZ / len(samples)


def test_what_is_played_comes_in_channel_by_channel(null_sink: "NullSink", tmp_path: Path) -> None:
    path = tones(tmp_path / "tones.wav", 8.0, 440.0, 1_000.0)
    with running() as capture:
        stream = streamed(capture)
        assert (stream.source, stream.rate_hz, stream.channels, stream.lossless) == ("default", RATE_HZ, (1, 2), False)
        with null_sink.playing(path):
            awaited(capture, lambda _: bool(np.abs(stream.ring.latest(4_410).samples).max() > 0.4))
            sound = taken(stream, RATE_HZ)
            assert capture.status.state is CaptureState.LIVE
    assert pitch_hz(sound[:, 0]) == pytest.approx(440.0, abs=1.1)
    assert pitch_hz(sound[:, 1]) == pytest.approx(1_000.0, abs=1.1)
    assert np.abs(sound).max(axis=0) == pytest.approx([0.5, 0.5], abs=0.01)
    assert (capture.status.state, capture.stream) == (CaptureState.ENDED, None)
    assert stream.ring.closed
    assert (capture.status.n_overflows, capture.status.n_opens) == (0, 1)


def test_only_the_selected_channel_enters_the_ring_and_nothing_is_mixed(null_sink: "NullSink", tmp_path: Path) -> None:
    path = tones(tmp_path / "tones.wav", 8.0, 440.0, 1_000.0)
    for channels, frequencies_hz in (((1,), (440.0,)), ((2, 1), (1_000.0, 440.0))):
        with running(channels=channels) as capture, null_sink.playing(path):
            stream = streamed(capture)
            assert (stream.channels, stream.ring.n_channels) == (channels, len(channels))
            awaited(capture, lambda _, s=stream: bool(np.abs(s.ring.latest(4_410).samples).max() > 0.4))  # type: ignore[misc]
            sound = taken(stream, RATE_HZ)
            for column, frequency_hz in enumerate(frequencies_hz):
                spectrum = np.abs(np.fft.rfft(sound[:, column] * np.hanning(RATE_HZ)))
                assert np.argmax(spectrum) == pytest.approx(frequency_hz, abs=1)
                other_hz = 1_440 - round(frequency_hz)
                assert spectrum[other_hz] < 1e-3 * spectrum.max(), "the other channel is not mixed into it"


def test_a_channel_that_the_interface_does_not_have_is_refused(null_sink: "NullSink") -> None:
    with pytest.raises(SourceError, match=r"channel 40 does not exist: 'default' has 32 input channels"):
        open_capture(SourceSpec("device", channels=(1, 40)))


def test_the_sample_clock_agrees_with_the_wall(null_sink: "NullSink", tmp_path: Path) -> None:
    with running() as capture:
        stream = streamed(capture)
        awaited(capture, lambda _: stream.ring.n_written > 3 * RATE_HZ)
        behind_s = (time.monotonic_ns() - stream.mono_ns(stream.ring.n_written)) / 1e9
        assert -0.02 < behind_s < 0.1
        opened_s = (stream.mono_ns(0) - stream.opened_mono_ns) / 1e9
        assert abs(opened_s) < 0.1
        assert abs((time.time_ns() - time.monotonic_ns()) - (stream.opened_utc_ns - stream.opened_mono_ns)) < 50_000_000
        assert capture.status.n_gaps == 0


def test_exact_zeros_are_a_fault_until_sound_comes(null_sink: "NullSink", tmp_path: Path) -> None:
    with running() as capture:
        awaited(capture, is_in(CaptureState.STALLED))
        assert "exact zeros" in capture.status.detail
        with null_sink.playing(tones(tmp_path / "tone.wav", 5.0, 440.0)):
            awaited(capture, is_in(CaptureState.LIVE))


def test_a_missing_device_is_waited_for(null_sink: "NullSink", capfd: pytest.CaptureFixture[str]) -> None:
    null_sink.kill()
    with running() as capture:
        assert (capture.status.state, capture.stream) == (CaptureState.WAITING, None)
        assert capture.status.detail == "there is no audio input; waiting for it. Inputs that exist: none"
        null_sink.start()
        streamed(capture)
        assert capture.status.n_opens == 1
    assert capfd.readouterr() == ("", "")


def test_a_pattern_that_matches_nothing_names_what_there_is(null_sink: "NullSink") -> None:
    with running(argument="Scarlett") as capture:
        assert capture.status.state is CaptureState.WAITING
        assert "no input matches 'Scarlett'; waiting for it. Inputs that exist: 'default'" in capture.status.detail
        assert capture.stream is None


def test_a_killed_server_is_noticed_and_its_return_is_a_new_stream(null_sink: "NullSink") -> None:
    with running() as capture:
        first = streamed(capture)
        null_sink.kill()
        assert awaited(capture, is_in(CaptureState.LOST)) < 2.0
        awaited(capture, lambda capture: capture.stream is None, 1.0)
        awaited(capture, lambda _: first.ring.closed, 1.0)
        awaited(capture, lambda capture: "Inputs that exist: none" in capture.status.detail)
        assert capture.status.state is CaptureState.LOST
        null_sink.start()
        second = streamed(capture)
        assert second.stream_id != first.stream_id
        assert second.ring is not first.ring
        assert second.opened_mono_ns > first.opened_mono_ns
        awaited(capture, is_in(CaptureState.LIVE, CaptureState.STALLED))
        assert capture.status.n_opens == 2


def test_a_server_that_hangs_is_noticed_and_does_not_hang_us(null_sink: "NullSink") -> None:
    with running() as capture:
        first = streamed(capture)
        os.kill(null_sink.pid, signal.SIGSTOP)
        try:
            assert awaited(capture, is_in(CaptureState.LOST)) < 2.0
            assert "nothing came" in capture.status.detail
        finally:
            os.kill(null_sink.pid, signal.SIGCONT)
        second = streamed(capture)
        assert second.stream_id != first.stream_id


def test_a_server_that_pauses_is_waited_for_and_nothing_is_lost(null_sink: "NullSink", tmp_path: Path) -> None:
    with running() as capture, null_sink.playing(tones(tmp_path / "tone.wav", 20.0, 440.0)):
        awaited(capture, is_in(CaptureState.LIVE))
        stream = capture.stream
        assert stream is not None
        awaited(capture, lambda _: bool(stream.ring.latest(441).samples.any()))
        os.kill(null_sink.pid, signal.SIGSTOP)
        try:
            awaited(capture, lambda capture: "nothing came for half a second" in capture.status.detail)
            assert capture.status.state is CaptureState.STALLED
        finally:
            os.kill(null_sink.pid, signal.SIGCONT)
        awaited(capture, is_in(CaptureState.LIVE))
        assert capture.stream is stream
        assert (capture.status.n_opens, capture.status.n_gaps) == (1, 0)


def test_a_call_that_does_not_return_is_told_of_until_it_does(
    null_sink: "NullSink", monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("_OPENING_S", 0.5), ("_STUCK_S", 1.0)):
        monkeypatch.setattr(f"mird.daemon.capture_device.{name}", seconds)
    with running() as capture:
        first = streamed(capture)
        os.kill(null_sink.pid, signal.SIGSTOP)
        try:
            awaited(capture, lambda capture: capture.status.stuck, 20.0)
            assert capture.status.state is CaptureState.LOST
            assert "'default' has not closed for" in capture.status.detail
            assert "restart PulseAudio or PipeWire" in capture.status.detail
        finally:
            os.kill(null_sink.pid, signal.SIGCONT)
        second = awaited(capture, lambda capture: capture.stream not in (None, first), 20.0)
        assert second < 20.0
        awaited(capture, is_in(CaptureState.LIVE, CaptureState.STALLED))
        assert not capture.status.stuck


def test_stop_does_not_wait_for_a_server_that_hangs(null_sink: "NullSink") -> None:
    capture = open_capture(SourceSpec("device"))
    capture.start()
    streamed(capture)
    os.kill(null_sink.pid, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        capture.stop()
        capture.stop()
        assert time.monotonic() - began_s < 2.0
    finally:
        os.kill(null_sink.pid, signal.SIGCONT)


def searches() -> list[psutil.Process]:
    """The processes of ours that look for devices."""
    return [child for child in psutil.Process().children() if "mird.daemon.device_probe" in child.cmdline()]


def test_stop_does_not_wait_for_a_search_that_hangs(null_sink: "NullSink") -> None:
    capture = open_capture(SourceSpec("device", "no such device"))
    os.kill(null_sink.pid, signal.SIGSTOP)
    try:
        capture.start()
        awaited(capture, lambda _: bool(searches()))
        began_s = time.monotonic()
        capture.stop()
        assert time.monotonic() - began_s < 3.0
    finally:
        os.kill(null_sink.pid, signal.SIGCONT)
        capture.stop()
        psutil.wait_procs(searches(), 10.0)


def test_a_fault_of_our_own_is_told_and_it_is_tried_again(
    null_sink: "NullSink", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = [OSError(11, "Resource temporarily unavailable")] * 2

    def faulty(devices: list[Device], wanted: str) -> Device | None:
        if faults:
            raise faults.pop()
        return find_input(devices, wanted)

    capture = open_capture(SourceSpec("device"))
    monkeypatch.setattr("mird.daemon.capture_device.find_input", faulty)
    capture.start()
    try:
        awaited(capture, lambda capture: "a fault in mird: BlockingIOError" in capture.status.detail)
        streamed(capture)
    finally:
        capture.stop()
    assert not faults
    assert [record.message for record in caplog.records if record.exc_info] == ["capture failed"], "once"
