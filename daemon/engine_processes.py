"""What is done with a GPU by processes of their own: compiling an engine, and asking whether the GPU works at all."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mird.kernels.errors import EngineError

LOOK_S: Final = 0.2
"""Interval at which it is looked whether to stop."""

PROBE_S: Final = 60.0
"""A GPU that has not answered by then hangs; CuPy alone takes seconds to load."""

COMPILE: Final = "import os, sys; os.nice(10); from mird.daemon.cli import main; sys.exit(main())"

PROBE: Final = """
import sys
import numpy as np
from mird.kernels.device_cuda import CudaDevice
from mird.kernels.errors import EngineError
try:
    device = CudaDevice()
    sent, received = (device.pinned((1000,), np.float32) for _ in range(2))
    sent[:] = np.arange(1000)
    array = device.empty(sent.shape, np.float32)
    device.upload(sent, array)
    device.download(array, received)
    device.wait(20.0)
    if (received != sent).any():
        raise EngineError(f"{device.name} gives other numbers than it was given")
except EngineError as error:
    sys.exit(str(error))
"""

WARNING: Final = "mird: warning: "
"""How a line of the compiling process begins that goes to the log."""

_log = logging.getLogger(__name__)


def compile_beside(library: str, path: Path, folder: Path, precision: str, stop: threading.Event) -> None:
    """Compile an engine in a process of its own, at a low priority.

    Parameters
    ----------
    library : {"tensorrt", "tensorrt_rtx"}
    path, folder : Path
        The encoder's file, and the plan cache.
    precision : str
    stop : Event
        Ends the process when it is set.

    Raises
    ------
    EngineError
        It failed, with the line that it ended with, or was stopped.
    """
    _log.info("%s compiles the encoder; the CPU serves meanwhile", library)
    options = ["--library", library, "--engine", str(path), "--precision", precision, "--out", str(folder), "--json"]
    status, lines = run_beside([COMPILE, "compile", *options], stop)
    for line in lines:
        if line.startswith(WARNING):
            _log.warning("%s: %s", library, line.removeprefix(WARNING))
    if status:
        reason = lines[-1].removeprefix("mird: error: ") if lines else f"it ended with status {status}"
        raise EngineError(f"cannot be compiled: {reason}")


def probe_beside(stop: threading.Event, program: str = PROBE, timeout_s: float = PROBE_S) -> str:
    """Send numbers to the GPU and back in a process of its own; why that does not work, in a line, or nothing.

    Parameters
    ----------
    stop : Event
        Ends the process when it is set.
    program : str
        What the process runs.
    timeout_s : float
        After this it is killed: the GPU hangs.
    """
    try:
        status, lines = run_beside([program], stop, timeout_s)
    except EngineError as error:
        return str(error)
    return "" if not status else lines[-1] if lines else f"a process that asked it ended with status {status}"


def run_beside(
    arguments: Sequence[str], stop: threading.Event, timeout_s: float = float("inf")
) -> tuple[int, list[str]]:
    """Run a Python program and its arguments; its exit status and the lines of its standard error.

    Raises
    ------
    EngineError
        It was told to stop, or did not end in time; it has been killed.
    """
    until_s = time.monotonic() + timeout_s
    process = subprocess.Popen(
        [sys.executable, "-c", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip
    while True:
        try:
            _, shown = process.communicate(timeout=LOOK_S)
        except subprocess.TimeoutExpired:
            if not stop.is_set() and time.monotonic() < until_s:
                continue
            process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for a GPU cannot even be killed
                process.communicate(timeout=1.0)
            what = "it was told to stop" if stop.is_set() else f"it did not answer within {timeout_s:g} s"
            raise EngineError(what) from None
        return process.returncode, shown.strip().splitlines()
