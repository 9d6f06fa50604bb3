"""A suite from its folder of recordings to results: reads, computes features once, measures row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mird.kernels.encoder import Encoder
from mird.training.baselines import Peers
from mird.training.errors import TrainingError
from mird.training.features import Features, compute_features
from mird.training.manifest import Recording, read_manifest
from mird.training.measure import baseline_systems, check_row, encoder_systems, measure_row
from mird.training.suite import REST, Row, Suite

Progress = Callable[[int, int, str], None]
N_TIMED = 200


def run_suite(
    suite: Suite,
    folder: Path,
    weights: Mapping[str, Mapping[str, Encoder]],
    peers: Peers,
    *,
    episodes: int,
    seed: int,
    live: bool,
    progress: Progress,
) -> tuple[dict[str, Any], Features]:
    """Measure every row for whose weights there is an encoder.

    Parameters
    ----------
    folder : Path
        Holds the suite's manifests.
    weights : mapping of mapping of Encoder
        By the rows' name of weights, then by a name of its own for each seed of training.

    Returns
    -------
    results : dict
        ``suite, episodes, seed, engines, rows, broken, silent``, each row with its fields and, by shots, its figures;
        ``not_measured`` has ``shot`` and ``why`` where damaged and silent clips left too few.
    features : Features

    Raises
    ------
    TrainingError
        If a manifest cannot be read, a row's classes or takes are too few (before any sound is read), or no row can be
        measured.
    """
    asked = [row for row in suite.rows if row.weights in weights]
    if not asked:
        raise TrainingError(f"suite {suite.name}: no row is for the weights {', '.join(sorted(weights))}")
    manifests = sorted({name for row in asked for name in (row.queries, row.support) if name} | {suite.pool.manifest})
    rows_of = {name: read_manifest(folder / name) for name in manifests}
    wanted = {
        recording: None for name in manifests for recording in rows_of[name] if _used(recording, name, suite, asked)
    }
    for row in asked:
        check_row(row, tuple(wanted), rows_of)
    encoders = {key: encoder for by_seed in weights.values() for key, encoder in by_seed.items()}
    features = compute_features(
        tuple(wanted),
        encoders,
        folder,
        peers,
        live=live,
        seed=seed,
        progress=lambda done, total: progress(done, total, "computing features"),
    )
    pool = [r for r in rows_of[suite.pool.manifest] if r.source not in suite.pool.without]
    tasks = [(row, shot) for row in asked for shot in row.shots]
    baselines = {name: baseline_systems(features, peers, _apart(pool, asked, name)) for name in weights}
    measured: dict[int, list[dict[str, Any]]] = {}
    missed: dict[int, list[dict[str, Any]]] = {}
    for done, (row, shot) in enumerate(tasks):
        progress(done, len(tasks), f"{row.name}, {shot} shots")
        cards = {key: encoder.card for key, encoder in weights[row.weights].items()}
        systems = [*encoder_systems("mird", cards), *baselines[row.weights]]
        try:
            figures = measure_row(row, shot, features, systems, folder_rows=rows_of, episodes=episodes, seed=seed)
            measured.setdefault(id(row), []).append(figures)
        except TrainingError as error:  # damaged and silent clips left too few: the other rows stand
            missed.setdefault(id(row), []).append({"shot": shot, "why": str(error)})
    if not measured:
        n_left_out = len(features.broken) + len(features.silent)
        first = next(iter(missed.values()))[0]["why"]
        raise TrainingError(f"no row can be measured, with {n_left_out} clips damaged or without sound: {first}")
    progress(len(tasks), len(tasks), "done")
    results = {
        "suite": suite.name,
        "live_limit": suite.live_limit,
        "episodes": episodes,
        "seed": seed,
        "engines": [
            engine(name, key, encoder) for name, by_seed in weights.items() for key, encoder in by_seed.items()
        ],
        "rows": [
            {**asdict(row), "figures": measured.get(id(row), []), "not_measured": missed.get(id(row), [])}
            for row in suite.rows
        ],
        "broken": list(features.broken),
        "silent": list(features.silent),
    }
    return results, features


def engine(name: str, file: str, encoder: Encoder) -> dict[str, Any]:
    """What is known of one encoder: name, fingerprint, megabytes, and milliseconds for a picture, one at a time."""
    front_end = encoder.card.front_end
    pictures = np.random.default_rng(0).random((1, 1, front_end.n_rows or front_end.n_scales, front_end.n_columns))
    one = pictures.astype(np.float32)
    encoder(one)
    times = []
    for _ in range(N_TIMED):
        begin = time.perf_counter()
        encoder(one)
        times.append(time.perf_counter() - begin)
    return {
        "weights": name,
        "file": file,
        "name": encoder.card.name,
        "fingerprint": encoder.card.fingerprint,
        "back_end": encoder.name,
        "megabytes": Path(file).stat().st_size / 1e6,
        "milliseconds": 1000 * float(np.median(times)),
    }


def _used(recording: Recording, manifest: str, suite: Suite, rows: Sequence[Row]) -> bool:
    """Whether a row, or the training pool, needs a recording."""
    if manifest == suite.pool.manifest and recording.source not in suite.pool.without and recording.is_instrument:
        return True
    for row in rows:
        named = not row.classes or recording.label in row.classes or recording.label in row.unknown
        if row.queries == manifest and named and (not row.sources or recording.source in row.sources):
            return True
    return any(row.support == manifest and recording.label in (row.classes or (recording.label,)) for row in rows)


def _apart(pool: Sequence[Recording], rows: Sequence[Row], weights: str) -> list[Recording]:
    """The pool without the classes of rows whose weights never saw them: baselines may not, either."""
    if weights == "default":
        return list(pool)
    away = {label for row in rows if row.weights == weights for label in (*row.classes, *row.unknown) if label != REST}
    return [recording for recording in pool if recording.label not in away]
