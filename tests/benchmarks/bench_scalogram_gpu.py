"""The scalogram on an NVIDIA GPU: agreement first, then microseconds a hop, as multiples of the calculated floor.

    pip install -e '.[cuda]'
    python tests/benchmarks/bench_scalogram_gpu.py        # writes results/scalogram_gpu.json

A hop is a whole graph: the copy from pinned memory, the transform, the picture of `FrontEnd.paper()`. `graph_us` is
between two events around one launch; `call_us` is what the caller waits, checking and copying the windows included.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mird.kernels.frontend import FrontEnd
from mird.kernels.image import picture
from mird.kernels.scalogram import open_scalogram

RESULTS = Path(__file__).with_name("results")

BYTES, FLOPS = 35e6, 55e6
"""Bytes moved and operations done for one window, with the FFTs in cuFFT."""

BYTES_PER_S, FLOPS_PER_S = 4.3e12, 60e12
"""An H200's memory and float32 arithmetic."""


def floor_us(n: int) -> float:
    """The larger of the times that bytes and operations need at least."""
    return 1e6 * n * max(BYTES / BYTES_PER_S, FLOPS / FLOPS_PER_S)


def measure(n: int, n_rounds: int) -> dict[str, Any]:
    import cupy

    from mird.kernels.scalogram_cupy import CupyScalogram

    front_end = FrontEnd.paper()
    scalogram = CupyScalogram(front_end)
    rng = np.random.default_rng(n)
    sets = [rng.standard_normal((n, front_end.window)).astype(np.float32) for _ in range(4)]
    magnitudes = scalogram(sets[0])
    wanted = open_scalogram(front_end, "scipy")(sets[0])
    error = float(np.abs(magnitudes - wanted).max() / wanted.max())
    pictures = scalogram.pictures(sets[0])
    scalogram.stream.synchronize()
    wrong = float((np.abs(pictures.get() - picture(magnitudes, front_end)) > 1e-6).mean())
    graphs, calls = [], []
    begun, ended = cupy.cuda.Event(), cupy.cuda.Event()
    for number in range(n_rounds):
        windows = sets[number % len(sets)]
        start = time.perf_counter()
        scalogram.pictures(windows)
        scalogram.stream.synchronize()
        calls.append(1e6 * (time.perf_counter() - start))
        begun.record(scalogram.stream)
        scalogram._runs[n][2]()
        ended.record(scalogram.stream)
        ended.synchronize()
        graphs.append(1e3 * cupy.cuda.get_elapsed_time(begun, ended))
    half = n_rounds // 2
    graph_us = median(graphs[half:])
    return {
        "n_channels": n,
        "error_of_peak": error,
        "share_of_wrong_cells": wrong,
        "graph_us": round(graph_us, 1),
        "call_us": round(median(calls[half:]), 1),
        "floor_us": round(floor_us(n), 1),
        "times_floor": round(graph_us / floor_us(n), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=RESULTS / "scalogram_gpu.json")
    options = parser.parse_args()
    import cupy

    device = cupy.cuda.runtime.getDeviceProperties(0)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "device": device["name"].decode(),
        "capability": f"{device['major']}.{device['minor']}",
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
        "runs": [measure(n, options.rounds) for n in options.channels],
    }
    print(json.dumps(result, indent=1))
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    for run in result["runs"]:
        assert run["error_of_peak"] <= 1e-6, run


if __name__ == "__main__":
    main()
