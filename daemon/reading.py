"""A moment of a running daemon: what its metrics show. Taken when somebody asks, from any thread, out of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from mird.daemon.capture import Capture, CaptureStatus
from mird.daemon.clip_store import ClipStore
from mird.daemon.control import ControlServer
from mird.daemon.decision import SILENCE
from mird.daemon.progress import Progress, Series
from mird.daemon.publisher import Publisher
from mird.daemon.support_store import SupportStore
from mird.kernels.recognizer import Recognizer

CLIP_COUNTERS: Final = ("n_clips", "n_clips_dropped", "n_clips_removed")


@dataclass(frozen=True)
class ChannelReading:
    """One channel: its number, its level in dBFS as the silence gate sees it, and whether that is open."""

    channel: int
    level_dbfs: float
    is_open: bool


@dataclass(frozen=True)
class Reading:
    """A moment of a daemon.

    Attributes
    ----------
    info : Mapping[str, str]
        Version, engine, fingerprint.
    state : str
        As in the ``state`` message.
    counters : Mapping[str, int]
        By name, such as ``n_hops``; see `mird.daemon.metrics.COUNTERS`.
    gauges : Mapping[str, float]
        By name; see `mird.daemon.metrics.GAUGES`.
    channels : sequence of ChannelReading
    stages : Mapping[str, Series]
        By the names of `mird.daemon.progress.STAGES`.
    """

    info: Mapping[str, str]
    state: str
    counters: Mapping[str, int]
    gauges: Mapping[str, float]
    channels: Sequence[ChannelReading]
    stages: Mapping[str, Series]


class Reader:
    """Takes readings of a daemon, from any thread.

    Parameters
    ----------
    capture : Capture
    recognizer : Recognizer
        Whose card, name and state are read, nothing else.
    store : SupportStore
    publisher : Publisher
    control : ControlServer
    progress : Progress
    clips : ClipStore, optional
    """

    def __init__(
        self,
        capture: Capture,
        recognizer: Recognizer,
        store: SupportStore,
        publisher: Publisher,
        control: ControlServer,
        progress: Progress,
        clips: ClipStore | None = None,
    ) -> None:
        self._capture = capture
        self._recognizer = recognizer
        self._store = store
        self._publisher = publisher
        self._control = control
        self._progress = progress
        self._clips = clips

    def __call__(self) -> Reading:
        """A reading of now."""
        status, stream, snapshot = self._capture.status, self._capture.stream, self._store.snapshot
        progress, card, clips = self._progress, self._recognizer.card, self._clips
        return Reading(
            info={
                "version": version("mird"),
                "engine": f"{self._recognizer.name}: {card.name}",
                "fingerprint": card.fingerprint,
            },
            state=str(status.state),
            counters={
                **count(progress, status),
                "n_published": self._publisher.n_published,
                "n_unsendable": self._publisher.n_unsendable,
                "n_requests": self._control.n_requests,
                "n_refused": self._control.n_refused,
                "n_replies_dropped": self._control.n_replies_dropped,
                "n_shut_out": self._publisher.n_shut_out + self._control.n_shut_out,
                **({name: getattr(clips, name) for name in CLIP_COUNTERS} if clips else {}),
            },
            gauges={
                "uptime_seconds": progress.uptime_s,
                "degraded": progress.degraded or self._recognizer.degraded,
                "queue_seconds": stream.ring.n_unread / stream.rate_hz if stream else 0.0,
                "subscribers": self._publisher.n_subscribers,
                "classes": len(snapshot.prototypes.names),
                "support_revision": snapshot.revision,
                **({"clip_store_bytes": clips.n_bytes, "clip_store_files": clips.n_files} if clips else {}),
            },
            channels=[
                ChannelReading(channel, frame.level_dbfs, frame.label != SILENCE)
                for channel, frame in sorted(progress.newest.copy().items())
            ],
            stages=progress.stages,
        )


def count(progress: Progress, status: CaptureStatus) -> dict[str, int]:
    """A daemon's counters so far; the capture's own are added to those of the ring."""
    counters = progress.counters.copy()
    counters["n_overflows"] = status.n_overflows
    counters["n_gaps"] += status.n_gaps
    counters["n_opens"] = status.n_opens
    return counters
