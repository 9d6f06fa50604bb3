"""One-shot comparison: how alike a query and every shot of the support set are.

P(same) = sigmoid(sum_j gamma_j |q_j - s_j|^power + bias), with power 1 in the paper (equation 2) and 2 in what mird
ships, which is the cosine's order where the weights are even; the class is the best over the support set (equation 3).
A class with several shots is compared through the mean of their embeddings, brought back to length one, and by a bias
that allows for how many recordings that mean is of. The best class is then looked at once more, through those of its
shots that the query is most like: that decides whether it is known, and leaves the order of the classes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mird.kernels.errors import ParameterError

USUAL = 0.4
"""Of :func:`averaging`: 1 - 1/n in the mean of one recording and five."""


@dataclass(frozen=True)
class Head:
    """The comparison's weights.

    Attributes
    ----------
    gamma : NDArray[float32], shape (n_dims,)
        Weight of each difference; negative where one speaks against "the same".
    bias : float
    several : float
        Logits that a class loses by being the mean of very many recordings in the place of one; see :func:`averaging`.
    attention : float >= 0
        How much more a shot counts the more it is like the query; see :func:`second_look`. 0: no second look.
    attended : float
        Logits that the second look brings the right class if it is of very many recordings.
    power : {1, 2}
        Of the absolute differences.
    """

    gamma: NDArray[np.float32]
    bias: float
    several: float = 0.0
    attention: float = 0.0
    attended: float = 0.0
    power: int = 1

    def of(self, differences: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, shape (...), of differences of either sign, shape (..., n_dims)."""
        return apart(differences, self.power) @ self.gamma + np.float32(self.bias)


def apart(differences: NDArray[np.float32], power: int) -> NDArray[np.float32]:
    """Absolute differences to the power 1 or 2, of the same shape."""
    found: NDArray[np.float32] = np.square(differences) if power == 2 else np.abs(differences)
    return found


@dataclass(frozen=True)
class Shots:
    """All shots of a support set, class by class.

    Attributes
    ----------
    vectors : NDArray[float32], shape (n_shots, n_dims)
        Unit vectors.
    weights : NDArray[float32], shape (n_shots,)
        What each counts for in its class, above 0.
    first : NDArray[integer], shape (n_classes + 1,)
        Where each class begins, and where the last one ends.
    """

    vectors: NDArray[np.float32]
    weights: NDArray[np.float32]
    first: NDArray[np.integer]

    def of(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors, shape (n, n_dims), and weights, shape (n,), of one class."""
        own = slice(self.first[number], self.first[number + 1])
        return self.vectors[own], self.weights[own]

    def without(self, classes: NDArray[np.bool_]) -> Shots:
        """No shots of some classes, shape (n_classes,), which are then looked at once."""
        if not classes.any():
            return self
        counts = np.diff(self.first) * ~classes
        rows = np.repeat(~classes, np.diff(self.first))
        return Shots(self.vectors[rows], self.weights[rows], np.cumsum([0, *counts]))


@dataclass(frozen=True)
class Prototypes:
    """A support set as the comparison needs it: one unit vector a class; swapped whole when a class is enrolled.

    Attributes
    ----------
    names : tuple of str
    vectors : NDArray[float32], shape (n_classes, n_dims)
    averaging : NDArray[float32], shape (n_classes,)
        Of each class's recordings; zeros where none is given.
    shots : Shots, optional
        That the vectors are the means of; without them there is no second look.
    """

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    averaging: NDArray[np.float32] = None  # type: ignore[assignment]  # never read: made as long as the names
    shots: Shots | None = None

    def __post_init__(self) -> None:
        if self.averaging is None:
            object.__setattr__(self, "averaging", np.zeros(len(self.names), np.float32))

    def only(self, numbers: Sequence[int]) -> Prototypes:
        """Some of the classes, in the order given."""
        kept = list(numbers)
        shots = self.shots
        if shots is not None:
            own = [np.arange(shots.first[number], shots.first[number + 1]) for number in kept]
            rows = np.concatenate([np.zeros(0, np.intp), *own])
            first = np.cumsum([0, *map(len, own)])
            shots = Shots(shots.vectors[rows], shots.weights[rows], first)
        return Prototypes(tuple(self.names[i] for i in kept), self.vectors[kept], self.averaging[kept], shots)


def averaging(n_recordings: NDArray[np.integer] | int) -> NDArray[np.float32]:
    """How much more than usual the mean of some recordings is an average: 0.6 - 1/n, range [-USUAL, 0.6).

    The mean of many is more like whatever is asked than a single recording is. Were nothing taken off for it, an
    instrument of one clip would hardly ever be named beside others of many. Usual, 0, is what one recording and five
    have in the mean.
    """
    return np.asarray(1.0 - 1.0 / np.asarray(n_recordings) - USUAL, np.float32)


def prototypes(
    names: tuple[str, ...],
    embeddings: NDArray[np.float32],
    owner: NDArray[np.integer],
    weights: NDArray[np.float32] | None = None,
    recordings: Sequence[Hashable] | None = None,
) -> Prototypes:
    """Average each class's shots.

    Parameters
    ----------
    names : tuple of str
    embeddings : NDArray[float32], shape (n_shots, n_dims)
        Unit vectors.
    owner : NDArray[integer], shape (n_shots,)
        Index into ``names`` of each shot.
    weights : NDArray[float32], shape (n_shots,), optional
        What each shot counts for, above 0; all the same by default.
    recordings : sequence, one per shot, optional
        Which recording each is of: windows of one are one recording. By default each is of one of its own.

    Raises
    ------
    ParameterError
        If a class has no shot.
    """
    n_dims = embeddings.shape[1]
    vectors = np.zeros((len(names), n_dims), np.float32)
    counts = np.ones(len(embeddings), np.float32) if weights is None else weights
    np.add.at(vectors, owner, embeddings * counts[:, None])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if len(names) and not lengths.all():
        raise ParameterError(f"class {names[int(np.argmin(lengths))]!r} has no shot")
    vectors /= lengths
    of = range(len(embeddings)) if recordings is None else recordings
    owners = [number for number, _ in set(zip(owner.tolist(), of, strict=True))]
    if (np.diff(owner) < 0).any():
        order = np.argsort(owner, kind="stable")
        embeddings, counts, owner = embeddings[order], counts[order], owner[order]
    shots = Shots(embeddings, counts, np.searchsorted(owner, np.arange(len(names) + 1)))
    return Prototypes(names, vectors, averaging(np.bincount(owners, minlength=len(names))), shots)


def logits(queries: NDArray[np.float32], vectors: NDArray[np.float32], head: Head) -> NDArray[np.float32]:
    """Logit of "the same instrument" for every pair.

    Parameters
    ----------
    queries : NDArray[float32], shape (n, n_dims)
    vectors : NDArray[float32], shape (m, n_dims)

    Returns
    -------
    NDArray[float32], shape (n, m)
    """
    if queries.shape[-1] != len(head.gamma) or vectors.shape[-1] != len(head.gamma):
        raise ParameterError(
            f"embeddings of {queries.shape[-1]} and {vectors.shape[-1]} numbers do not fit a head of {len(head.gamma)}"
        )
    if head.power == 2:
        weighted = queries * head.gamma
        of_query = (weighted * queries).sum(axis=1, keepdims=True) + np.float32(head.bias)
        found: NDArray[np.float32] = of_query - 2 * (weighted @ vectors.T) + np.square(vectors) @ head.gamma
        return found
    out = np.empty((len(queries), len(vectors)), np.float32)
    for row, query in enumerate(queries):
        out[row] = head.of(vectors - query)
    return out


def class_logits(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    head: Head,
    background: NDArray[np.float32],
    averages: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Logit of "the same instrument" for every query and class, with the background set against it.

    Parameters
    ----------
    queries : NDArray[float32], shape (n, n_dims)
    vectors : NDArray[float32], shape (n_classes, n_dims)
    head : Head
    background : NDArray[float32], shape (n_background, n_dims)
        Unit vectors of sounds that are no instrument. A class that is less like the query than the likest of them loses
        as much again as it is behind: the order of the classes stays, and noise is like none of them.
    averages : NDArray[float32], shape (n_classes,), optional
        As :class:`Prototypes` has them; at last the head's ``several`` is taken off so many times.

    Returns
    -------
    NDArray[float32], shape (n, n_classes)
    """
    odds = logits(queries, vectors, head)
    if len(background):
        nearest = logits(queries, background, head).max(axis=1, keepdims=True)
        odds -= np.maximum(nearest - odds, np.float32(0.0))
    if averages is not None:
        odds -= np.float32(head.several) * averages
    return odds


def second_look(
    queries: NDArray[np.float32], best: NDArray[np.integer], support: Prototypes, head: Head
) -> NDArray[np.float32]:
    """How many logits more a query's best class has, seen through those of its shots that the query is most like.

    Recordings of a class by several players, or of its several ways to sound, have a mean that is like none of them:
    what is known is less like it than it could be, and what is unknown is not. So each shot counts ``exp(attention *
    cosine)`` as much, as in matching networks (Vinyals et al. 2016), and what that brings a class of so many recordings
    as a rule is taken off: P(same) means the same for one of one shot. (Windows of one recording are so alike that it
    brings them little.) Were the classes ordered by this, too, those whose shots are of other players than what is
    asked would lose half a point (model card).

    Parameters
    ----------
    queries : NDArray[float32], shape (n, n_dims)
    best : NDArray[integer], shape (n,)
        Number of each query's best class.
    support : Prototypes
    head : Head

    Returns
    -------
    NDArray[float32], shape (n,)
        To be added to the logits of all classes.
    """
    more = np.zeros(len(queries), np.float32)
    if support.shots is None or not head.attention:
        return more
    for number in set(best.tolist()):
        vectors, weights = support.shots.of(number)
        if len(vectors) < 2:
            continue
        asked = best == number
        near = queries[asked]
        cosines = near @ vectors.T
        cosines -= cosines.max(axis=1, keepdims=True)  # the nearest shot counts its weight, however great the attention
        seen = (weights * np.exp(np.float32(head.attention) * cosines)) @ vectors
        seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), np.float32(1e-12))
        usual = head.attended * (support.averaging[number] + USUAL)
        more[asked] = head.of(seen - near) - head.of(support.vectors[number] - near) - usual
    return more


def judge(
    queries: NDArray[np.float32], support: Prototypes, head: Head, background: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Logit of "the same instrument" for every query and class: :func:`class_logits` and the second look.

    Parameters
    ----------
    queries : NDArray[float32], shape (n, n_dims)
    support : Prototypes
    head : Head
    background : NDArray[float32], shape (n_background, n_dims)

    Returns
    -------
    NDArray[float32], shape (n, n_classes)
    """
    odds = class_logits(queries, support.vectors, head, background, support.averaging)
    if odds.size:
        odds += second_look(queries, odds.argmax(axis=1), support, head)[:, None]
    return odds


def probabilities(odds: NDArray[np.float32]) -> NDArray[np.float32]:
    """P(same) of logits, same shape, range [0, 1]; unlike classes stay in their order, however small the numbers."""
    scores: NDArray[np.float32] = expit(odds)
    return scores
