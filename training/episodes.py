"""Few-shot episodes: which clips are support and which are query, and what came out of it.

Arrays in, numbers out; no sound, no networks. A clip is known by its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mird.training.errors import TrainingError


@dataclass(frozen=True)
class Pool:
    """Clips of one class to draw from, by take; two clips of one take are never support and query of each other.

    Attributes
    ----------
    label : str
    clips : NDArray[int64], shape (n,)
    takes : tuple of str, one per clip
    """

    label: str
    clips: NDArray[np.int64]
    takes: tuple[str, ...]


@dataclass(frozen=True)
class Episode:
    """One task: ``support[k]`` are the clips of ``labels[k]``; a query is a clip and its index in labels, or -1."""

    labels: tuple[str, ...]
    support: tuple[NDArray[np.int64], ...]
    queries: tuple[tuple[int, int], ...]


def pools(clips: Sequence[int], labels: Sequence[str], takes: Sequence[str]) -> dict[str, Pool]:
    """Group clips by class; the three sequences run in parallel."""
    rows: dict[str, list[tuple[int, str]]] = {}
    for clip, label, take in zip(clips, labels, takes, strict=True):
        rows.setdefault(label, []).append((clip, take))
    return {
        label: Pool(label, np.array([c for c, _ in found]), tuple(t for _, t in found)) for label, found in rows.items()
    }


def draw_episode(
    rng: np.random.Generator,
    support: dict[str, Pool],
    query: dict[str, Pool],
    unknown: dict[str, Pool],
    way: int,
    shot: int,
    *,
    apart: bool = False,
) -> Episode:
    """Draw one task: ``way`` classes with ``shot`` support clips and one query each, and as many unknown queries.

    Support clips come from different takes while there are enough, and none from the take of their class's query.

    Parameters
    ----------
    rng : numpy.random.Generator
    support, query, unknown : dict of Pool by class
        Where shots, queries, and queries of no class are drawn from; ``unknown`` may be empty.
    way, shot : int > 0
    apart : bool
        Take none from the other queries' takes either, in classes that have enough others.

    Raises
    ------
    TrainingError
        If there are fewer classes than ``way``, or a class has too few takes.
    """
    labels = sorted(set(support) & set(query))
    if len(labels) < way:
        raise TrainingError(
            f"{way}-way needs {way} classes with support and queries, "
            f"there are {len(labels)}: {', '.join(labels) or 'none'}"
        )
    chosen = [labels[i] for i in rng.permutation(len(labels))[:way]]
    shots, queries, asked, used = [], [], [], []
    for index, label in enumerate(chosen):
        pool = query[label]
        number = int(rng.integers(len(pool.clips)))
        queries.append((int(pool.clips[number]), index))
        asked.append(pool.takes[number])
        clips, takes = _draw_shots(rng, support[label], shot, {pool.takes[number]})
        shots.append(clips)
        used.append(takes)
    if unknown:
        strangers = sorted(unknown)
        for _ in range(way):
            pool = unknown[strangers[int(rng.integers(len(strangers)))]]
            clip = int(rng.choice(pool.clips))
            queries.append((clip, -1))
            asked.append(pool.takes[int(np.flatnonzero(pool.clips == clip)[0])])
    if apart:
        avoided = set(asked)
        for index, label in enumerate(chosen):
            if used[index] & avoided and n_left(support[label], avoided) >= shot:
                shots[index], _ = _draw_shots(rng, support[label], shot, avoided)
    return Episode(tuple(chosen), tuple(shots), tuple(queries))


def n_left(pool: Pool, avoided: AbstractSet[str]) -> int:
    """Clips of a pool beside those of some takes."""
    return sum(take not in avoided for take in pool.takes)


def _draw_shots(
    rng: np.random.Generator, pool: Pool, shot: int, avoided: AbstractSet[str]
) -> tuple[NDArray[np.int64], set[str]]:
    """Shots of a class, and the takes that they are of."""
    by_take: dict[str, list[int]] = {}
    for clip, take in zip(pool.clips, pool.takes, strict=True):
        if take not in avoided:
            by_take.setdefault(take, []).append(int(clip))
    if n_left(pool, avoided) < shot:
        raise TrainingError(f"class {pool.label!r} has too few clips for {shot} shots beside a query of another take")
    names = sorted(by_take)
    takes = [by_take[name] for name in names]
    order = rng.permutation(len(takes))
    picked: list[int] = []
    used: set[str] = set()
    depth = [rng.permutation(len(take)) for take in takes]
    layer = 0
    while len(picked) < shot:
        for index in order:
            if layer < len(takes[index]) and len(picked) < shot:
                picked.append(takes[index][int(depth[index][layer])])
                used.add(names[index])
        layer += 1
    return np.array(picked), used


@dataclass
class Tally:
    """Adds episodes up."""

    accuracies: list[float] = field(default_factory=list)
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)
    known: list[float] = field(default_factory=list)
    strange: list[float] = field(default_factory=list)

    def add(self, episode: Episode, scores: NDArray[np.float32]) -> None:
        """Count one episode.

        Parameters
        ----------
        scores : NDArray[float32], shape (n_queries, way)
            P(same) of each query and class, in the episode's order.
        """
        right = []
        for (_, truth), row in zip(episode.queries, scores, strict=True):
            best = int(np.argmax(row))
            if truth < 0:
                self.strange.append(float(row[best]))
                continue
            self.known.append(float(row[best]))
            right.append(best == truth)
            counts = self.confusion.setdefault(episode.labels[truth], {})
            counts[episode.labels[best]] = counts.get(episode.labels[best], 0) + 1
        self.accuracies.append(float(np.mean(right)))

    def accuracy(self) -> float:
        """Mean over episodes, fraction."""
        return float(np.mean(self.accuracies))

    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean over episodes, fractions."""
        mean = self.accuracy()
        if len(self.accuracies) < 2:
            return (0.0, 1.0)
        half = 1.96 * float(np.std(self.accuracies, ddof=1)) / len(self.accuracies) ** 0.5
        return (max(0.0, mean - half), min(1.0, mean + half))

    def per_class(self) -> dict[str, float]:
        """Share of each class's queries that were right."""
        return {label: counts.get(label, 0) / sum(counts.values()) for label, counts in sorted(self.confusion.items())}

    def auroc_unknown(self) -> float | None:
        """Area under the ROC of "known" by the best P(same); None where no unknown query was asked."""
        return auroc(np.array(self.known), np.array(self.strange)) if self.strange else None


def pooled(tallies: Sequence[Tally]) -> Tally:
    """Several tallies as one: every answer counts once."""
    one = Tally()
    for tally in tallies:
        one.accuracies += tally.accuracies
        one.known += tally.known
        one.strange += tally.strange
        for label, counts in tally.confusion.items():
            into = one.confusion.setdefault(label, {})
            for other, n in counts.items():
                into[other] = into.get(other, 0) + n
    return one


def auroc(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> float:
    """Probability that a positive scores above a negative, ties counting half."""
    from scipy.stats import mannwhitneyu

    statistic = mannwhitneyu(positives, negatives).statistic
    return float(statistic / (len(positives) * len(negatives)))
