"""Capture: where sound comes from. A source is opened, and fills a ring from a thread of its own.

::

    SourceSpec -- open_capture --> Capture -+- stream --> Stream (ring, sample clock, rate, channels)
                                            +- status --> CaptureStatus (state, one line, counts)

Every opening of a source gives a new, immutable `Stream` with a ring of its own; whoever reads takes `Capture.stream`
anew when the ring that it reads is drained. The implementations are `mird.daemon.capture_device`, `capture_file` and
`capture_stdin`.
"""

import time
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from mird.daemon.ring import Ring
from mird.daemon.sample_clock import SampleClock
from mird.daemon.source import SourceSpec, parse_source

__all__ = [
    "BLOCK_S",
    "RING_S",
    "Capture",
    "CaptureState",
    "CaptureStatus",
    "SourceSpec",
    "Stream",
    "new_stream",
    "open_capture",
    "parse_source",
]

RING_S: Final = 8.0
"""Seconds of sound that a ring holds."""

BLOCK_S: Final = 0.01
"""Seconds of sound in one block of a source in real time."""

_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True)
class Stream:
    """One opening of a source.

    Parameters
    ----------
    stream_id : str
        16 hexadecimal digits, new at each opening.
    source : str
        The source's name, made of letters, digits, dot, underscore and hyphen.
    rate_hz : int
        Native rate of the ring.
    channels : tuple of int
        The channels' numbers on the interface, from 1, in the order of the ring's columns.
    ring : Ring
        Where the sound is.
    clock : SampleClock
        When it was captured.
    lossless : bool
        Whether the source waits for the reader (a fast file, stdin). Otherwise time passes, and a reader that is
        overtaken loses sound.
    opened_mono_ns, opened_utc_ns : int
        When sample 0 was captured, as near as was known at the opening, on both clocks.
    """

    stream_id: str
    source: str
    rate_hz: int
    channels: tuple[int, ...]
    ring: Ring
    clock: SampleClock
    lossless: bool
    opened_mono_ns: int
    opened_utc_ns: int

    def mono_ns(self, sample: int) -> int:
        """When a sample was captured, on the clock of ``time.monotonic_ns()``: drift since the opening is corrected."""
        if self.clock.origin_ns is None:
            return self.opened_mono_ns + sample * _NS_PER_S // self.rate_hz
        return self.clock.mono_ns(sample)


class CaptureState(StrEnum):
    """What a source is doing."""

    WAITING = "WAITING"
    """There has been no sound yet: the device is absent, or nothing was written to stdin."""
    LIVE = "LIVE"
    """Sound comes in."""
    STALLED = "STALLED"
    """The stream is open, but nothing comes, or nothing but exact zeros."""
    LOST = "LOST"
    """The device went away; it is looked for again, for ever."""
    ENDED = "ENDED"
    """The file or stdin is at its end, or capture was stopped. What is in the ring can still be read."""


@dataclass(frozen=True)
class CaptureStatus:
    """A moment of a capture.

    Parameters
    ----------
    state : CaptureState
        What it is doing.
    detail : str
        One line for a person: which device, what is missing, what to do.
    n_overflows : int
        Times that the interface said it had lost sound because nobody fetched it.
    n_gaps : int
        Times that sound is known to be missing or damaged.
    n_opens : int
        Streams that have been opened.
    stuck : bool
        A call into the sound system has not returned for a minute. If it never does, only a new process helps.
    """

    state: CaptureState
    detail: str
    n_overflows: int = 0
    n_gaps: int = 0
    n_opens: int = 0
    stuck: bool = False


class Capture(Protocol):
    """A source of sound. One thread calls `start` and `stop`; any thread may read the properties."""

    def start(self) -> None:
        """Begin, on a thread of its own; it returns at once.

        Raises
        ------
        SourceError
            If the source was found to be unusable.
        """

    def stop(self) -> None:
        """End the thread and close the ring. It may be called more than once, and without `start`."""

    @property
    def stream(self) -> Stream | None:
        """The newest stream; None as long as there is none, and while a device is lost."""

    @property
    def status(self) -> CaptureStatus:
        """What the source is doing now."""


def new_stream(
    source: str, rate_hz: int, channels: tuple[int, ...], ring: Ring, clock: SampleClock, *, lossless: bool
) -> Stream:
    """Stream of what has just been opened, with an identity of its own.

    Parameters
    ----------
    source, rate_hz, channels, ring, clock, lossless
        As in `Stream`. Sample 0 dates from the clock's origin, or from now if there has been no block yet.
    """
    mono_ns, utc_ns = time.monotonic_ns(), time.time_ns()
    opened_mono_ns = mono_ns if clock.origin_ns is None else clock.origin_ns
    return Stream(
        stream_id=uuid.uuid4().hex[:16],
        source=source,
        rate_hz=rate_hz,
        channels=channels,
        ring=ring,
        clock=clock,
        lossless=lossless,
        opened_mono_ns=opened_mono_ns,
        opened_utc_ns=utc_ns - (mono_ns - opened_mono_ns),
    )


def open_capture(spec: SourceSpec) -> Capture:
    """Capture of a source. It does not run before `start`.

    A file is opened and its first block decoded here. For a device, the inputs are listed once, in another process.

    Raises
    ------
    SourceError
        If the file cannot be used, stdin is no stream of sound, or a channel is asked for that the source does not
        have. A missing device is no error: it is waited for.
    """
    if spec.kind == "device":
        from mird.daemon.capture_device import DeviceCapture

        return DeviceCapture(spec)
    if spec.kind == "file":
        from mird.daemon.capture_file import FileCapture

        return FileCapture(spec)
    from mird.daemon.capture_stdin import StdinCapture

    return StdinCapture(spec)
