"""The set list: what was played when, as a person would write it down."""

from dataclasses import dataclass, replace
from datetime import datetime

from mird.daemon.messages import Event

JOIN_S = 3.0
"""Events of the same label that are this close on a channel are one entry."""

HEADING = "time      elapsed   channel  label                     seconds"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list; times in nanoseconds since 1970 UTC."""

    source: str
    channel: int
    label: str
    start_utc_ns: int
    end_utc_ns: int

    def line(self, began_utc_ns: int) -> str:
        """The entry for people: local time of day, time since `began_utc_ns`, channel, label and duration."""
        elapsed_s = max(0, self.start_utc_ns - began_utc_ns) // 1_000_000_000
        elapsed = f"{elapsed_s // 3600}:{elapsed_s // 60 % 60:02}:{elapsed_s % 60:02}"
        seconds = (self.end_utc_ns - self.start_utc_ns) / 1e9
        return f"{clock(self.start_utc_ns)}  {elapsed:<8}  {self.channel:<7}  {self.label:<24}  {seconds:7.1f}"


class SetList:
    """Makes entries out of events that have ended."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, int], Entry] = {}

    def add(self, event: Event) -> list[Entry]:
        """Take in an end. Returns the entry before it, where that is complete now."""
        place = (event.source, event.channel)
        entry = Entry(*place, event.label, event.start_utc_ns, event.end_utc_ns or event.start_utc_ns)
        before = self._open.get(place)
        if before is None:
            self._open[place] = entry
            return []
        if before.label == entry.label and entry.start_utc_ns - before.end_utc_ns <= JOIN_S * 1e9:
            self._open[place] = replace(before, end_utc_ns=entry.end_utc_ns)
            return []
        self._open[place] = entry
        return [before]

    def finish(self) -> list[Entry]:
        """The last entry of each channel, in the order of their starts."""
        entries = sorted(self._open.values(), key=lambda entry: entry.start_utc_ns)
        self._open.clear()
        return entries


def clock(utc_ns: int) -> str:
    """Local time of day."""
    try:
        return f"{datetime.fromtimestamp(utc_ns / 1e9).astimezone():%H:%M:%S}"
    except (OverflowError, OSError, ValueError):
        return "--:--:--"
