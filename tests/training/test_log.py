"""TensorBoard's log: where it can no longer be written, training goes on."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mird.training.log import EVERY, TrainingLog
from mird.training.trainer import StepReport

pytest.importorskip("tensorboard")

TRAIN = """
import sys, threading, time
from pathlib import Path
from mird.training.log import EVERY, TrainingLog
from mird.training.trainer import StepReport

with TrainingLog(Path(sys.argv[1])) as log:
    for step in range(0, 100 * EVERY, EVERY):
        log.add(StepReport(step, 1.0, 0.5, 1e-3))
print("trained", threading.active_count())
"""


def test_a_full_disk_is_told_of_once(tmp_path: Path) -> None:
    """A file may here have 1,024 bytes: what is written beyond them fails as on a full disk."""
    command = ["sh", "-c", 'ulimit -f 2; exec "$@"', "sh", sys.executable, "-c", TRAIN, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert (done.returncode, done.stdout) == (0, "trained 1\n"), done.stderr
    said = f"--tensorboard {tmp_path}: cannot be written: File too large; training goes on without the log"
    assert [line for line in done.stderr.splitlines() if "--tensorboard" in line] == [said]
    assert "Traceback" not in done.stderr
    assert [0 < path.stat().st_size <= 1024 for path in tmp_path.iterdir()] == [True]


def test_a_folder_that_goes_away_is_told_of_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = threading.excepthook
    with TrainingLog(tmp_path / "log") as log:
        shutil.rmtree(tmp_path / "log")
        log.add(StepReport(EVERY, 1.0, 0.5, 1e-3))
    (record,) = caplog.records
    assert "cannot be written: No such file or directory; training goes on" in record.getMessage()
    assert threading.excepthook is before
