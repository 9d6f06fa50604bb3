"""The two forms of the log, and how the journal is told from a terminal or a file."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mird.daemon.logs import JournalFormatter, PersonsFormatter, is_journal

PROGRAM = "import logging\nfrom mird.daemon.logs import log_to_stderr\nlog_to_stderr('INFO')\n"


def record(level: int, message: str = "the disk is full") -> logging.LogRecord:
    return logging.LogRecord("mird", level, __file__, 1, message, (), None)


@pytest.mark.parametrize(("level", "priority"), [(10, 7), (20, 6), (30, 4), (40, 3), (50, 3)])
def test_the_journal_is_told_the_priority_of_every_line(level: int, priority: int) -> None:
    told = JournalFormatter().format(record(level, "one\ntwo"))
    assert told == f"<{priority}>one\n<{priority}>two"


def test_a_person_is_told_in_words() -> None:
    assert PersonsFormatter().format(record(logging.WARNING)) == "mird: WARNING: the disk is full"


def test_the_journal_is_known_by_its_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        status = os.fstat(file.fileno())
        assert is_journal(file, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        assert not is_journal(file, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
        assert not is_journal(file, {})


@pytest.mark.parametrize("to_journal", [True, False])
def test_a_process_logs_in_the_form_of_its_stderr(tmp_path: Path, to_journal: bool) -> None:
    path = tmp_path / "log"
    with path.open("w") as file:
        status = os.fstat(file.fileno())
        journal = f"{status.st_dev}:{status.st_ino}" if to_journal else "1:2"
        script = PROGRAM + "try:\n    1 / 0\nexcept ArithmeticError:\n    logging.exception('broken')\n"
        environment = os.environ | {"JOURNAL_STREAM": journal}
        subprocess.run([sys.executable, "-c", script], stderr=file, env=environment, check=True)
    lines = path.read_text().splitlines()
    if to_journal:
        assert lines[0] == "<3>broken"
        assert all(line.startswith("<3>") for line in lines)
    else:
        assert lines[0] == "mird: ERROR: broken"
    assert "ZeroDivisionError" in lines[-1]


def test_a_standard_error_that_takes_nothing_holds_nobody() -> None:
    """As a terminal after Ctrl-S, or a journal that hangs: who logs goes on, and is told what was dropped."""
    script = PROGRAM + (
        "import sys\n"
        "for number in range(3000):\n"
        "    logging.info('line %d %s', number, 'x' * 100)\n"
        "print('done', flush=True)\n"
        "sys.stdin.read()\n"
        "logging.info('the last')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "done\n", "though nobody reads the lines"
        read = [process.stderr.readline() for _ in range(1000)]
        process.stdin.close()
        read += process.stderr.readlines()
    assert read[0] == f"mird: INFO: line 0 {'x' * 100}\n"
    assert read[-1] == "mird: INFO: the last\n"
    dropped = [line for line in read if "lines of the log were dropped: standard error took none" in line]
    assert dropped
    n_dropped = sum(int(line.split()[2]) for line in dropped)
    assert len(read) - 1 - len(dropped) + n_dropped == 3000
