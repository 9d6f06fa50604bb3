"""An instrument of one clip beside others of many: how often it is the best class, and the others still are.

``python tests/benchmarks/bench_one_clip.py MANIFEST.csv`` writes ``results/one_clip.json``; with ``--engine
holdout/encoder-int8.onnx --new banjo,electric-piano,english-horn,guitar-electric,marimba,saxophone-tenor,snare-drum,\
triangle,vibraphone,voice --out results/one_clip_never_trained.json`` it is of instruments that were never trained.

The support set holds instruments of vsco2, which no weight has heard, by fifteen clips each, and one instrument more by
1, 3 or 15. Each is asked for once an episode, by a clip of another take. The instrument more is one of vsco2
itself, or with ``--new`` one of these classes, of any source: with the weights of the recipe ``holdout`` those never
trained. Once with what the comparison takes off for the mean of several recordings, and once without. Intervals (95 %)
are over episodes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mird.daemon.assembly import open_engine
from mird.daemon.settings import Settings
from mird.kernels.recognizer import Recognizer
from mird.kernels.similarity import prototypes
from mird.training.evaluate import embed_recordings
from mird.training.manifest import Recording, read_manifest

RESULTS = Path(__file__).with_name("results") / "one_clip.json"
SOURCE = "vsco2"
MANY = 15
N_CLIPS = (1, 3, MANY)

Clips = dict[str, list[tuple[str, NDArray[np.float32]]]]  # by class: take and windows, shape (n_windows, n_dims)


def clips_of(rows: list[Recording], recognizer: Recognizer) -> Clips:
    """Classes with enough clips."""
    embedded = embed_recordings(rows, recognizer)
    found: Clips = {}
    for row, vectors in zip(embedded.recordings, embedded.vectors, strict=True):
        found.setdefault(row.label, []).append((row.take, vectors))
    return {label: clips for label, clips in sorted(found.items()) if len(clips) > MANY + 4}


def episode(
    rng: np.random.Generator, many: Clips, new: Clips, n_clips: int, recognizer: Recognizer
) -> dict[str, float]:
    """Share of right answers: for the new instrument and for the others, with it and without."""
    label = sorted(new)[int(rng.integers(len(new)))]
    asked, shots, owner, recordings = [], [], [], []
    names = (label, *(name for name in many if name != label))
    for number, name in enumerate(names):
        clips = new[label] if name == label else many[name]
        take, query = clips[int(rng.integers(len(clips)))]
        asked.append(query)
        others = [vectors for other, vectors in clips if other != take]
        for clip in rng.permutation(len(others))[: n_clips if name == label else MANY]:
            shots.append(others[clip])
            owner += [number] * len(others[clip])
            recordings += [(number, int(clip))] * len(others[clip])
    allowed_for = prototypes(names, np.concatenate(shots), np.array(owner), recordings=recordings)
    found = {}
    for what, classes in (
        ("with", allowed_for),
        ("without", replace(allowed_for, averaging=np.zeros(len(names), np.float32))),
    ):
        answers = [int(recognizer.compare(query, classes).mean(axis=0).argmax()) for query in asked]
        right = np.array(answers) == np.arange(len(names))
        found[f"new, {what}"], found[f"others, {what}"] = float(right[0]), float(right[1:].mean())
    return found


def measure(manifest: Path, recognizer: Recognizer, new: tuple[str, ...], n_episodes: int) -> dict[str, Any]:
    """Per cent and half the width of its interval, by how many clips the new instrument has."""
    rows = read_manifest(manifest)
    many = clips_of([row for row in rows if row.source == SOURCE and row.is_instrument], recognizer)
    others = clips_of([row for row in rows if row.label in new], recognizer) if new else many
    table: dict[str, Any] = {}
    for n_clips in N_CLIPS:
        rng = np.random.default_rng(0)
        found = [episode(rng, many, others, n_clips, recognizer) for _ in range(n_episodes)]
        table[str(n_clips)] = {
            what: [
                round(100 * float(np.mean([each[what] for each in found])), 1),
                round(196 * float(np.std([each[what] for each in found], ddof=1)) / n_episodes**0.5, 1),
            ]
            for what in found[0]
        }
    return {"instruments": len(many), "new": sorted(others), "clips": table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--engine", default="")
    parser.add_argument("--new", default="", help="classes, with commas between")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    recognizer = Recognizer(open_engine(Settings(engine=args.engine)))
    new = tuple(name for name in args.new.split(",") if name)
    found = {
        "encoder": recognizer.card.fingerprint,
        "episodes": args.episodes,
        **measure(args.manifest, recognizer, new, args.episodes),
    }
    print(json.dumps(found, indent=1))
    args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
