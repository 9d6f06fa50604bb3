"""Evaluation of an engine through the recognizer that the daemon runs: N-way K-shot episodes over manifests.

No torch: what is measured is what is shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mird.kernels.recognizer import Recognizer
from mird.kernels.similarity import prototypes
from mird.kernels.windows import choose_windows
from mird.training.audio import fit_length, read_mono
from mird.training.episodes import Pool, Tally, draw_episode, n_left, pools
from mird.training.errors import TrainingError
from mird.training.manifest import Recording

WINDOWS_PER_CLIP = 8
"""A recording longer than a window counts through this many windows at most."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EvaluationSettings:
    """One evaluation.

    Attributes
    ----------
    way : int >= 2 or None
        Classes in an episode; None for all.
    shot, episodes : int > 0
    seed : int >= 0
    classes : tuple of str
        Classes that are drawn; empty for all instruments that have queries and support.
    unknown : tuple of str
        Classes that are asked and never in the support.
    other_sources : bool
        Shots never share the query's source, rather than its take.
    """

    way: int | None
    shot: int
    episodes: int
    seed: int
    classes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    other_sources: bool = False


@dataclass(frozen=True)
class Embedded:
    """Recordings with their embeddings.

    Attributes
    ----------
    recordings : tuple of Recording
    vectors : tuple of NDArray[float32], each of shape (n_windows, n_dims)
        Unit vectors, in the order of ``recordings``.
    silent : tuple of Recording
        Those that hold no sound and have no vectors.
    damaged : tuple of str
        A line for each that could not be read.
    """

    recordings: tuple[Recording, ...]
    vectors: tuple[NDArray[np.float32], ...]
    silent: tuple[Recording, ...] = ()
    damaged: tuple[str, ...] = ()

    def left_out(self) -> tuple[str, ...]:
        """A line for each recording that was left out."""
        silent = (f"left out, without sound: {recording.path}" for recording in self.silent)
        return (*(f"left out: {line}" for line in self.damaged), *silent)


def embed_recordings(
    recordings: Sequence[Recording],
    recognizer: Recognizer,
    progress: Progress | None = None,
    *,
    each_window: bool = False,
) -> Embedded:
    """Embed the windows that sound of every recording; those without sound, and damaged ones, are returned apart.

    With ``each_window`` every window counts as a recording of its own, of the same take, and there is no limit to them.
    """
    front_end = recognizer.card.front_end
    kept: list[Recording] = []
    vectors: list[NDArray[np.float32]] = []
    silent: list[Recording] = []
    damaged: list[str] = []
    for number, recording in enumerate(recordings, start=1):
        if progress:
            progress(number, len(recordings))
        try:
            samples = read_mono(recording.path, front_end.rate_hz)
        except TrainingError as error:
            damaged.append(str(error))
            continue
        n_max = max(1, 2 * len(samples) // front_end.window) if each_window else WINDOWS_PER_CLIP
        starts = choose_windows(samples, front_end.window, n_max)
        parts = [
            recognizer.embed(fit_length(samples[start : start + front_end.window], front_end.window)[None])
            for start in starts
        ]
        if each_window:
            kept.extend(recording for _ in parts)
            vectors.extend(parts)
        elif parts:
            kept.append(recording)
            vectors.append(np.concatenate(parts))
        if not parts:
            silent.append(recording)
    return Embedded(tuple(kept), tuple(vectors), tuple(silent), tuple(damaged))


def evaluate(
    query: Embedded, support: Embedded | None, recognizer: Recognizer, settings: EvaluationSettings
) -> dict[str, Any]:
    """Run the episodes.

    Parameters
    ----------
    query : Embedded
        Where queries, and queries of unknown classes, come from.
    support : Embedded or None
        Where support comes from; None: the same recordings as the queries, other takes.

    Returns
    -------
    dict
        ``way, shot, episodes, seed, accuracy, ci95, per_class, confusion, auroc_unknown``; accuracies are fractions.

    Raises
    ------
    TrainingError
        If a named class does not occur, or classes or takes are too few.

    Notes
    -----
    A clip's score is the mean of its windows' scores. Support never shares an original name (where the manifest gives
    none: a file) with its class's query, nor with any other query of the episode while its class has enough others.
    """
    shared = support is None or support is query
    rows = list(query.recordings) + ([] if support is None or shared else list(support.recordings))
    vectors = list(query.vectors) + ([] if support is None or shared else list(support.vectors))
    n_query = len(query.recordings)
    apart_by = "source" if settings.other_sources else "take"
    kept_apart = [
        row.source if settings.other_sources else row.original_name or str(row.path.resolve()) for row in rows
    ]
    queries = _pools(rows, kept_apart, range(n_query))
    shots = queries if shared else _pools(rows, kept_apart, range(n_query, len(rows)))
    strangers = _select(queries, settings.unknown, "unknown")
    both = sorted(label for label in set(queries) & set(shots) if not label.startswith("_"))
    known = tuple(label for label in dict.fromkeys(settings.classes or both) if label not in settings.unknown)
    queries, shots = _select(queries, known, "query"), _select(shots, known, "support")
    few = [label for label in known if _fewest(shots[label], queries[label]) < settings.shot]
    if few:
        raise TrainingError(
            f"class {', '.join(few)} has too few clips for {settings.shot} shots beside a query of another {apart_by}; "
            "lower --shot or leave it out of --classes"
        )
    way = settings.way or len(known)
    if way < 2:
        raise TrainingError(
            f"at least 2 classes are needed with queries and support, "
            f"there are {len(known)}: {', '.join(known) or 'none'}"
        )
    rng = np.random.default_rng(settings.seed)
    tally = Tally()
    for _ in range(settings.episodes):
        episode = draw_episode(rng, shots, queries, strangers, way, settings.shot, apart=not settings.other_sources)
        clips = [np.concatenate([vectors[i] for i in chosen]) for chosen in episode.support]
        owner = np.repeat(np.arange(way), [len(c) for c in clips])
        recordings = [clip for chosen in episode.support for clip in chosen.tolist() for _ in vectors[clip]]
        classes = prototypes(episode.labels, np.concatenate(clips), owner, recordings=recordings)
        scores = np.stack([recognizer.compare(vectors[clip], classes).mean(axis=0) for clip, _ in episode.queries])
        tally.add(episode, scores)
    return {
        "way": way,
        "shot": settings.shot,
        "episodes": settings.episodes,
        "seed": settings.seed,
        "accuracy": tally.accuracy(),
        "ci95": list(tally.interval()),
        "per_class": tally.per_class(),
        "confusion": {label: dict(sorted(counts.items())) for label, counts in sorted(tally.confusion.items())},
        "auroc_unknown": tally.auroc_unknown(),
    }


def _pools(rows: Sequence[Recording], kept_apart: Sequence[str], numbers: range) -> dict[str, Pool]:
    return pools(numbers, [rows[i].label for i in numbers], [kept_apart[i] for i in numbers])


def _fewest(support: Pool, query: Pool) -> int:
    """Support clips that the worst query leaves."""
    return min(n_left(support, {take}) for take in set(query.takes))


def _select(found: dict[str, Pool], labels: Sequence[str], what: str) -> dict[str, Pool]:
    missing = [label for label in labels if label not in found]
    if missing:
        raise TrainingError(
            f"class {', '.join(missing)} has no {what} recording; there are: {', '.join(sorted(found)) or 'none'}"
        )
    return {label: found[label] for label in labels}
