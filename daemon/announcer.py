"""What a daemon says of itself to subscribers, systemd and the log: its state on each change, a beat each second."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace
from importlib.metadata import version
from typing import Final

from mird.daemon.capture import CaptureState, CaptureStatus, Stream
from mird.daemon.messages import MAX_LABELS, Heartbeat, State
from mird.daemon.notify import Notifier
from mird.daemon.progress import CAPTURE_TO_PUBLISH, Progress
from mird.daemon.publisher import Publisher
from mird.daemon.reading import count
from mird.daemon.support_store import Snapshot, SupportStore
from mird.kernels.recognizer import Recognizer

HEARTBEAT_S: Final = 1.0

_log = logging.getLogger(__name__)


class Announcer:
    """Says what the source and the engine are doing. The processing thread owns it.

    Parameters
    ----------
    recognizer : Recognizer
        Whose card, name and state are read, nothing else.
    store : SupportStore
    publisher : Publisher
    notifier : Notifier
    progress : Progress
    hop_s : float
        Time from one frame to the next.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        store: SupportStore,
        publisher: Publisher,
        notifier: Notifier,
        progress: Progress,
        hop_s: float,
    ) -> None:
        self._recognizer = recognizer
        self._store = store
        self._publisher = publisher
        self._notifier = notifier
        self._progress = progress
        self._hop_s = hop_s
        self._version = version("mird")  # once: it is read from the disk
        self._told: tuple[CaptureStatus, bool, str] | None = None
        self._told_snapshot: Snapshot | None = None
        self._logged = ""
        self._beat_s = float("-inf")

    def tell(self, source: str, stream: Stream | None, status: CaptureStatus) -> None:
        """Announce the state where anything in it is other than what was announced last."""
        snapshot, told = self._store.snapshot, (status, self._degraded, self._recognizer.name)
        if told != self._told or snapshot is not self._told_snapshot:
            self._told, self._told_snapshot = told, snapshot
            self._announce(source, stream, status, snapshot)

    def end(self, source: str, stream: Stream | None, status: CaptureStatus) -> None:
        """Announce the end, where it is not known yet, and give the last heartbeat."""
        if self._told is None or self._told[0].state is not CaptureState.ENDED:
            self.tell(source, stream, replace(status, state=CaptureState.ENDED, detail="mird was told to stop"))
        self._beat(source, stream, status)

    def beat(self, source: str, stream: Stream | None, status: CaptureStatus) -> bool:
        """Give a heartbeat if it is time for one; whether it was."""
        due = time.monotonic() - self._beat_s >= HEARTBEAT_S
        if due:
            self._beat_s = time.monotonic()
            self._beat(source, stream, status)
            if self._told is not None:
                self._notifier.status(_line(self._told[0]))  # again: systemd may have been too busy to take it
        return due

    @property
    def _degraded(self) -> bool:
        return self._progress.degraded or self._recognizer.degraded

    def _announce(self, source: str, stream: Stream | None, status: CaptureStatus, snapshot: Snapshot) -> None:
        line = _line(status)
        if (logged := re.sub(r"\d+", "", line)) != self._logged:  # what differs in a number of seconds is told once
            self._logged = logged
            troubled = status.state in (CaptureState.STALLED, CaptureState.LOST)
            _log.log(logging.WARNING if troubled else logging.INFO, "%s", line)
        self._notifier.status(line)
        card = self._recognizer.card
        self._publisher.publish(
            State(
                source=source,
                channel=0,
                stream_id=stream.stream_id if stream else "",
                state=str(status.state),
                detail=status.detail,
                version=self._version,
                engine=f"{self._recognizer.name}: {card.name}",
                fingerprint=card.fingerprint,
                classes=snapshot.prototypes.names[:MAX_LABELS],
                revision=snapshot.revision,
                channels=stream.channels if stream else (),
                hop_s=self._hop_s,
                window_s=card.front_end.window_s,
                counters=count(self._progress, status),
                degraded=self._degraded,
            )
        )

    def _beat(self, source: str, stream: Stream | None, status: CaptureStatus) -> None:
        p50_s, p99_s = self._progress.stages[CAPTURE_TO_PUBLISH].quantiles_s() or (None, None)
        self._publisher.publish(
            Heartbeat(
                source=source,
                channel=0,
                stream_id=stream.stream_id if stream else "",
                uptime_s=self._progress.uptime_s,
                counters=count(self._progress, status),
                latency_p50_ms=None if p50_s is None else 1000 * p50_s,
                latency_p99_ms=None if p99_s is None else 1000 * p99_s,
                degraded=self._degraded,
            )
        )


def _line(status: CaptureStatus) -> str:
    """What a person reads of it."""
    return f"{status.state}: {status.detail}"
