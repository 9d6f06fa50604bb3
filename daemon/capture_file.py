"""FileCapture: a recording, in real time as if it were played into the machine, or as fast as it is read."""

import logging
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from mird.daemon.capture import BLOCK_S, RING_S, CaptureState, CaptureStatus, Stream, new_stream
from mird.daemon.errors import SourceError
from mird.daemon.ring import Ring
from mird.daemon.sample_clock import SampleClock
from mird.daemon.source import SourceSpec, select_channels, shown, topic_name

_FAST_BLOCK: Final = 1024
_WAIT_S: Final = 0.5
# libsndfile's log says so of a WAV, AIFF or Wave64 file with less in it than its header declares.
_SHORT_CHUNK: Final = re.compile(r"^ *(?:data|SSND|riff) : (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_LENGTH: Final = 0x7FFF_0000

_log = logging.getLogger(__name__)


class FileCapture:
    """Capture from any file that libsndfile reads.

    A thread of its own ("mird-file") writes the ring. In real time, the block that ends with sample n is written
    n / rate seconds after the start, on the monotonic clock, so nothing drifts; a reader that is overtaken loses
    sound, as with a device. Fast, the thread waits for the reader, and nothing is lost.

    Parameters
    ----------
    spec : SourceSpec
        Of kind "file".

    Raises
    ------
    SourceError
        If the file is missing, not a file, empty, no audio, or damaged so that not even a block can be read, or if it
        does not have a channel that is asked for.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._path = Path(spec.argument)
        self._shown = shown(self._path)
        with _open(self._path) as sound:
            self._rate_hz: int = sound.samplerate
            self._n_declared: int = sound.frames
            self._n_missing = _missing_bytes(sound.extra_info)
            if not any(len(block) for block in _blocks(sound, 1)):
                raise SourceError(
                    f"{self._shown} is damaged from its beginning or holds no sound: nothing can be read of it; "
                    "export it again"
                )
            self._channels = select_channels(spec, sound.channels, self._shown)
        self._n_block = _FAST_BLOCK if spec.fast else round(BLOCK_S * self._rate_hz)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._stream: Stream | None = None
        self._status = CaptureStatus(CaptureState.WAITING, f"{self._shown} is ready")

    def start(self) -> None:
        """Begin to read: sample 0 sounds now."""
        self._stream = new_stream(
            self._spec.name or topic_name(self._path.name),
            self._rate_hz,
            self._channels,
            Ring(round(RING_S * self._rate_hz), len(self._channels)),
            SampleClock(self._rate_hz),
            lossless=self._spec.fast,
        )
        self._status = replace(self._status, state=CaptureState.LIVE, detail=self._live(), n_opens=1)
        self._thread = threading.Thread(target=self._run, args=(self._stream,), name="mird-file", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, wherever in the file it is."""
        self._stop.set()
        if self._stream is not None:
            self._stream.ring.close()
        if self._thread is not None:
            self._thread.join()

    @property
    def stream(self) -> Stream | None:
        """The stream; None before `start`."""
        return self._stream

    @property
    def status(self) -> CaptureStatus:
        """What it is doing now."""
        return self._status

    def _run(self, stream: Stream) -> None:
        detail = ""
        try:
            while True:
                n_before = stream.ring.n_written
                detail = self._play(stream)
                if detail:
                    self._status = replace(self._status, n_gaps=self._status.n_gaps + 1, detail=detail)
                if self._stop.is_set() or not self._spec.loop or stream.ring.n_written == n_before:
                    break
        except SourceError as error:  # it was replaced or removed between two rounds
            detail = str(error)
        except Exception as error:  # noqa: BLE001 - else nobody would ever be told that the sound has ended
            _log.error("reading failed", exc_info=error)
            detail = f"{self._shown}: a fault in mird: {type(error).__name__}: {error}"
            self._status = replace(self._status, n_gaps=self._status.n_gaps + 1)
        stream.ring.close()
        detail = detail or (f"{self._shown} was stopped" if self._stop.is_set() else f"{self._shown} is at its end")
        self._status = replace(self._status, state=CaptureState.ENDED, detail=detail)

    def _play(self, stream: Stream) -> str:
        """Write the file once; what was wrong with it, or nothing."""
        columns = np.array(self._channels, np.intp) - 1
        n_played, n_replaced = 0, 0
        with _open(self._path) as sound:
            if (sound.samplerate, sound.channels) != (self._rate_hz, max(sound.channels, *self._channels)):
                raise SourceError(f"{self._shown} was replaced by a file with another rate or fewer channels")
            for block in _blocks(sound, self._n_block):
                finite = np.isfinite(block)
                if not finite.all():
                    n_replaced += int(finite.size - np.count_nonzero(finite))
                    block[~finite] = 0.0
                if not self._wait(stream, len(block)):
                    return ""
                stream.ring.write(block[:, columns])
                if not self._spec.fast:  # else there is no time but the recording's own, from the opening on
                    stream.clock.mark(stream.ring.n_written, time.monotonic_ns())
                n_played += len(block)
        if n_played < self._n_declared or self._n_missing:
            n_declared = max(self._n_declared, n_played)
            return (
                f"{self._shown} is cut short or damaged: {n_played / self._rate_hz:.2f} s could be read"
                + (f" of {n_declared / self._rate_hz:.2f} s" if n_declared > n_played else "")
                + (f", {self._n_missing} bytes are missing" if self._n_missing else "")
                + "; what there is was used: copy or export it again"
            )
        if n_replaced:
            return f"{self._shown} holds {n_replaced} samples that are no finite numbers; they were taken as 0"
        return ""

    def _wait(self, stream: Stream, n: int) -> bool:
        """Wait until a block of `n` frames may be written; False if capture is being stopped."""
        if self._spec.fast:
            while not stream.ring.wait_for_space(n, _WAIT_S):
                if self._stop.is_set():
                    return False
            return not self._stop.is_set()
        due_ns = stream.opened_mono_ns + (stream.ring.n_written + n) * 1_000_000_000 // self._rate_hz
        return not self._stop.wait(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))

    def _live(self) -> str:
        pace = "as fast as it is read" if self._spec.fast else "in real time"
        return f"{self._shown}, {self._n_declared / self._rate_hz:.1f} s at {self._rate_hz} Hz, {pace}"


def _open(path: Path) -> soundfile.SoundFile:
    """Open a recording, or say in one line why not."""
    name = shown(path)
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
        if stat.S_ISDIR(mode):
            raise SourceError(f"{name} is a folder: name one audio file in it")
        if not stat.S_ISREG(mode):
            raise SourceError(f"{name} is no regular file: pipe raw PCM into --source stdin instead")
        if size == 0:
            raise SourceError(f"{name} is empty: there is no sound in it")
        path.open("rb").close()
    except FileNotFoundError:
        raise SourceError(f"{name} does not exist: check the path") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        sound = soundfile.SoundFile(os.fsencode(path))  # of text it takes UTF-8 alone, and not every name is that
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        raise SourceError(
            f"{name} is no audio file that can be read, or is damaged ({reason}): convert it to WAV or FLAC"
        ) from None
    except TypeError:  # libsndfile knows the suffix of a format without a header
        raise SourceError(
            f"{name} has no header that tells its rate and channels: convert it to WAV or FLAC, "
            "or pipe it into --source stdin"
        ) from None
    if not 1_000 <= sound.samplerate <= 768_000:
        sound.close()
        raise SourceError(f"{name} says it has a rate of {sound.samplerate} Hz: outside 1000 to 768000 Hz; convert it")
    return sound


def _blocks(sound: soundfile.SoundFile, n_block: int) -> Iterator[NDArray[np.float32]]:
    """Blocks of a file up to its end, or to where it is damaged; a block is overwritten by the next."""
    block = np.empty((n_block, sound.channels), np.float32)
    while True:
        try:
            read = sound.read(out=block)
        except soundfile.LibsndfileError:
            return
        if len(read) == 0:
            return
        yield read


def _missing_bytes(log: str) -> int:
    """Bytes that a file should have according to its header and does not; 0 where the header leaves it open."""
    missing = [
        int(declared) - int(there) for declared, there in _SHORT_CHUNK.findall(log) if int(declared) < _UNKNOWN_LENGTH
    ]
    return max(0, *missing, 0)
