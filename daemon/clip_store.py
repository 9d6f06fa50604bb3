"""The clip store: the sound behind each event, as FLAC files of a folder with a quota; the oldest go first.

A thread of its own ("mird-clips") copies the sound out of what was heard lately, encodes and writes it. The processing
thread puts a few numbers into a bounded queue, and never waits: where the queue is full, the clip is dropped and
counted, and the event's message names none.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import soundfile

from mird.daemon.errors import SettingsError
from mird.daemon.heard import Heard

LEAD_S: Final = 0.5
"""Sound before an event that is kept with it."""

MOST_S: Final = 10.0
"""Of a longer event, this much of its beginning is kept; of one longer than what is remembered, of its oldest rest."""

N_WAITING: Final = 64
CLOSING_S: Final = 3.0
MAX_LABEL_BYTES: Final = 160
"""Of a label in a file's name, all of which may have 255."""
SUFFIX: Final = ".flac"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """A stretch of sound that is to be kept.

    Attributes
    ----------
    name : str
        The file's.
    title : str
        The class.
    heard : Heard
        Where the sound is.
    channel : int
    first, last : int
        Samples on the clock of `heard`; the last is exclusive.
    """

    name: str
    title: str
    heard: Heard
    channel: int
    first: int
    last: int


class ClipStore:
    """A folder of clips. The processing thread offers, this object's thread writes; any thread reads the numbers.

    Parameters
    ----------
    folder : Path
        Made where it is missing, open to its owner alone. Files of it that do not end in ``.flac`` are left alone.
    quota_mb : int > 0
        Size of all clips together.

    Attributes
    ----------
    n_clips, n_clips_dropped, n_clips_removed : int
        Clips that were written; that were not (too many at once, the sound was gone, or the disk is full); and that
        were removed for the quota.
    n_files, n_bytes : int
        What is in the folder.

    Raises
    ------
    SettingsError
        The folder cannot be made or written to.
    """

    def __init__(self, folder: Path, quota_mb: int) -> None:
        self.folder: Final = folder
        self.n_clips = self.n_clips_dropped = self.n_clips_removed = self.n_files = self.n_bytes = 0
        self._quota = quota_mb * 1_000_000
        self._dropping = threading.Lock()
        self._queue: queue.Queue[Wanted | None] = queue.Queue(N_WAITING)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for partial in folder.glob(f".*{SUFFIX}.partial"):
                partial.unlink()  # of a daemon that was killed
            found = sorted((path.name, path.stat().st_size) for path in folder.glob(f"*{SUFFIX}"))
            probe = folder / f".probe{SUFFIX}.partial"
            probe.touch(mode=0o600)
            probe.unlink()
        except OSError as error:
            raise SettingsError(
                f"clip folder {folder}: {error.strerror}; choose one that mird may write to (setting clips, --clips)"
            ) from error
        self._files = deque(found)
        self.n_files, self.n_bytes = len(found), sum(size for _, size in found)
        self._thread = threading.Thread(target=self._run, name="mird-clips", daemon=True)
        self._thread.start()

    def offer(self, heard: Heard, channel: int, label: str, event_id: str, ago: tuple[int, int], utc_ns: int) -> str:
        """Ask that an event's sound be kept; never waits.

        Parameters
        ----------
        heard : Heard
        channel : int
        label, event_id : str
        ago : (int, int)
            How many samples ago the event began and ended.
        utc_ns : int
            When it began.

        Returns
        -------
        str
            Name of the file; empty where too many wait.
        """
        began, ended = (heard.n_samples - each for each in ago)
        first = max(0, began - round(LEAD_S * heard.rate_hz))
        last = min(ended, began + round(MOST_S * heard.rate_hz))
        wanted = Wanted(_file_name(channel, label, event_id, utc_ns), label, heard, channel, first, last)
        try:
            self._queue.put_nowait(wanted)
        except queue.Full:
            self._drop(f"{N_WAITING} wait already")
            return ""
        return wanted.name

    def close(self) -> None:
        """Write what waits, for some seconds at most; idempotent."""
        if self._thread.is_alive():
            try:
                self._queue.put(None, timeout=CLOSING_S)
            except queue.Full:
                return
            self._thread.join(CLOSING_S)

    def _run(self) -> None:
        while (wanted := self._queue.get()) is not None:
            try:
                self._write(wanted)
            except Exception as error:  # noqa: BLE001 - soundfile asserts where a disk takes less; the next may be kept
                self._drop(f"{self.folder / wanted.name}: {str(error) or type(error).__name__}")

    def _write(self, wanted: Wanted) -> None:
        samples = wanted.heard.span(wanted.channel, wanted.first, wanted.last)
        if not len(samples):
            self._drop(f"{wanted.name}: its sound is gone")
            return
        partial, path = self.folder / f".{wanted.name}.partial", self.folder / wanted.name
        try:
            partial.touch(mode=0o600)
            with soundfile.SoundFile(partial, "w", wanted.heard.rate_hz, 1, "PCM_16", format="FLAC") as file:
                file.title, file.comment = wanted.title, f"mird, channel {wanted.channel}"
                file.write(samples)
            size = partial.stat().st_size
            self._make_room(size)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._files.append((wanted.name, size))
        self.n_files += 1
        self.n_bytes += size
        self.n_clips += 1

    def _make_room(self, size: int) -> None:
        """Remove the oldest until there is room under the quota."""
        while self._files and self.n_bytes + size > self._quota:
            name, removed = self._files.popleft()
            (self.folder / name).unlink(missing_ok=True)  # somebody may have removed it
            self.n_files -= 1
            self.n_bytes -= removed
            self.n_clips_removed += 1

    def _drop(self, why: str) -> None:
        with self._dropping:  # two threads count
            self.n_clips_dropped += 1
            n = self.n_clips_dropped
        if n % 100 == 1:
            _log.warning("clip dropped (%d so far): %s", n, " ".join(why.split()))


def _file_name(channel: int, label: str, event_id: str, utc_ns: int) -> str:
    """Sorted by time; of the label, what every file system takes."""
    began = datetime.fromtimestamp(utc_ns // 1_000_000 / 1000, UTC)
    shown = re.sub(r"[^\w-]", "_", label).encode()[:MAX_LABEL_BYTES].decode(errors="ignore")
    return f"{began:%Y%m%dT%H%M%S}.{began.microsecond // 1000:03d}Z-{channel}-{shown}-{event_id}{SUFFIX}"
