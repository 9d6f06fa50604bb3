"""What the incremental scalogram would cost in accuracy: rows of the standard suite on either kind of picture.

    python tests/benchmarks/compare_stream_accuracy.py DATA [--engine configs/models/default.onnx]

DATA holds manifest.csv and phrases.csv. Every window of every recording is pictured twice, for the same encoder and the
same episodes: alone, and at the end of a stream that heard the second before it, or silence where a recording begins.
Adds `accuracy` to results/stream.json: shots and queries of either kind, and isolated shots with incremental queries.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mird.kernels.encoder import open_encoder
from mird.kernels.frontend import FrontEnd
from mird.kernels.image import picture
from mird.kernels.scalogram import open_scalogram
from mird.kernels.scalogram_scipy import ScipyTransforms
from mird.kernels.scalogram_stream import StreamScalogram
from mird.kernels.windows import choose_windows
from mird.training.audio import fit_length, read_mono
from mird.training.features import Features
from mird.training.manifest import Recording, read_manifest
from mird.training.measure import System, encoder_systems, measure_row
from mird.training.suite import Row, read_suite

RESULTS = Path(__file__).with_name("results")
SUITE = Path(__file__).parents[2] / "configs" / "suites" / "standard.toml"
ROWS = (
    "12-way",
    "shots are single notes of the training sources, 14-way",
    "shots are another player's phrases, 12-way",
)
ISOLATED, INCREMENTAL = "isolated", "incremental"


def last_picture(stream: StreamScalogram, samples: NDArray[np.float32], end: int, window: int) -> NDArray[np.float32]:
    """Magnitudes of the window that ends at ``end``, after the second before it; shape (1, n_scales, n_columns)."""
    length = -(-2 * window // stream.hop) * stream.hop
    heard = np.zeros(length, np.float32)
    known = samples[max(0, end - length) : end]
    heard[length - len(known) :] = known
    stream.clear()
    for at in range(0, length, stream.hop):
        stream.push(heard[None, at : at + stream.hop])
    return stream.magnitudes.copy()


def wanted(rows: list[Row], manifests: Mapping[str, Sequence[Recording]], most: int) -> list[Recording]:
    """The recordings that the rows need; of the shots' own manifest at most so many of a class, evenly from all."""
    found: dict[Recording, None] = {}
    for row in rows:
        queries = [r for r in manifests[row.queries] if r.label in row.classes]
        found.update(dict.fromkeys(r for r in queries if not row.sources or r.source in row.sources))
        by_class = defaultdict(list)
        for recording in manifests[row.support] if row.support else ():
            if recording.label in row.classes and recording.source not in row.support_without:
                by_class[recording.label].append(recording)
        for clips in by_class.values():
            found.update(dict.fromkeys(clips[:: max(1, -(-len(clips) // most))]))
    return list(found)


def compute(recordings: list[Recording], encoder: Any) -> Features:
    """Embeddings of every window that sounds, of either kind of picture."""
    front_end: FrontEnd = encoder.card.front_end
    window = front_end.window
    alone, stream = open_scalogram(front_end), StreamScalogram(front_end, ScipyTransforms())
    kept, numbers, vectors = [], [], {ISOLATED: [], INCREMENTAL: []}  # type: ignore[var-annotated]
    n_windows = 0
    for done, recording in enumerate(recordings, start=1):
        print(f"\r{done} of {len(recordings)}", end="", file=sys.stderr)
        samples = read_mono(recording.path, front_end.rate_hz)
        starts = choose_windows(samples, window, max(1, 2 * len(samples) // window))
        if not starts:
            continue
        samples = fit_length(samples, max(len(samples), window))
        moving = np.concatenate([last_picture(stream, samples, start + window, window) for start in starts])
        whole = alone(np.stack([samples[start : start + window] for start in starts]))
        for kind, magnitudes in ((ISOLATED, whole), (INCREMENTAL, moving)):
            vectors[kind].append(encoder(picture(magnitudes, front_end)))
        kept.append(recording)
        numbers.append(np.arange(n_windows, n_windows + len(starts)))
        n_windows += len(starts)
    clean = {kind: np.concatenate(parts) for kind, parts in vectors.items()}
    # As "live" input: shots of isolated windows, queries of the stream's.
    return Features(tuple(kept), tuple(numbers), clean, {ISOLATED: clean[INCREMENTAL]}, (), ())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--engine", type=Path, default=SUITE.parents[1] / "models" / "default.onnx")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument(
        "--most", type=int, default=40, help="clips of a class that shots of another manifest come from"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "stream.json")
    options = parser.parse_args()
    encoder = open_encoder(options.engine)
    rows = [row for row in read_suite(SUITE).rows if row.name in ROWS]
    manifests = {
        name: read_manifest(options.data / name) for row in rows for name in (row.queries, row.support) if name
    }
    features = compute(wanted(rows, manifests, options.most), encoder)
    (weighted, *_) = encoder_systems("mird", {ISOLATED: encoder.card})
    systems = [System(kind, kind, weighted.prepare, weighted.compare) for kind in (ISOLATED, INCREMENTAL)]
    measured = []
    for row in rows:
        for shot in row.shots:
            figures = measure_row(
                row, shot, features, systems, folder_rows=manifests, episodes=options.episodes, seed=0
            )
            answers = {**figures["systems"], "isolated shots, incremental queries": figures["live"][ISOLATED]}
            per_cent = {
                kind: {"accuracy": round(100 * of["accuracy"], 1), "ci95": [round(100 * x, 1) for x in of["ci95"]]}
                for kind, of in answers.items()
            }
            measured.append({"section": row.section, "row": row.name, "shot": shot, **per_cent})
            print(json.dumps(measured[-1]))
    result = json.loads(options.out.read_text()) if options.out.exists() else {}
    result["accuracy"] = {
        "engine": encoder.card.name,
        "fingerprint": encoder.card.fingerprint,
        "n_recordings": len(features.recordings),
        "n_windows": int(sum(map(len, features.windows))),
        "clips_of_a_class_for_shots_of_another_manifest": options.most,
        "episodes": options.episodes,
        "rows": measured,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
