"""Which engine computes an encoder faster on this machine's CPU: measured once, and remembered.

It depends on the encoder and on the CPU. The shipped one takes 0.45 ms with ONNX Runtime and 2.0 with OpenVINO (one
picture, one thread, AMD EPYC Zen 5); a large one on a CPU with AMX is three times faster with OpenVINO.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import time
from pathlib import Path
from statistics import median

import numpy as np

from mird.kernels.encoder import CPU_BACKENDS, Encoder, open_encoder
from mird.kernels.errors import EngineError
from mird.kernels.image import picture
from mird.kernels.plan_cache import model_hash, write_whole
from mird.kernels.scalogram import open_scalogram

N_ROUNDS = 15
"""Rounds, in turns; the first third of them warms up."""


def choose_encoder(path: Path, folder: Path, *, threads: int = 1) -> Encoder:
    """Load an encoder file for the CPU with the engine that is the faster here.

    Parameters
    ----------
    path : Path
        An ONNX file that `mird train` exported.
    folder : Path
        Where measurements are remembered; they are made again where it cannot be written.
    threads : int > 0

    Raises
    ------
    EngineError
        If the file is missing, damaged or not mird's.
    """
    installed = [name for name in CPU_BACKENDS if importlib.util.find_spec(name) is not None]
    if len(installed) == 1:
        return open_encoder(path, threads=threads, name=installed[0])
    versions = "-".join(f"{name}-{importlib.metadata.version(name)}" for name in installed)
    remembered = folder / f"{model_hash(path) if path.is_file() else ''}-{versions}-{threads}.choice"
    try:
        name = json.loads(remembered.read_text(encoding="utf-8"))["name"]
        if name in installed:
            return open_encoder(path, threads=threads, name=name)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    encoders = [open_encoder(path, threads=threads)]
    for name in installed[1:]:
        try:
            encoders.append(open_encoder(path, threads=threads, name=name))
        except EngineError:  # it does not know an operator, or is not whole: the first one does without it
            continue
    times_ms = measure(encoders)
    best = min(encoders, key=lambda encoder: times_ms[encoder.name])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(remembered, json.dumps({"name": best.name, "milliseconds": times_ms}).encode())
    except OSError:
        pass
    return best


def measure(encoders: list[Encoder]) -> dict[str, float]:
    """Median milliseconds of one picture by each engine, measured in turns."""
    front_end = encoders[0].card.front_end
    noise = np.random.default_rng(1).standard_normal((1, front_end.window)).astype(np.float32)
    one = picture(open_scalogram(front_end)(noise), front_end)
    times_s: dict[str, list[float]] = {encoder.name: [] for encoder in encoders}
    for _ in range(N_ROUNDS):
        for encoder in encoders:
            begun = time.perf_counter()
            encoder(one)
            times_s[encoder.name].append(time.perf_counter() - begun)
    return {name: round(1e3 * median(found[N_ROUNDS // 3 :]), 3) for name, found in times_s.items()}
