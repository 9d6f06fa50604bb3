"""Which MIDI note stands for which class: the same everywhere and at all times, whatever else is known."""

import zlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

FIRST_NOTE = 36
"""C2, where drum pads and samplers begin."""

TABLE = (
    "accordion", "banjo", "bass-drum", "bass-electric", "bassoon", "cello", "choir", "clarinet", "double-bass",
    "electric-piano", "english-horn", "flute", "french-horn", "glockenspiel", "guitar", "guitar-electric",
    "guitar-electric-distorted", "harp", "mandolin", "marimba", "oboe", "organ", "pan-flute", "piano", "piccolo",
    "recorder", "saxophone-alto", "saxophone-baritone", "saxophone-soprano", "saxophone-tenor", "snare-drum", "timpani",
    "trombone", "trumpet", "tuba", "vibraphone", "viola", "violin", "voice", "xylophone",
)  # fmt: skip
"""The classes that mird ships, from `FIRST_NOTE` on. A rig's mapping hangs on it: nothing here ever moves."""

FIRST_OTHER = FIRST_NOTE + len(TABLE)
N_OTHERS = 128 - FIRST_OTHER

_TABLE = MappingProxyType({label: FIRST_NOTE + index for index, label in enumerate(TABLE)})


class NoteMap:
    """From a class to its note.

    Parameters
    ----------
    chosen : Mapping[str, int], optional
        Notes, 0 to 127, that the user gave to classes.
    """

    def __init__(self, chosen: Mapping[str, int] | None = None) -> None:
        self._chosen = dict(chosen or {})

    def note(self, label: str) -> int:
        """The class's note, 0 to 127: the user's, else the table's, else one from 76 up by the name's CRC-32."""
        if label in self._chosen:
            return self._chosen[label]
        if label in _TABLE:
            return _TABLE[label]
        return FIRST_OTHER + zlib.crc32(label.encode()) % N_OTHERS

    def shared(self, labels: Iterable[str]) -> dict[int, list[str]]:
        """The notes that stand for more than one of the classes, and these."""
        by_note: dict[int, list[str]] = {}
        for label in labels:
            by_note.setdefault(self.note(label), []).append(label)
        return {note: sharing for note, sharing in by_note.items() if len(sharing) > 1}

    def lines(self) -> list[str]:
        """The table and the user's own notes for people, by note."""
        known = {label: self.note(label) for label in (*TABLE, *self._chosen)}
        return [f"{note:>3}  {label}" for label, note in sorted(known.items(), key=lambda item: (item[1], item[0]))]
