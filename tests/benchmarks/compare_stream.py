"""What the incremental scalogram would change: pictures, embeddings and time, hop by hop over recordings.

    python tests/benchmarks/compare_stream.py FOLDER [--engine configs/models/default.onnx]

For every recording of at least two seconds, the pictures of the incremental scalogram are compared with those of
isolated windows at the same hops, both through the encoder as well if there is one. Writes results/stream.json, all but
the accuracy, which `compare_stream_accuracy.py` adds.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile

from mird.kernels.frontend import FrontEnd
from mird.kernels.image import picture
from mird.kernels.scalogram import CPU_BACKENDS, installed_backends, open_scalogram
from mird.kernels.scalogram_scipy import ScipyTransforms
from mird.kernels.scalogram_stream import StreamScalogram

RESULTS = Path(__file__).with_name("results")


def transforms(name: str) -> Any:
    if name == "scipy":
        return ScipyTransforms()
    from mird.kernels.scalogram_ducc import DuccTransforms

    return DuccTransforms()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", type=Path)
    parser.add_argument("--every", type=int, default=10, help="take one recording in so many")
    parser.add_argument("--out", type=Path, default=RESULTS / "stream.json")
    options = parser.parse_args()
    encoder, front_end = None, FrontEnd()
    if options.engine:
        from mird.kernels.encoder import open_encoder

        encoder = open_encoder(options.engine)
        front_end = encoder.card.front_end
    name = next(backend for backend in CPU_BACKENDS if backend in installed_backends())
    isolated = open_scalogram(front_end, name)
    differences, cosines, apart, spent, spent_whole = [], [], [], [], []
    files = sorted(path for path in options.folder.rglob("*") if path.suffix in {".flac", ".wav"})[:: options.every]
    n_used = hop = 0
    for path in files:
        sound, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        if rate_hz != front_end.rate_hz or len(sound) < 2 * front_end.window:
            continue
        n_used += 1
        channel = sound[: 10 * front_end.window, 0]
        stream = StreamScalogram(front_end, transforms(name))
        hop = stream.hop
        before = None
        for end in range(hop, len(channel) + 1, hop):
            begun = time.perf_counter()
            moving = stream.push(channel[None, end - hop : end])
            spent.append(1e3 * (time.perf_counter() - begun))
            if end < front_end.window or end // hop % 5:
                continue
            begun = time.perf_counter()
            whole = isolated(channel[None, end - front_end.window : end])
            spent_whole.append(1e3 * (time.perf_counter() - begun))
            two = np.concatenate([picture(moving, front_end), picture(whole, front_end)])
            differences.append(np.abs(two[0] - two[1]).ravel() * front_end.range_db)
            if encoder is not None:
                one, other = encoder(two)
                cosines.append(float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))
                if before is not None:
                    apart.append(float(other @ before / np.linalg.norm(other) / np.linalg.norm(before)))
                before = other
    cells = np.concatenate(differences)
    result = {
        "front_end": json.loads(front_end.to_json()),
        "back_end": name,
        "n_recordings": n_used,
        "n_hops_compared": len(differences),
        "hop_samples": hop,
        "mean_difference_db": round(float(cells.mean()), 3),
        "share_of_cells_over_1_db": round(float((cells > 1).mean()), 4),
        "share_of_cells_over_6_db": round(float((cells > 6).mean()), 4),
        "hop_ms": round(median(spent), 2),
        "isolated_ms": round(median(spent_whole), 2),
    }
    if cosines:
        result["cosine_of_embeddings"] = {
            "median": round(median(cosines), 4),
            "p5": round(float(np.percentile(cosines, 5)), 4),
            "of neighbouring isolated windows, median": round(median(apart), 4),
        }
    if options.out.exists() and "accuracy" in (before_this := json.loads(options.out.read_text())):
        result["accuracy"] = before_this["accuracy"]
    print(json.dumps(result, indent=1))
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
