"""`make gpu-check` where there is no GPU, and the tests that it would run."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mird.kernels.cuda_driver import find_gpu
from mird.kernels.errors import EngineError

ROOT = Path(__file__).parents[1]
MARK = "pytest.mark.gpu"


def test_without_a_gpu_it_is_one_line(tmp_path: Path) -> None:
    try:
        find_gpu()
    except EngineError as error:
        reason = str(error)
    else:
        return  # there is one, and the command itself is the test
    command = [sys.executable, "tests/benchmarks/gpu_check.py", "--out", str(tmp_path / "gpu.json")]
    environment = {**os.environ, "PYTHONPATH": ".typing"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (9, "", f"mird: error: {reason}\n")
    assert not list(tmp_path.iterdir())
    made = subprocess.run(["make", "gpu-check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 2
    assert f"mird: error: {reason}" in made.stderr


def test_all_gpu_tests_are_where_it_looks() -> None:
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if f"@{MARK}" in path.read_text()]
    assert {path.parent.name for path in marked} == {"kernels"}


def test_a_step_that_takes_too_long_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It and what it started are ended, and what it said was written before."""
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "tests" / "benchmarks" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    gpu_check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu_check)
    monkeypatch.setattr(gpu_check, "WRITE_S", 0.2)
    written: list[dict[str, Any]] = []
    waits = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    program = f"import subprocess, sys; print('3 passed'); subprocess.run({waits})"
    begun_s = time.monotonic()
    step = gpu_check.run_step([sys.executable, "-c", program], 5.0, written.append)
    assert time.monotonic() - begun_s < 30.0
    assert (step["ok"], step["status"], step["summary"]) == (False, None, "3 passed")
    assert written[-1]["summary"] == "3 passed"
    done = gpu_check.run_step([sys.executable, "-c", "print('5 passed')"], 30.0, written.append)
    assert (done["ok"], done["summary"]) == (True, "5 passed")
