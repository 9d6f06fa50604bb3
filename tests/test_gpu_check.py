"""`make gpu-check` where there is no GPU, and the tests that it would run."""

import os
import subprocess
import sys
from pathlib import Path

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
