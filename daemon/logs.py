"""Logs: to standard error, in the form of whoever reads them: a person, or systemd's journal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Final, TextIO

PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""The journal's priorities by the least level, as in sd-daemon(3); 7 for what is below."""


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


def is_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream leads to the journal: ``JOURNAL_STREAM`` has its device and inode (systemd.exec(5))."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def log_to_stderr(level: str) -> None:
    """Send everything from a level on to standard error.

    Parameters
    ----------
    level : str
        ``DEBUG``, ``INFO``, ``WARNING`` or ``ERROR``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JournalFormatter() if is_journal(sys.stderr) else PersonsFormatter())
    logging.basicConfig(handlers=[handler], level=level)
