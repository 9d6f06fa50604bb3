"""Logs: to standard error, in the form of whoever reads them: a person, or systemd's journal."""

from __future__ import annotations

import logging
import os
import queue
import sys
import time
from collections.abc import Mapping
from logging.handlers import QueueHandler, QueueListener
from typing import Final, TextIO

PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""The journal's priorities by the least level, as in sd-daemon(3); 7 for what is below."""


N_WAITING: Final = 1000
"""Lines that wait at most while standard error takes none."""

FLUSH_S: Final = 1.0


class PersonsFormatter(logging.Formatter):
    """``mird: WARNING: what is wrong``."""

    def __init__(self) -> None:
        super().__init__("mird: %(levelname)s: %(message)s")


class JournalFormatter(logging.Formatter):
    """``<4>what is wrong``: the journal knows the rest. A traceback's lines have the priority too."""

    def format(self, record: logging.LogRecord) -> str:
        """See :meth:`logging.Formatter.format`."""
        priority = next((number for least, number in PRIORITIES if record.levelno >= least), 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class Waiting(QueueHandler):
    """Lines on their way to whoever writes them: a full pipe or a journal that hangs holds nobody who logs.

    Where `N_WAITING` wait already, a line is dropped, and their number told as soon as there is room.
    """

    def __init__(self) -> None:
        self.lines: queue.Queue[logging.LogRecord] = queue.Queue(N_WAITING)
        super().__init__(self.lines)
        self.setFormatter(logging.Formatter("%(message)s"))  # with the traceback; whoever writes gives the rest
        self._n_dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put a line into the queue; called under the handler's lock."""
        try:
            if self._n_dropped:
                text = f"{self._n_dropped} lines of the log were dropped: standard error took none"
                lost = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
                self.lines.put_nowait(lost)
                self._n_dropped = 0
            self.lines.put_nowait(record)
        except queue.Full:
            self._n_dropped += 1

    def flush(self) -> None:
        """Wait until all is written, for `FLUSH_S` at most."""
        until_s = time.monotonic() + FLUSH_S
        while self.lines.unfinished_tasks and time.monotonic() < until_s:
            time.sleep(0.005)


def is_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream leads to the journal: ``JOURNAL_STREAM`` has its device and inode (systemd.exec(5))."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def log_to_stderr(level: str) -> None:
    """Send everything from a level on to standard error, by a thread of its own.

    Parameters
    ----------
    level : str
        ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JournalFormatter() if is_journal(sys.stderr) else PersonsFormatter())
    waiting = Waiting()
    QueueListener(waiting.lines, handler).start()  # to the end of the process, which flushes every handler
    logging.basicConfig(handlers=[waiting], level=level)
