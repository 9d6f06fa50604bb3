"""A file that grows line by line and holds whole lines at any moment, whatever happens."""

import logging
import os
from pathlib import Path

from mird.clients.errors import OutletError

_log = logging.getLogger(__name__)


class AppendFile:
    """Appends lines; one thread uses it.

    A line is on the disk when :meth:`append` returns, so that neither a crash nor a power cut takes it. One that cannot
    be written (a disk that is full) is counted and left out whole, and the next is tried again.

    Parameters
    ----------
    path : Path
        Made; it must not be there yet.

    Attributes
    ----------
    n_lost : int
        Lines that could not be written.

    Raises
    ------
    OutletError
        It cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_lost = 0
        self._size = 0
        self._failing = False
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OutletError(f"{path}: {error.strerror}; name a folder that can be written to") from error

    def append(self, line: str, *, sync: bool = True) -> None:
        """Write one line, without its line break; raises nothing.

        Parameters
        ----------
        line : str
        sync : bool
            Wait until it is on the disk. Without it, it is there after the next line that waits, or within the time
            that the system takes.
        """
        data = f"{line}\n".encode()
        try:
            n_written = os.write(self._file, data)
            if n_written < len(data):
                os.ftruncate(self._file, self._size)
                raise OSError(None, "the disk is full")
            self._size += n_written
            if sync:
                os.fdatasync(self._file)
        except OSError as error:
            self.n_lost += 1
            if not self._failing:
                self._failing = True
                _log.error("%s: %s; make room: lines are lost until it can be written to", self.path, error.strerror)
            return
        if self._failing:
            self._failing = False
            _log.warning("%s: can be written to again; %d lines are lost", self.path, self.n_lost)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
