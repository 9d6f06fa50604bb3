"""Measuring: every system on the same episodes of every row of a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from mird.kernels.encoder import EncoderCard
from mird.kernels.similarity import Prototypes, judge, probabilities, prototypes
from mird.training.baselines import Peers
from mird.training.episodes import Episode, Pool, Tally, draw_episode, n_left, pooled, pools
from mird.training.errors import TrainingError
from mird.training.features import MFCC, PIXELS, Features, Vectors
from mird.training.fit import fit_whitening
from mird.training.manifest import Recording
from mird.training.suite import REST, Row

N_RESAMPLES = 1000
PEER_SHRINKAGE = 0.1
OTHER = {1: ", cosine", 2: ", L1"}
"""The comparison that stands beside the encoder's own, by the power of that one."""
WHITENED = ", whitened"

Compare = Callable[[Vectors, Prototypes], Vectors]


@dataclass(frozen=True)
class System:
    """Something that answers episodes: vectors of windows, and how alike they are.

    Attributes
    ----------
    name : str
        The same for the same recipe trained with several seeds.
    features : str
        Its key in :class:`Features`.
    prepare : callable
        Vectors to those that are averaged and compared.
    compare : callable (queries, prototypes) -> scores, shape (n_queries, way)
    """

    name: str
    features: str
    prepare: Callable[[Vectors], Vectors]
    compare: Compare


def encoder_systems(name: str, cards: Mapping[str, EncoderCard]) -> list[System]:
    """The encoder as it compares, and by the cosine or the L1, whichever that is not.

    The other has even weights and no background. ``cards`` has one entry for each seed.
    """

    def weighted(card: EncoderCard) -> Compare:
        return lambda queries, classes: probabilities(judge(queries, classes, card.head, card.background))

    found = [System(name, key, _same, weighted(card)) for key, card in cards.items()]
    other = {1: _cosine, 2: _l1}
    return found + [
        System(name + OTHER[card.head.power], key, _same, other[card.head.power]) for key, card in cards.items()
    ]


def baseline_systems(features: Features, peers: Peers, pool: Sequence[Recording]) -> list[System]:
    """Pixels, MFCC statistics and peers, compared by cosine after standardising with the training pool's clips.

    MFCC and peers come whitened, too, as the encoder does.
    """
    where = dict(zip(features.recordings, features.windows, strict=True))
    rows = [recording for recording in pool if recording in where and recording.is_instrument]
    numbers = [int(where[recording][0]) for recording in rows]
    systems = []
    if numbers:
        centre = features.clean[PIXELS][numbers].mean(0, dtype=np.float32)
        systems.append(System(PIXELS, PIXELS, lambda x: _unit(x.astype(np.float32) - centre), _cosine))
    for name in dict.fromkeys((MFCC, *peers.names)):
        known = [i for i, number in enumerate(numbers) if np.isfinite(features.clean[name][number]).all()]
        if len(known) < 2:
            continue
        found = features.clean[name][[numbers[i] for i in known]]
        mean, deviation = found.mean(0), found.std(0) + 1e-6
        systems.append(System(name, name, lambda x, m=mean, d=deviation: _unit((x - m) / d), _cosine))  # type: ignore[misc]
        chosen = [rows[i] for i in known]
        white = fit_whitening(found, [r.label for r in chosen], [r.source for r in chosen], PEER_SHRINKAGE)
        systems.append(System(name + WHITENED, name, white.apply, _cosine))
    return systems


def check_row(row: Row, recordings: Sequence[Recording], folder_rows: Mapping[str, Sequence[Recording]]) -> None:
    """Whether recordings are enough for a row if each can be used: no sound is read; TrainingError if they are not."""
    n_windows = 1 + max(row.shots) if row.each_window else 1  # how many a recording has is not known yet
    windows = {recording: np.arange(n_windows) for recording in recordings}
    for shot in row.shots:
        _pools_of(row, shot, windows, folder_rows)


def measure_row(
    row: Row,
    shot: int,
    features: Features,
    systems: Sequence[System],
    *,
    folder_rows: Mapping[str, Sequence[Recording]],
    episodes: int,
    seed: int,
) -> dict[str, Any]:
    """Answer one row's episodes at one number of shots, clean and live-like, with every system.

    Parameters
    ----------
    folder_rows : mapping of sequence of Recording by manifest
    episodes, seed : int
        Every system, and clean and live-like input, gets the same ones.

    Returns
    -------
    dict
        ``shot, way, episodes, systems, live, per_class, confusion, roc``; the last three are the first system's,
        pooled over its seeds of training.

    Raises
    ------
    TrainingError
        If the row's classes or takes are too few.
    """
    drawn, windows = _draw(row, shot, features, folder_rows, episodes, seed)
    tallies: dict[str, dict[str, list[Tally]]] = {"systems": {}, "live": {}}
    for system in systems:
        for kind, vectors in (("systems", features.clean), ("live", features.live)):
            if system.features not in vectors:
                continue
            tally = _answer(drawn, windows, system, features.clean[system.features], vectors[system.features])
            if tally is not None:
                tallies[kind].setdefault(system.name, []).append(tally)
    first = pooled(next(iter(tallies["systems"].values())))
    return {
        "shot": shot,
        "way": len(drawn[0].labels),
        "episodes": episodes,
        "per_class": first.per_class(),
        "confusion": {label: dict(sorted(counts.items())) for label, counts in sorted(first.confusion.items())},
        "roc": [first.known, first.strange] if first.strange else [[], []],
        **{
            kind: {name: summary(found, seed) for name, found in by_system.items()}
            for kind, by_system in tallies.items()
        },
    }


def summary(tallies: Sequence[Tally], seed: int) -> dict[str, Any]:
    """Accuracy and AUROC over seeds of training and episodes, each with a 95 % bootstrap interval over both."""
    rng = np.random.default_rng(seed)
    table = np.array([tally.accuracies for tally in tallies])
    n_seeds, n_episodes = table.shape
    draws = [
        (rng.integers(n_seeds, size=n_seeds), rng.integers(n_episodes, size=n_episodes)) for _ in range(N_RESAMPLES)
    ]
    means = [table[seeds][:, episodes].mean() for seeds, episodes in draws]
    found = {
        "n_seeds": n_seeds,
        "accuracy": float(table.mean()),
        "ci95": [float(value) for value in np.percentile(means, [2.5, 97.5])],
        "auroc_unknown": None,
        "auroc_unknown_ci95": None,
    }
    aurocs = [value for value in (tally.auroc_unknown() for tally in tallies) if value is not None]
    if aurocs:
        times = np.stack([np.bincount(episodes, minlength=n_episodes) for _, episodes in draws])
        areas = np.stack([resampled_aurocs(tally, times) for tally in tallies])
        means = [areas[seeds, number].mean() for number, (seeds, _) in enumerate(draws)]
        found["auroc_unknown"] = float(np.mean(aurocs))
        found["auroc_unknown_ci95"] = [float(value) for value in np.percentile(means, [2.5, 97.5])]
    return found


def resampled_aurocs(tally: Tally, times: NDArray[np.int64]) -> NDArray[np.float64]:
    """AUROC of a tally whose episodes count several times, or never.

    Every episode asks equally many known queries, and equally many unknown ones. The scores are sorted once, so that a
    resample costs sums alone.

    Parameters
    ----------
    times : NDArray[int64], shape (n_resamples, n_episodes)
        How often each episode counts.

    Returns
    -------
    NDArray[float64], shape (n_resamples,)
    """
    known, strange = np.array(tally.known), np.array(tally.strange)
    n_episodes = times.shape[1]
    asked_in, strange_in = (np.arange(len(scores)) * n_episodes // len(scores) for scores in (known, strange))
    order = np.argsort(strange)
    strange_in = strange_in[order]
    below, not_above = (np.searchsorted(strange[order], known, side) for side in ("left", "right"))
    areas = np.empty(len(times))
    for number, weights in enumerate(times):
        sums = np.concatenate([[0], np.cumsum(weights[strange_in])])
        counts = weights[asked_in]
        areas[number] = counts @ (sums[below] + sums[not_above]) / (2 * counts.sum() * sums[-1])
    return areas


@dataclass(frozen=True)
class _Pools:
    """What a row draws from: the windows of every clip, its known classes, and clips of queries and shots by class."""

    clips: list[NDArray[np.int64]]
    known: list[str]
    queries: dict[str, Pool]
    shots: dict[str, Pool]


def _pools_of(
    row: Row,
    shot: int,
    windows_of: Mapping[Recording, NDArray[np.int64]],
    folder_rows: Mapping[str, Sequence[Recording]],
) -> _Pools:
    """What a row draws from; TrainingError if that is too little."""
    clips: list[NDArray[np.int64]] = []
    owners: list[Recording] = []

    def gather(manifest: str, keep: Callable[[Recording], bool]) -> dict[str, Pool]:
        first = len(owners)
        for recording in folder_rows[manifest]:
            if not keep(recording) or recording not in windows_of:
                continue
            windows = windows_of[recording]
            parts = [windows[i : i + 1] for i in range(len(windows))] if row.each_window else [windows]
            clips.extend(parts)
            owners.extend(recording for _ in parts)
        numbers = range(first, len(owners))
        apart = [owners[i].source if row.other_sources else _take(owners[i]) for i in numbers]
        return pools(numbers, [owners[i].label for i in numbers], apart)

    queries = gather(row.queries, lambda r: not row.sources or r.source in row.sources)
    shots = queries
    if row.support:
        shots = gather(
            row.support,
            lambda r: (
                (not row.support_sources or r.source in row.support_sources) and r.source not in row.support_without
            ),
        )
    missing = [label for label in row.classes if label not in queries or label not in shots]
    missing += [label for label in row.unknown if label not in queries and label != REST]
    if missing:
        raise TrainingError(f"row {row.name!r}: class {', '.join(missing)} has no recording that can be used")
    both = row.classes or tuple(sorted(label for label in set(queries) & set(shots) if not label.startswith("_")))
    known = [label for label in both if label not in row.unknown]
    few = [k for k in known if min(n_left(shots[k], {take}) for take in set(queries[k].takes)) < shot]
    if few:
        raise TrainingError(
            f"row {row.name!r}: class {', '.join(few)} has too few clips for {shot} shots beside a query"
        )
    if len(known) < max(2, row.way):
        raise TrainingError(
            f"row {row.name!r}: needs {max(2, row.way)} classes with queries and support, "
            f"there are {len(known)}: {', '.join(known) or 'none'}"
        )
    return _Pools(clips, known, queries, shots)


def _draw(
    row: Row,
    shot: int,
    features: Features,
    folder_rows: Mapping[str, Sequence[Recording]],
    episodes: int,
    seed: int,
) -> tuple[list[Episode], list[NDArray[np.int64]]]:
    """The row's episodes, and for every clip that they name its windows."""
    found = _pools_of(row, shot, dict(zip(features.recordings, features.windows, strict=True)), folder_rows)
    known, queries, shots = found.known, found.queries, found.shots
    strangers = {label: queries[label] for label in row.unknown if label != REST}
    rng = np.random.default_rng(seed)
    way = row.way or len(known)
    drawn = []
    for _ in range(episodes):
        chosen = set(rng.permutation(known)[:way]) if row.unknown == (REST,) else set(known)
        unknown = {k: queries[k] for k in known if k not in chosen} if row.unknown == (REST,) else strangers
        drawn.append(
            draw_episode(
                rng,
                {k: shots[k] for k in known if k in chosen},
                {k: queries[k] for k in known if k in chosen},
                unknown,
                way,
                shot,
                apart=not row.other_sources,
            )
        )
    return drawn, found.clips


def _answer(
    drawn: Sequence[Episode], windows: Sequence[NDArray[np.int64]], system: System, shots: Vectors, asked: Vectors
) -> Tally | None:
    """One system's answers; None where it lacks the vectors of some window."""
    used = np.unique(np.concatenate([windows[c] for e in drawn for s in e.support for c in s]))
    queried = np.unique(np.concatenate([windows[c] for e in drawn for c, _ in e.queries]))
    if not (np.isfinite(shots[used]).all() and np.isfinite(asked[queried]).all()):
        return None
    support, query = system.prepare(shots[used]), system.prepare(asked[queried])
    place, spot = np.full(len(shots), -1), np.full(len(asked), -1)
    place[used], spot[queried] = np.arange(len(used)), np.arange(len(queried))
    tally = Tally()
    for episode in drawn:
        chosen = [(owner, clip) for owner, clips in enumerate(episode.support) for clip in clips.tolist()]
        owners = np.repeat([owner for owner, _ in chosen], [len(windows[clip]) for _, clip in chosen])
        recordings = np.repeat([clip for _, clip in chosen], [len(windows[clip]) for _, clip in chosen])
        shots_of = support[place[np.concatenate([windows[clip] for _, clip in chosen])]]
        classes = prototypes(episode.labels, shots_of, owners, recordings=recordings.tolist())
        clips = [windows[clip] for clip, _ in episode.queries]
        scores = system.compare(query[spot[np.concatenate(clips)]], classes)
        ends = np.cumsum([0, *map(len, clips)])[:-1]
        lengths = np.array([[len(clip)] for clip in clips], np.float32)
        tally.add(episode, np.asarray(np.add.reduceat(scores, ends, axis=0) / lengths, np.float32))
    return tally


def _take(recording: Recording) -> str:
    return recording.original_name or str(recording.path.resolve())


def _same(vectors: Vectors) -> Vectors:
    return vectors


def _unit(vectors: NDArray[np.floating]) -> Vectors:
    unit: Vectors = (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    return unit


def _cosine(queries: Vectors, classes: Prototypes) -> Vectors:
    return queries @ classes.vectors.T


def _l1(queries: Vectors, classes: Prototypes) -> Vectors:
    apart: Vectors = cdist(queries, classes.vectors, "cityblock").astype(np.float32)
    return -apart
