"""PortAudio's capture, from a PulseAudio null sink: sound, channels, absence, loss, return, and a server that hangs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
import soundfile
from numpy.typing import NDArray
from tests.conftest import quickest

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


def awaited(capture: Capture, condition: Callable[[Capture], bool], timeout_s: float = 60.0) -> float:
    """Wait until something holds of a capture; the seconds that it took."""
    began_s = time.monotonic()
    while not condition(capture):
        assert time.monotonic() - began_s < timeout_s, capture.status
        time.sleep(0.005)
    return time.monotonic() - began_s


def streamed(capture: Capture, after: Stream | None = None) -> Stream:
    """The stream, as soon as there is one, and another than before."""
    awaited(capture, lambda capture: capture.stream not in (None, after))
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
    assert stream.ring.wait_for_data(n, 30.0)
    chunk = stream.ring.read(n)
    assert chunk.n_lost == 0
    return chunk.samples


def pitch_hz(samples: NDArray[np.float32]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * RATE_HZ / len(samples)


def test_what_is_played_comes_in_channel_by_channel(null_sink: "NullSink", tmp_path: Path) -> None:
    path = tones(tmp_path / "tones.wav", 60.0, 440.0, 1_000.0)
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
    path = tones(tmp_path / "tones.wav", 60.0, 440.0, 1_000.0)
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

        def behind_s() -> float:
            n_written = stream.ring.n_written
            seconds = (time.monotonic_ns() - stream.mono_ns(n_written)) / 1e9
            assert seconds > -0.02
            return seconds

        awaited(capture, lambda _: behind_s() < 0.1)
        opened_s = (stream.mono_ns(0) - stream.opened_mono_ns) / 1e9
        assert abs(opened_s) < 0.1
        assert abs((time.time_ns() - time.monotonic_ns()) - (stream.opened_utc_ns - stream.opened_mono_ns)) < 50_000_000
        assert capture.status.n_gaps == 0


def test_exact_zeros_are_a_fault_until_sound_comes(null_sink: "NullSink", tmp_path: Path) -> None:
    with running() as capture:
        awaited(capture, is_in(CaptureState.STALLED))
        assert "exact zeros" in capture.status.detail
        with null_sink.playing(tones(tmp_path / "tone.wav", 60.0, 440.0)):
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
    opened: list[Stream] = []
    with running() as capture:

        def loss_s() -> float:
            if opened:
                null_sink.start()
            opened.append(streamed(capture, *opened[-1:]))
            awaited(capture, is_in(CaptureState.LIVE, CaptureState.STALLED))
            null_sink.kill()
            return awaited(capture, is_in(CaptureState.LOST))

        assert quickest(loss_s, 2.0) < 2.0
        first = opened[-1]
        awaited(capture, lambda capture: capture.stream is None)
        awaited(capture, lambda _: first.ring.closed)
        awaited(capture, lambda capture: "Inputs that exist: none" in capture.status.detail)
        assert capture.status.state is CaptureState.LOST
        null_sink.start()
        second = streamed(capture)
        assert second.stream_id != first.stream_id
        assert second.ring is not first.ring
        assert second.opened_mono_ns > first.opened_mono_ns
        awaited(capture, is_in(CaptureState.LIVE, CaptureState.STALLED))
        assert capture.status.n_opens == len(opened) + 1


def test_a_server_that_hangs_is_noticed_and_does_not_hang_us(null_sink: "NullSink") -> None:
    opened: list[Stream] = []
    with running() as capture:

        def loss_s() -> float:
            opened.append(streamed(capture, *opened[-1:]))
            awaited(capture, is_in(CaptureState.LIVE, CaptureState.STALLED))
            os.kill(null_sink.pid, signal.SIGSTOP)
            try:
                took_s = awaited(capture, is_in(CaptureState.LOST))
                assert "nothing came" in capture.status.detail
            finally:
                os.kill(null_sink.pid, signal.SIGCONT)
            return took_s

        assert quickest(loss_s, 2.0) < 2.0
        second = streamed(capture, opened[-1])
        assert second.stream_id != opened[-1].stream_id


def test_a_server_that_pauses_is_waited_for_and_nothing_is_lost(null_sink: "NullSink", tmp_path: Path) -> None:
    with running() as capture, null_sink.playing(tones(tmp_path / "tone.wav", 100.0, 440.0)):

        def outlives() -> bool:
            stream = streamed(capture)
            awaited(capture, is_in(CaptureState.LIVE))
            awaited(capture, lambda _: bool(stream.ring.latest(441).samples.any()))
            before = capture.status
            os.kill(null_sink.pid, signal.SIGSTOP)
            try:
                awaited(capture, lambda capture: "nothing came for" in capture.status.detail)
                paused = capture.status
            finally:
                os.kill(null_sink.pid, signal.SIGCONT)
            awaited(capture, is_in(CaptureState.LIVE))
            if capture.stream is not stream:
                return False
            assert paused.state is CaptureState.STALLED
            assert "nothing came for half a second" in paused.detail
            assert (capture.status.n_opens, capture.status.n_gaps) == (before.n_opens, before.n_gaps)
            return True

        assert any(outlives() for _ in range(3)), "a machine that is slow itself makes the pause too long"


WATCHER = """
import time
from mird.daemon.capture import SourceSpec, open_capture

capture = open_capture(SourceSpec("device"))
capture.start()
while True:
    stream = capture.stream
    print(capture.status.n_opens, stream.ring.n_written if stream else 0, flush=True)
    time.sleep(0.05)
"""


def test_a_pause_of_our_own_process_is_no_loss_of_the_device(null_sink: "NullSink") -> None:
    with subprocess.Popen([sys.executable, "-c", WATCHER], stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        told = (tuple(map(int, line.split())) for line in watcher.stdout)

        def reopens() -> bool:
            n_opens, n_written = next((n_opens, n_written) for n_opens, n_written in told if n_written)
            for pid in (null_sink.pid, watcher.pid):
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.1)
            time.sleep(2.0)
            for pid in (watcher.pid, null_sink.pid):  # so it looks at the device before a block can have come
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.2)
            return next(
                now_opens > n_opens
                for now_opens, now_written in told
                if now_opens > n_opens or now_written > n_written + 5 * RATE_HZ
            )

        try:
            assert not all(reopens() for _ in range(3)), "on a slow machine the block may come too late"
        finally:
            watcher.kill()


def test_a_call_that_does_not_return_is_told_of_until_it_does(
    null_sink: "NullSink", monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("_OPENING_S", 0.5), ("_STUCK_S", 1.0)):
        monkeypatch.setattr(f"mird.daemon.capture_device.{name}", seconds)
    with running() as capture:
        first = streamed(capture)
        os.kill(null_sink.pid, signal.SIGSTOP)
        try:
            awaited(capture, lambda capture: capture.status.stuck)
            assert capture.status.state is CaptureState.LOST
            assert "'default' has not closed for" in capture.status.detail
            assert "restart PulseAudio or PipeWire" in capture.status.detail
        finally:
            os.kill(null_sink.pid, signal.SIGCONT)
        streamed(capture, first)
        awaited(capture, is_in(CaptureState.LIVE, CaptureState.STALLED))
        assert not capture.status.stuck


def test_stop_does_not_wait_for_a_server_that_hangs(null_sink: "NullSink") -> None:
    def stopping_s() -> float:
        capture = open_capture(SourceSpec("device"))
        capture.start()
        streamed(capture)
        os.kill(null_sink.pid, signal.SIGSTOP)
        try:
            began_s = time.monotonic()
            capture.stop()
            capture.stop()
            return time.monotonic() - began_s
        finally:
            os.kill(null_sink.pid, signal.SIGCONT)

    assert quickest(stopping_s, 2.0) < 2.0


def searches() -> list[psutil.Process]:
    """The processes of ours that look for devices."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has just ended
            if "mird.daemon.device_probe" in child.cmdline():
                found.append(child)
    return found


def test_stop_does_not_wait_for_a_search_that_hangs(null_sink: "NullSink") -> None:
    def stopping_s() -> float:
        capture = open_capture(SourceSpec("device", "no such device"))
        os.kill(null_sink.pid, signal.SIGSTOP)
        try:
            capture.start()
            awaited(capture, lambda _: bool(searches()))
            began_s = time.monotonic()
            capture.stop()
            return time.monotonic() - began_s
        finally:
            os.kill(null_sink.pid, signal.SIGCONT)
            capture.stop()
            psutil.wait_procs(searches(), 30.0)

    assert quickest(stopping_s, 3.0) < 3.0


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
