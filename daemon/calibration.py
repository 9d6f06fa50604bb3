"""Calibration: silence gates of single channels, measured on room tone and kept over restarts.

They stand in a file of JSON beside the support set, by the source's name and the channel, and take the place of the
setting ``silence_dbfs``. The main thread reads, measures and writes; whoever decides reads an immutable map.
"""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mird.daemon.atomic_file import replace_file, sync_folder
from mird.daemon.errors import SupportError

MARGIN_DB: Final = 6.0
"""The gate lies this far above the loudest moment of the room tone."""
QUIETEST_DBFS: Final = -80.0
LOUDEST_DBFS: Final = -20.0
"""No gate is set outside these two."""
DIGITAL_SILENCE_DBFS: Final = -150.0
UNSTEADY_DB: Final = 15.0
"""What is this much louder than its own median is no room tone."""
MAX_SOURCES: Final = 64
MAX_FILE_BYTES: Final = 1 << 20
VERSION: Final = 1

Gates = Mapping[int, float]
"""Silence gates in dBFS, by channel."""
NO_GATES: Final[Gates] = MappingProxyType({})
"""One object: whoever uses the gates asks by identity whether they have changed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoomTone:
    """What a channel's silence was found to be.

    Attributes
    ----------
    channel : int
    median_dbfs, loudest_dbfs : float
        Of the levels that the gate looked at.
    silence_dbfs : float, optional
        The gate that follows from it, and is in force now; None where none could be set.
    remark : str
        Why there is no gate; empty where there is one.
    """

    channel: int
    median_dbfs: float
    loudest_dbfs: float
    silence_dbfs: float | None
    remark: str = ""

    def to_map(self) -> dict[str, Any]:
        """As the control socket gives it."""
        return asdict(self)


def room_tone(channel: int, gates_dbfs: NDArray[np.float64]) -> RoomTone:
    """The gate that a channel's room tone asks for.

    Parameters
    ----------
    channel : int
    gates_dbfs : NDArray[float64], shape (n_hops,)
        Levels that the gate looked at, n_hops > 0; -inf or -200 for digital silence.
    """
    median, loudest = float(np.median(gates_dbfs)), float(gates_dbfs.max())
    remark, gate = "", None
    if loudest < DIGITAL_SILENCE_DBFS:
        remark = "nothing but zeros arrives: plug the microphone in, or turn its gain up"
    elif median >= DIGITAL_SILENCE_DBFS and loudest - median > UNSTEADY_DB:
        remark = f"something sounded, {loudest - median:.0f} dB above the rest: be silent, and calibrate again"
    elif loudest + MARGIN_DB > LOUDEST_DBFS:
        remark = f"{loudest:.0f} dBFS is no silence: turn the gain down, or be silent, and calibrate again"
    else:
        gate = max(QUIETEST_DBFS, math.ceil(2.0 * (loudest + MARGIN_DB)) / 2.0)
    return RoomTone(channel, median, loudest, gate, remark)


class Calibration:
    """The gates of all sources and their file.

    Parameters
    ----------
    path : Path
        Absent as long as nothing was calibrated. One that cannot be used is left as it is, with a warning: without it
        the setting holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sources: Mapping[str, Gates] = MappingProxyType({})
        try:
            self._sources = self.read()
        except SupportError as error:
            _log.warning("%s; silence_dbfs holds for every channel", error)

    def read(self) -> Mapping[str, Gates]:
        """The gates of the file, by source, for :meth:`swap`; none where there is none.

        Raises
        ------
        SupportError
            It cannot be used. What is in force is as it was.
        """
        try:
            return _read(self.path)
        except FileNotFoundError:
            return MappingProxyType({})
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise SupportError(
                f"calibration {self.path} cannot be used ({error}): mend or remove it, or calibrate again"
            ) from error

    def swap(self, sources: Mapping[str, Gates]) -> bool:
        """Put the gates of :meth:`read` in force; whether they are others."""
        changed = sources != self._sources
        if changed:  # whoever uses them asks by identity
            self._sources = sources
        return changed

    def gates(self, source: str) -> Gates:
        """Of a source's channels that were calibrated."""
        return self._sources.get(source, NO_GATES)

    def keep(self, source: str, gates: Gates) -> None:
        """Put a source's gates in the place of those of the same channels; none at all: the setting holds again.

        Raises
        ------
        SupportError
            The file cannot be written: the gates are as they were.
        """
        others = [(name, known) for name, known in self._sources.items() if name != source]
        changed: dict[str, Gates] = dict(others[-(MAX_SOURCES - 1) :])
        if gates:
            changed[source] = MappingProxyType({**self.gates(source), **gates})
        sources = {name: {str(n): dbfs for n, dbfs in known.items()} for name, known in changed.items()}
        text = json.dumps({"version": VERSION, "silence_dbfs": sources}, indent=1, ensure_ascii=False)
        try:
            sync_folder(replace_file(self.path, f"{text}\n".encode()))
        except OSError as error:
            raise SupportError(
                f"calibration {self.path} cannot be written: {error.strerror}; make room or check the folder's mode "
                "and owner, then try again"
            ) from error
        self._sources = MappingProxyType(changed)


def _read(path: Path) -> Mapping[str, Gates]:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
    content = json.loads(data)
    if content["version"] != VERSION:
        raise ValueError(f"version {content['version']!r}, this mird reads {VERSION}")
    sources: dict[str, Gates] = {}
    for name, channels in content["silence_dbfs"].items():
        gates = {int(number): float(dbfs) for number, dbfs in channels.items()}
        if not all(QUIETEST_DBFS <= dbfs <= LOUDEST_DBFS for dbfs in gates.values()):
            raise ValueError(f"a gate of {name!r} outside {QUIETEST_DBFS:g} to {LOUDEST_DBFS:g} dBFS")
        sources[name] = MappingProxyType(gates)
    return MappingProxyType(sources)
