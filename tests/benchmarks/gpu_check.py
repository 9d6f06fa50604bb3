"""Everything that needs an NVIDIA GPU, in one command: `make gpu-check`.

    PYTHONPATH=.typing python3 tests/benchmarks/gpu_check.py

Runs the benchmarks, the tests marked `gpu` and compute-sanitizer where it is installed, and writes one JSON file into
`results/` with the device, the driver, the versions and all figures. It ends within 10 minutes, needs no network, and
of Python's packages NumPy, SciPy, ONNX, ONNX Runtime, CuPy, torch, pytest with pytest-timeout and hypothesis; TensorRT,
TensorRT-RTX and soundfile are used where they are. The checkout need not be installed. With MIRD_RECORDINGS the
agreement is that of 1,000 recorded clips.

The most valuable comes first, each step has a limit of its own, and the file is written every few seconds, so that a
run that is cut short loses nothing: the figures of each back end and the name of each test are there as soon as it is
through. Exit status: 0 where all is well, 1 where a step failed, 9 where there is no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mird.kernels.back_ends import survey
from mird.kernels.cuda_driver import find_gpu
from mird.kernels.errors import EngineError

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "tests" / "benchmarks"
SHIPPED = ROOT / "configs" / "models" / "default.onnx"
PACKAGES = ("numpy", "scipy", "onnx", "onnxruntime", "cupy-cuda13x", "torch", "tensorrt", "tensorrt_rtx")
LEAST_S = 5.0
"""A step is not begun with less time than this."""

KEPT = 20_000
"""Characters of a step's output that are kept."""

WRITE_S = 3.0
"""Interval at which what there is of a step is written."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=BENCHMARKS / "results" / "gpu.json")
    parser.add_argument("--seconds", type=float, default=570.0, help="all of it at most (default 570)")
    options = parser.parse_args()
    try:
        gpu = find_gpu()
    except EngineError as error:
        print(f"mird: error: {error}", file=sys.stderr)
        return error.exit_status
    until = time.monotonic() + options.seconds
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": _output(["git", "rev-parse", "--short", "HEAD"]),
        "gpu": asdict(gpu),
        "driver": _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "chain": [asdict(each) for each in survey(SHIPPED, Path(tempfile.gettempdir()) / "mird-none", device="cuda")],
        "steps": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, command, most_s, figures in _steps(Path(folder)):

            def write(step: dict[str, Any], name: str = name, figures: Path | None = figures) -> None:
                result["steps"][name] = step
                if figures is not None and figures.is_file():
                    with contextlib.suppress(ValueError):  # it is being written
                        result[name] = json.loads(figures.read_text(encoding="utf-8"))
                options.out.parent.mkdir(exist_ok=True)
                options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

            left_s = until - time.monotonic()
            if isinstance(command, str):
                step: dict[str, Any] = {"ok": True, "not_run": command}
            elif left_s <= LEAST_S:
                step = {"not_run": "no time was left"}
            else:
                step = run_step(command, min(most_s, left_s), write)
            write(step)
            print(f"{name}: {step.get('summary', step)}", flush=True)
    print(f"written: {options.out}")
    return 0 if all(step.get("ok") for step in result["steps"].values()) else 1


def _steps(folder: Path) -> list[tuple[str, list[str] | str, float, Path | None]]:
    """Name, command or the reason why there is none, seconds at most, and the file that it writes."""
    python = sys.executable
    sanitizer = shutil.which("compute-sanitizer") or "compute-sanitizer is not installed"
    scalogram, recognizer = folder / "scalogram.json", folder / "recognizer.json"
    files = sorted((ROOT / "tests" / "kernels").glob("test_*.py"))  # the others may need what is not installed
    marked = [str(path) for path in files if "mark.gpu" in path.read_text(encoding="utf-8")]
    checked: list[str] | str = sanitizer
    if Path(sanitizer).is_file():
        checked = [sanitizer, "--error-exitcode", "9", python, str(BENCHMARKS / "sanitize_kernels.py")]
    return [
        (
            "recognizer",
            [python, str(BENCHMARKS / "bench_recognizer_gpu.py"), "--soak", "10", "--out", str(recognizer)],
            230.0,
            recognizer,
        ),
        ("tests", [python, "-m", "pytest", "-v", "-W", "default", "-m", "gpu", *marked], 190.0, None),
        ("sanitizer", checked, 90.0, None),
        (
            "scalogram",
            [python, str(BENCHMARKS / "bench_scalogram_gpu.py"), "--rounds", "500", "--out", str(scalogram)],
            60.0,
            scalogram,
        ),
    ]


def run_step(command: list[str], most_s: float, write: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Run a command; it and what it started are killed after a time, and what it said so far is written meanwhile."""
    begun = time.monotonic()
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / '.typing'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "PYTHONUNBUFFERED": "1",
    }
    with tempfile.TemporaryFile("w+b") as said:

        def step(status: int | None) -> dict[str, Any]:
            size = said.seek(0, os.SEEK_END)
            said.seek(max(0, size - KEPT))
            output = said.read().decode(errors="replace")
            lines = [line for line in output.splitlines() if line.strip()]
            counts = [line for line in lines if re.search(r"\d+ (passed|failed|skipped)|ERROR SUMMARY", line)]
            return {
                "ok": status == 0,
                "status": status,
                "seconds": round(time.monotonic() - begun, 1),
                "summary": (counts or lines or ["it said nothing"])[-1].strip("= "),
                "output": output,
            }

        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        while time.monotonic() - begun < most_s:
            try:
                return step(process.wait(min(WRITE_S, most_s)))
            except subprocess.TimeoutExpired:
                write(step(None))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return step(None)


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
