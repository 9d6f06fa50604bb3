"""StdinCapture: raw PCM that another program pipes in."""

import logging
import os
import select
import stat
import threading
import time
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mird.daemon.capture import RING_S, CaptureState, CaptureStatus, Stream, new_stream
from mird.daemon.errors import SourceError
from mird.daemon.ring import Ring
from mird.daemon.sample_clock import SampleClock
from mird.daemon.source import SampleFormat, SourceSpec, select_channels

_READ_BYTES: Final = 65_536
_STALLED_S: Final = 1.5
_WAIT_S: Final = 0.5
_N_BYTES: Final[dict[SampleFormat, int]] = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4, "f64le": 8}

_log = logging.getLogger(__name__)


class StdinCapture:
    """Capture from standard input, or another file descriptor.

    A thread of its own ("mird-stdin") reads and writes the ring. It waits for the reader, so nothing is lost; the
    program at the other end of the pipe waits in turn. The stream exists from the first block on.

    Parameters
    ----------
    spec : SourceSpec
        Of kind "stdin", with rate, number of channels and format.
    descriptor : int
        What to read; it is not closed.

    Raises
    ------
    SourceError
        If the descriptor is closed or a terminal, the spec does not say what comes, or does not have a channel that is
        asked for.
    """

    def __init__(self, spec: SourceSpec, descriptor: int = 0) -> None:
        if spec.rate_hz is None or spec.n_channels is None:
            raise SourceError("raw PCM on stdin does not say what it is: set its rate and channels")
        self._channels = select_channels(spec, spec.n_channels, "stdin")
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            raise SourceError("stdin is closed: pipe raw PCM into it") from None
        if os.isatty(descriptor) or stat.S_ISDIR(mode):
            raise SourceError("stdin is a terminal: pipe raw PCM into it, or choose another --source")
        self._spec = spec
        self._rate_hz = spec.rate_hz
        self._n_channels = spec.n_channels
        self._descriptor = descriptor
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._stream: Stream | None = None
        self._n_replaced = 0
        self._fault = ""
        self._status = CaptureStatus(CaptureState.WAITING, "stdin is open; waiting for the first samples")
        self._live = f"stdin, {spec.n_channels} x {spec.sample_format} at {spec.rate_hz} Hz"

    def start(self) -> None:
        """Begin to read."""
        self._wake_out, self._wake_in = os.pipe()
        self._thread = threading.Thread(target=self._run, name="mird-stdin", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, also while nothing comes."""
        if self._thread is None or self._stop.is_set():
            return
        self._stop.set()
        os.write(self._wake_in, b"\0")
        if self._stream is not None:
            self._stream.ring.close()
        self._thread.join()
        os.close(self._wake_in)
        os.close(self._wake_out)

    @property
    def stream(self) -> Stream | None:
        """The stream; None before the first samples."""
        return self._stream

    @property
    def status(self) -> CaptureStatus:
        """What it is doing now. ENDED with no stream ever opened means that nothing was piped in."""
        return self._status

    def _run(self) -> None:
        n_frame_bytes = self._n_channels * _N_BYTES[self._spec.sample_format]
        held = b""
        try:
            while (data := self._read()) is not None:
                data = held + data
                n_whole = len(data) - len(data) % n_frame_bytes
                held = data[n_whole:]
                if n_whole and not self._write(_decode(data[:n_whole], self._spec.sample_format, self._n_channels)):
                    break
        except Exception as error:  # noqa: BLE001 - else nobody would ever be told that the sound has ended
            _log.error("reading failed", exc_info=error)
            self._fault = f"a fault in mird: {type(error).__name__}: {error}"
        if self._stream is not None:
            self._stream.ring.close()
        self._end(len(held), n_frame_bytes)

    def _read(self) -> bytes | None:
        """What comes next; None at the end, or if capture is being stopped."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(self._wake_out, select.POLLIN)
        while not (ready := dict(poll.poll(_STALLED_S * 1000))):
            if self._stream is not None:
                detail = f"{self._live}: nothing has come for {_STALLED_S:g} s or more"
                self._status = replace(self._status, state=CaptureState.STALLED, detail=detail)
        if self._stop.is_set() or self._wake_out in ready:
            return None
        try:
            return os.read(self._descriptor, _READ_BYTES) or None
        except OSError as error:
            self._live = f"{self._live}: {error.strerror}"
            return None

    def _write(self, block: NDArray[np.float32]) -> bool:
        """Put a block into the ring as soon as there is room; False if capture is being stopped."""
        now_ns = time.monotonic_ns()
        finite = np.isfinite(block)
        if not finite.all():
            self._n_replaced += int(finite.size - np.count_nonzero(finite))
            block = np.where(finite, block, np.float32(0.0))
        if self._stream is None:
            self._stream = self._opened(len(block), now_ns)
        stream = self._stream
        if self._status.state is not CaptureState.LIVE:
            self._status = replace(self._status, state=CaptureState.LIVE, detail=self._live, n_opens=1)
        while not stream.ring.wait_for_space(len(block), _WAIT_S):
            if self._stop.is_set():
                return False
        stream.ring.write(block[:, np.array(self._channels, np.intp) - 1])
        stream.clock.mark(stream.ring.n_written, now_ns)
        return not self._stop.is_set()

    def _opened(self, n_block: int, now_ns: int) -> Stream:
        clock = SampleClock(self._rate_hz)
        clock.mark(n_block, now_ns)
        n_ring = max(round(RING_S * self._rate_hz), 2 * _READ_BYTES)
        ring = Ring(n_ring, len(self._channels))
        return new_stream(self._spec.name or "stdin", self._rate_hz, self._channels, ring, clock, lossless=True)

    def _end(self, n_held: int, n_frame_bytes: int) -> None:
        n_gaps = self._status.n_gaps
        if self._stop.is_set():
            detail = f"{self._live}: stopped"
        elif self._fault:
            n_gaps += 1
            detail = f"{self._live}: {self._fault}"
        elif self._stream is None and not n_held:
            detail = "stdin ended before any sound came: pipe raw PCM into it"
        elif n_held:
            n_gaps += 1
            detail = (
                f"{self._live}: the last frame has {n_held} of {n_frame_bytes} bytes and was dropped; "
                "are the declared channels and format right?"
            )
        elif self._n_replaced:
            n_gaps += 1
            detail = (
                f"{self._live}: {self._n_replaced} samples were no finite numbers and were taken as 0; "
                "is the declared format right?"
            )
        else:
            detail = f"{self._live}: at its end"
        self._status = replace(self._status, state=CaptureState.ENDED, detail=detail, n_gaps=n_gaps)


def _decode(data: bytes, sample_format: SampleFormat, n_channels: int) -> NDArray[np.float32]:
    """Samples of raw PCM.

    Parameters
    ----------
    data : bytes
        Whole frames, interleaved, little-endian.
    sample_format : SampleFormat
        Full scale of the integers becomes -1 to 1.
    n_channels : int
        Channels of a frame.

    Returns
    -------
    NDArray[float32], shape (n_frames, n_channels)
    """
    if sample_format == "f32le":
        samples = np.frombuffer(data, "<f4").astype(np.float32)
    elif sample_format == "f64le":
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is counted as such
            samples = np.frombuffer(data, "<f8").astype(np.float32)
    elif sample_format == "u8":
        samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0
    elif sample_format == "s16le":
        samples = np.frombuffer(data, "<i2").astype(np.float32) / 2.0**15
    elif sample_format == "s24le":
        widened = np.zeros((len(data) // 3, 4), np.uint8)
        widened[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        samples = widened.view("<i4")[:, 0].astype(np.float32) / 2.0**31
    else:
        samples = (np.frombuffer(data, "<i4") / 2.0**31).astype(np.float32)
    return samples.astype(np.float32, copy=False).reshape(-1, n_channels)
