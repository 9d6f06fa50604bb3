"""`mird train` ended while it computes pictures, and while it fits and exports."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(sys.executable).with_name("mird")

pytestmark = [
    pytest.mark.system,
    pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"]),
]


def end(command: Sequence[object], number: signal.Signals, ready: Callable[[], object]) -> tuple[int, str]:
    """Start a command and end it as soon as it is ready: its exit status and its last line."""
    with subprocess.Popen([PROGRAM, "train", *map(str, command)], stderr=subprocess.PIPE, text=True) as process:
        try:
            while not ready():
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.002)
            process.send_signal(number)
            printed = process.communicate(timeout=500)[1]
        finally:
            process.kill()
    assert "Traceback" not in printed
    return process.returncode, printed.splitlines()[-1]


def test_while_pictures_are_computed(trained: Any, orchestra: Path, tmp_path: Path, number: signal.Signals) -> None:
    recipe = tmp_path / "composed.toml"
    recipe.write_text(trained.recipe.read_text().replace("n_composed = 2", "n_composed = 500"))
    cache = tmp_path / "run" / "cache"
    command = [orchestra, "--recipe", recipe, "--out", tmp_path / "run"]
    status, line = end(command, number, lambda: list(cache.glob("*.partial")))
    assert (status, line) == (130, "stopped before the first step; start again")
    assert list(cache.iterdir()) == []


def test_while_it_fits(trained: Any, orchestra: Path, tmp_path: Path, number: signal.Signals) -> None:
    shutil.copy(trained.folder / "checkpoint.pt", tmp_path)
    before = (tmp_path / "checkpoint.pt").stat().st_ino
    command = [orchestra, "--recipe", trained.recipe, "--cache", trained.cache, "--out", tmp_path, "--resume"]
    status, line = end(command, number, lambda: (tmp_path / "checkpoint.pt").stat().st_ino != before)
    assert status == 130
    assert line in ("stopped; go on with --resume", "stopped at step 240; go on with --resume")
    assert not (tmp_path / "run.json").exists()
    assert not list(tmp_path.glob("*.partial"))
