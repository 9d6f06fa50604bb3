"""Raw PCM through a pipe: formats, broken frames, an end that never comes, a writer that is too fast."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.conftest import quickest

from mird.daemon.capture import CaptureState, SourceSpec, Stream
from mird.daemon.capture_stdin import StdinCapture
from mird.daemon.errors import SourceError
from mird.daemon.source import SampleFormat

SPEC = SourceSpec("stdin", rate_hz=48_000, n_channels=2, sample_format="s16le")


class Pipe:
    """A pipe whose read end a capture takes for stdin."""

    def __init__(self) -> None:
        self.read_end, self._write_end = os.pipe()
        self._open = True

    def send(self, data: bytes, last: bool = False) -> None:
        """Write everything, as far as the reader takes it, and end the pipe if it was the last."""
        while data:
            data = data[os.write(self._write_end, data) :]
        if last:
            self.end()

    def end(self) -> None:
        if self._open:
            os.close(self._write_end)
            self._open = False


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ends = Pipe()
    yield ends
    ends.end()
    os.close(ends.read_end)


def streamed(capture: StdinCapture, timeout_s: float = 30.0) -> Stream:
    deadline_s = time.monotonic() + timeout_s
    while capture.stream is None:
        assert time.monotonic() < deadline_s, capture.status.detail
        time.sleep(0.002)
    return capture.stream


def awaited(capture: StdinCapture, state: CaptureState, timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while capture.status.state is not state:
        assert time.monotonic() < deadline_s, capture.status
        time.sleep(0.005)


def drained(stream: Stream) -> NDArray[np.float32]:
    blocks = []
    while not stream.ring.drained:
        stream.ring.wait_for_data(1_000, 1.0)
        chunk = stream.ring.read(5_000)
        assert chunk.n_lost == 0
        blocks.append(chunk.samples)
    return np.concatenate(blocks)


def encoded(sound: NDArray[np.float64], sample_format: SampleFormat) -> bytes:
    """Interleaved little-endian PCM, full scale 1."""
    if sample_format == "f32le":
        return sound.astype("<f4").tobytes()
    if sample_format == "f64le":
        return sound.astype("<f8").tobytes()
    if sample_format == "u8":
        return np.round(sound * 128 + 128).astype(np.uint8).tobytes()
    n_bits = {"s16le": 16, "s24le": 24, "s32le": 32}[sample_format]
    whole = np.round(sound * 2.0 ** (n_bits - 1)).astype("<i8")
    return whole.reshape(-1, 1).view(np.uint8).reshape(-1, 8)[:, : n_bits // 8].tobytes()


@pytest.mark.parametrize(
    ("sample_format", "step"),
    [("u8", 2**-8), ("s16le", 2**-16), ("s24le", 2**-24), ("s32le", 2**-24), ("f32le", 2**-25), ("f64le", 2**-25)],
)
def test_every_format_is_read_to_its_last_bit(pipe: Pipe, sample_format: SampleFormat, step: float) -> None:
    generator = np.random.default_rng(5)
    sound = generator.uniform(-0.99, 0.99, (1_000, 2))
    sound[:2] = [[-1.0, 0.0], [0.5, -0.5]]
    capture = StdinCapture(replace(SPEC, sample_format=sample_format), pipe.read_end)
    capture.start()
    pipe.send(encoded(sound, sample_format))
    pipe.end()
    taken = drained(streamed(capture))
    capture.stop()
    np.testing.assert_allclose(taken, sound, atol=1.01 * step)
    assert taken[0, 0] == -1.0
    assert (capture.status.state, capture.status.n_gaps) == (CaptureState.ENDED, 0)


def test_frames_that_arrive_in_pieces_are_put_together(pipe: Pipe) -> None:
    sound = np.random.default_rng(5).uniform(-0.9, 0.9, (500, 2))
    data = encoded(sound, "s24le")
    capture = StdinCapture(replace(SPEC, sample_format="s24le"), pipe.read_end)
    capture.start()
    for start in range(0, len(data), 7):
        pipe.send(data[start : start + 7])
    pipe.end()
    np.testing.assert_allclose(drained(streamed(capture)), sound, atol=2**-23)
    capture.stop()


def test_a_truncated_last_frame_is_reported(pipe: Pipe) -> None:
    capture = StdinCapture(SPEC, pipe.read_end)
    capture.start()
    pipe.send(bytes(4 * 100 + 3))
    pipe.end()
    assert len(drained(streamed(capture))) == 100
    capture.stop()
    assert capture.status.n_gaps == 1
    assert "last frame has 3 of 4 bytes" in capture.status.detail


def test_only_the_selected_channels_enter_the_ring(pipe: Pipe) -> None:
    capture = StdinCapture(replace(SPEC, n_channels=3, channels=(3, 1)), pipe.read_end)
    capture.start()
    pipe.send(np.array([[1, 2, 3], [4, 5, 6]], "<i2").tobytes())
    pipe.end()
    stream = streamed(capture)
    np.testing.assert_array_equal(drained(stream) * 2**15, [[3, 1], [6, 4]])
    capture.stop()
    assert (stream.source, stream.rate_hz, stream.channels, stream.lossless) == ("stdin", 48_000, (3, 1), True)


def test_a_fast_writer_waits_and_nothing_is_lost(pipe: Pipe) -> None:
    sound = np.random.default_rng(5).uniform(-0.9, 0.9, (20 * 48_000, 2))
    data = encoded(sound, "s16le")
    capture = StdinCapture(SPEC, pipe.read_end)
    capture.start()
    writer = threading.Thread(target=pipe.send, args=(data, True))
    writer.start()
    stream = streamed(capture)
    assert stream.ring.wait_for_data(stream.ring.n_frames - 20_000, 30.0), "it fills up and waits"
    taken = drained(stream)
    writer.join(30.0)
    capture.stop()
    assert taken.shape == sound.shape
    np.testing.assert_allclose(taken, sound, atol=2**-15)


def test_it_waits_goes_live_and_stalls(pipe: Pipe) -> None:
    capture = StdinCapture(SPEC, pipe.read_end)
    capture.start()
    assert (capture.status.state, capture.stream) == (CaptureState.WAITING, None)
    before_ns = time.monotonic_ns()
    pipe.send(bytes(4 * 480))
    stream = streamed(capture)
    arrived_ns = stream.opened_mono_ns + 10_000_000
    assert before_ns <= arrived_ns <= time.monotonic_ns(), "sample 0 dates from before its arrival"
    awaited(capture, CaptureState.STALLED)
    pipe.send(bytes(4 * 480))
    assert stream.ring.wait_for_data(960, 30.0)
    awaited(capture, CaptureState.LIVE)
    assert capture.stream is stream
    capture.stop()
    assert stream.ring.closed


def test_stop_ends_it_while_nothing_comes_and_while_nobody_reads(pipe: Pipe) -> None:
    def idle_s() -> float:
        capture = StdinCapture(SPEC, pipe.read_end)
        capture.stop()
        capture.start()
        began_s = time.monotonic()
        capture.stop()
        capture.stop()
        return time.monotonic() - began_s

    def blocked_s() -> float:
        writer = threading.Thread(target=pipe.send, args=(bytes(4 * 48_000 * 20),), daemon=True)
        blocked = StdinCapture(SPEC, pipe.read_end)
        blocked.start()
        writer.start()
        stream = streamed(blocked)
        assert stream.ring.wait_for_data(stream.ring.n_frames - 20_000, 30.0)
        began_s = time.monotonic()
        blocked.stop()
        took_s = time.monotonic() - began_s
        os.set_blocking(pipe.read_end, False)
        while writer.is_alive():
            with suppress(BlockingIOError):
                os.read(pipe.read_end, 1 << 20)
            writer.join(0.001)
        return took_s

    assert quickest(idle_s, 0.5) < 0.5
    assert quickest(blocked_s, 0.5) < 0.5


def test_no_sound_at_all_is_said(pipe: Pipe) -> None:
    capture = StdinCapture(SPEC, pipe.read_end)
    capture.start()
    pipe.end()
    awaited(capture, CaptureState.ENDED)
    assert (capture.stream, capture.status.n_opens) == (None, 0)
    assert "before any sound came" in capture.status.detail
    capture.stop()


def test_numbers_that_are_none_become_zero(pipe: Pipe) -> None:
    capture = StdinCapture(replace(SPEC, n_channels=1, sample_format="f64le"), pipe.read_end)
    capture.start()
    pipe.send(np.array([0.5, np.nan, 1e300], "<f8").tobytes())
    pipe.end()
    np.testing.assert_array_equal(drained(streamed(capture))[:, 0], [0.5, 0.0, 0.0])
    capture.stop()
    assert "2 samples" in capture.status.detail


def test_what_cannot_be_sound_is_refused(pipe: Pipe) -> None:
    with pytest.raises(SourceError, match="set its rate and channels"):
        StdinCapture(SourceSpec("stdin"), pipe.read_end)
    with pytest.raises(SourceError, match="channel 3 does not exist: stdin has 2"):
        StdinCapture(replace(SPEC, channels=(3,)), pipe.read_end)
    with pytest.raises(SourceError, match="stdin is closed"):
        StdinCapture(SPEC, 9_999)
    terminal, other_end = os.openpty()
    with pytest.raises(SourceError, match="stdin is a terminal"):
        StdinCapture(SPEC, other_end)
    os.close(terminal)
    os.close(other_end)


def test_a_fault_of_our_own_ends_the_stream_and_is_told(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    capture = StdinCapture(replace(SPEC, n_channels=1), pipe.read_end)
    capture.start()
    pipe.send(bytes(4_000))
    stream = streamed(capture)
    monkeypatch.setattr(capture, "_channels", None)
    pipe.send(bytes(4_000))
    awaited(capture, CaptureState.ENDED)
    assert stream.ring.closed
    assert "a fault in mird: TypeError" in capture.status.detail
    assert capture.status.n_gaps == 1
    assert "Traceback" in caplog.text
    capture.stop()
