"""The paper's test: rounds of two-way one-shot tasks on classes that a network was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mird.training.errors import TrainingError

N_ROUNDS, N_TASKS = 199, 50

Score = Callable[[NDArray[np.int64]], NDArray[np.floating]]
"""How alike pairs of clips are: numbers of shape (n, 2) to scores of shape (n,)."""


@dataclass(frozen=True)
class Outcome:
    """Shares of right answers: the mean over all tasks, which measures a network, and the luckiest round's."""

    mean: float
    best: float


def draw_tasks(
    rng: np.random.Generator, labels: Sequence[str], takes: Sequence[str], classes: Sequence[str], n: int
) -> NDArray[np.int64]:
    """Draw tasks: a query, a support clip of its class and of another take, and one of another class.

    Parameters
    ----------
    labels, takes : sequence of str, one per clip
    classes : sequence of str
        Test classes.

    Returns
    -------
    NDArray[int64], shape (n, 3)
        Numbers of query, right and wrong clip.

    Raises
    ------
    TrainingError
        If there are fewer than two classes, or one has a single take.
    """
    takes_of = np.array(takes)
    clips = {name: np.flatnonzero([label == name for label in labels]) for name in classes}
    poor = [name for name, found in clips.items() if len(set(takes_of[found])) < 2]
    if poor or len(clips) < 2:
        raise TrainingError(f"two-way tasks need two classes of two takes each; too few: {', '.join(poor or classes)}")
    names = sorted(clips)
    tasks = np.empty((n, 3), np.int64)
    for row in tasks:
        own, other = rng.permutation(len(names))[:2]
        query = rng.choice(clips[names[own]])
        mates = clips[names[own]][takes_of[clips[names[own]]] != takes_of[query]]
        row[:] = query, rng.choice(mates), rng.choice(clips[names[other]])
    return tasks


def run_rounds(tasks: NDArray[np.int64], score: Score, n_rounds: int = N_ROUNDS) -> Outcome:
    """Answer tasks, in rounds: right is a higher score for the query's own class, and a tie is half right."""
    own, other = score(tasks[:, :2]), score(tasks[:, ::2])
    right = (own > other) + 0.5 * (own == other)
    rounds = [float(part.mean()) for part in np.array_split(right, n_rounds)]
    return Outcome(float(right.mean()), max(rounds))


def cosine_score(vectors: NDArray[np.floating]) -> Score:
    """Cosine between rows of vectors."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return lambda pairs: np.einsum("nd,nd->n", unit[pairs[:, 0]], unit[pairs[:, 1]])


def distance_score(vectors: NDArray[np.generic]) -> Score:
    """Less the Euclidean distance between rows of vectors: nearest neighbour."""

    def score(pairs: NDArray[np.int64]) -> NDArray[np.floating]:
        parts = np.array_split(pairs, max(1, len(pairs) // 256))
        return np.concatenate(
            [
                -np.linalg.norm(vectors[p[:, 0]].astype(np.float32) - vectors[p[:, 1]].astype(np.float32), axis=1)
                for p in parts
            ]
        )

    return score
