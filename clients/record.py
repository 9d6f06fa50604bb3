"""Writing a show down: JSON lines, Audacity's labels and a set list."""

import logging
import time
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from mird.clients.append_file import AppendFile
from mird.clients.errors import OutletError
from mird.clients.lines import audacity_line, json_line
from mird.clients.osc_messages import address_part
from mird.clients.set_list import HEADING, SetList
from mird.clients.summary import Summary
from mird.daemon.messages import Event, Frame, Level, Message

FORMATS = ("json", "audacity", "setlist")

_log = logging.getLogger(__name__)


class RecordOutlet:
    """Appends to files of its own in a folder; one thread uses it.

    Their names begin with the local time at which recording began, which is 0 s in labels and set list::

        2026-11-24_210312.jsonl                  the messages as they are published
        2026-11-24_210312_usb-audio_1.txt        a label track of Audacity for each channel
        2026-11-24_210312_setlist.txt            what was played when

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    formats : collection of str
        Of `FORMATS`.
    kinds : collection of str
        The kinds of messages in the JSON lines.

    Raises
    ------
    OutletError
        Nothing can be written there.
    """

    def __init__(self, folder: Path, formats: Collection[str] = FORMATS, kinds: Collection[str] = ("event", "state")):
        self._formats = frozenset(formats)
        self._kinds = frozenset(kinds)
        self._began_utc_ns = time.time_ns()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutletError(f"{folder}: {error.strerror}; name a folder that can be written to") from error
        self._stem = _free_stem(folder, f"{datetime.now().astimezone():%Y-%m-%d_%H%M%S}")
        self._files: dict[str, AppendFile] = {}
        self._set_list = SetList()
        self._summary = Summary()
        if "json" in self._formats:
            self._file(".jsonl")
        if "setlist" in self._formats:
            self._file("_setlist.txt").append(HEADING)
        _log.info("recording to %s*", self._stem)

    def send(self, message: Message) -> None:
        """Write one message down."""
        self._summary.add(message)
        if "json" in self._formats and message.kind in self._kinds:
            self._file(".jsonl").append(json_line(message), sync=not isinstance(message, Frame | Level))
        if isinstance(message, Event) and message.end_utc_ns is not None:
            self._of_end(message, message.end_utc_ns)

    def set_alive(self, alive: bool) -> None:
        """Nothing to write: the events of a daemon that has gone end where another's begin, or with the recording."""

    def tick(self) -> None:
        """Nothing to do as time passes."""

    def close(self) -> None:
        """Complete the set list, and close the files."""
        if "setlist" in self._formats:
            file = self._file("_setlist.txt")
            for entry in self._set_list.finish():
                file.append(entry.line(self._began_utc_ns))
            for line in ("", *self._summary.lines()):
                file.append(line)
        for file in self._files.values():
            file.close()

    @property
    def paths(self) -> list[Path]:
        """The files so far."""
        return [file.path for file in self._files.values()]

    def _of_end(self, event: Event, end_utc_ns: int) -> None:
        if "audacity" in self._formats:
            start_s, end_s = (max(0.0, (each - self._began_utc_ns) / 1e9) for each in (event.start_utc_ns, end_utc_ns))
            try:
                track = self._file(f"_{address_part(event.source)}_{event.channel}.txt")
            except OutletError as error:
                _log.error("%s; a label is lost", error)  # the show goes on
            else:
                track.append(audacity_line(start_s, end_s, event.label))
        if "setlist" in self._formats:
            for entry in self._set_list.add(event):
                self._file("_setlist.txt").append(entry.line(self._began_utc_ns))

    def _file(self, suffix: str) -> AppendFile:
        if suffix not in self._files:
            self._files[suffix] = AppendFile(self._stem.with_name(self._stem.name + suffix))
        return self._files[suffix]


def _free_stem(folder: Path, name: str) -> Path:
    """The beginning of files' names that none in the folder has."""
    number = 1
    stem = folder / name
    while any(folder.glob(f"{stem.name}[._]*")):
        number += 1
        stem = folder / f"{name}-{number}"
    return stem
