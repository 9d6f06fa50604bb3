"""What is fitted on a finished network: whitening and projection, the comparison's weights, the threshold.

Within-class covariance normalisation (Hatch, Kajarekar and Stolcke 2006) takes out what varies between players and
rooms of one instrument; on unit vectors the weighted L1 of the paper then ranks much as the cosine does, which is a
little better and the default (model card).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.cluster.vq import kmeans2
from scipy.optimize import minimize
from scipy.special import expit

from mird.kernels.similarity import USUAL, Head, Prototypes, apart, judge, prototypes, second_look
from mird.training.episodes import Episode, Pool, draw_episode
from mird.training.errors import TrainingError
from mird.training.recipe import FitSettings

Array = NDArray[np.float64]

THRESHOLD_SHOTS = (1, 3, 5)
"""Shots of the episodes that the threshold is fitted on, in turn."""

PER_REPRESENTATIVE = 10
MAX_REPRESENTATIVES = 48


@dataclass(frozen=True)
class Whitening:
    """``(x - mean) @ matrix``: mean of shape (n_features,), matrix of shape (n_features, n_dims)."""

    mean: Array
    matrix: Array

    def apply(self, embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
        """Whitened unit vectors, shape (n, n_dims), of embeddings of shape (n, n_features), in their precision."""
        exact = np.result_type(embeddings, np.float32)
        turned = (embeddings - self.mean.astype(exact)) @ self.matrix.astype(exact)
        unit: NDArray[np.float32] = (turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32)
        return unit


def fit_whitening(
    embeddings: NDArray[np.floating],
    labels: Sequence[str],
    sources: Sequence[str],
    shrinkage: float,
    weights: NDArray[np.floating] | None = None,
) -> Whitening:
    """Within-class covariance normalisation, every (class, source) cell counting the same.

    What varies within a cell is measured from the cell's own centre: how sources of one class differ is not taken out,
    which cost more among recordings of one source than it gave across sources.

    Parameters
    ----------
    embeddings : NDArray[floating], shape (n, n_dims)
        Of training clips.
    labels, sources : sequence of str, one per clip
    shrinkage : float, range [0, 1]
        Towards a multiple of the identity.
    weights : NDArray[floating], shape (n,), optional
        As many times a clip counts; once, if left out.

    Raises
    ------
    TrainingError
        If what varies within the cells has no inverse: they are too few for the features, and nothing is shrunk.
    """
    # In the precision of what is given: in float64 the products take twice as long, for nothing.
    exact = np.result_type(embeddings, np.float32)
    weights = np.ones(len(embeddings)) if weights is None else weights
    mean = np.average(embeddings, 0, weights)
    deviation = np.sqrt(np.average((embeddings - mean.astype(exact)) ** 2, 0, weights)) + 1e-6
    scaled = (embeddings - mean.astype(exact)) / deviation.astype(exact)
    n_dims = scaled.shape[1]
    scatter, n_cells = np.zeros((n_dims, n_dims)), 0
    label_of, source_of = np.array(labels), np.array(sources)
    for label in np.unique(label_of):
        for source in np.unique(source_of[label_of == label]):
            rows = np.flatnonzero((label_of == label) & (source_of == source))
            scatter += _covariance(scaled[rows], weights[rows])
            n_cells += 1
    scatter /= n_cells
    scatter = (1 - shrinkage) * scatter + shrinkage * np.trace(scatter) / n_dims * np.eye(n_dims)
    # Of all that whiten, which differ by a turn, this one takes least; a full width's profile has 10,240 numbers.
    try:
        lower = linalg.cholesky(scatter, lower=True)
    except linalg.LinAlgError:
        raise TrainingError(
            f"{len(embeddings)} clips are too few to whiten {n_dims} features with shrinkage={shrinkage}; raise "
            "fit.shrinkage and fit.depth_shrinkage in the recipe, and go on with --resume"
        ) from None
    matrix = linalg.solve_triangular(lower, np.eye(n_dims), lower=True).T
    return Whitening(mean, matrix / deviation[:, None])


@dataclass(frozen=True)
class Projection:
    """From features of several depths of a network to the embedding that is shipped.

    Attributes
    ----------
    depths : tuple of Whitening
        Each gives unit vectors.
    lengths : tuple of float > 0, one per depth
        That its vectors get beside each other; their squares add up to 1.
    turn : NDArray[float64], shape (n_dims, n_dims)
        Orthogonal.
    centre : NDArray[float64], shape (n_dims,)
        Taken off the turned vectors, before they are brought to length one again.
    """

    depths: tuple[Whitening, ...]
    lengths: tuple[float, ...]
    turn: Array
    centre: Array

    def apply(self, features: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
        """Unit vectors, shape (n, n_dims), of each depth's features, shape (n, n_features)."""
        parts = [a * depth.apply(x) for depth, a, x in zip(self.depths, self.lengths, features, strict=True)]
        away = np.concatenate(parts, axis=1) @ self.turn - self.centre
        unit: NDArray[np.float32] = (away / np.linalg.norm(away, axis=1, keepdims=True)).astype(np.float32)
        return unit


def fit_projection(
    features: Sequence[NDArray[np.floating]],
    labels: Sequence[str],
    sources: Sequence[str],
    settings: FitSettings,
    weights: NDArray[np.floating] | None = None,
) -> Projection:
    """Whiten every depth, keep the axes along which training clips then differ most, turn all to random ones, centre.

    The cosine does not see the turning, but the weighted L1 does: along the scatter's own axes it counts the strongest
    differences too low, along random ones it ranks as the cosine within a point. What unit vectors of all instruments
    have in common, and the mean of several shots more than each of them, makes a class like whatever is asked. With it
    taken off, what is unknown stands apart.

    Parameters
    ----------
    features : sequence of NDArray[floating], each of shape (n, n_features)
        Of training clips: the embedding that the loss saw, then the stages before it, the last one first.
    labels, sources : sequence of str, one per clip
    settings : FitSettings
    weights : NDArray[floating], shape (n,), optional
        As of :func:`fit_whitening`.
    """
    weights = np.ones(len(labels)) if weights is None else weights
    shrinkage = (settings.shrinkage, *(settings.depth_shrinkage for _ in features[1:]))
    depths = []
    for found, towards in zip(features, shrinkage, strict=True):
        whitening = fit_whitening(found, labels, sources, towards, weights)
        n_features = found.shape[1]
        _, axes = linalg.eigh(
            _covariance(whitening.apply(found), weights),
            subset_by_index=(max(0, n_features - settings.depth_dims), n_features - 1),
        )
        depths.append(Whitening(whitening.mean, whitening.matrix @ axes))
    of_depths = np.array([1.0, *settings.depth_weights])
    n_dims = sum(depth.matrix.shape[1] for depth in depths)
    lengths = tuple((of_depths / np.linalg.norm(of_depths)).tolist())
    whole = Projection(tuple(depths), lengths, rotation(n_dims), np.zeros(n_dims))
    return replace(whole, centre=settings.centring * _mean(whole.apply(features), labels, sources, weights))


def _covariance(embeddings: NDArray[np.floating], weights: NDArray[np.floating]) -> Array:
    """How embeddings, shape (n, n_dims), that count ``weights`` times, vary together: shape (n_dims, n_dims)."""
    share = (weights / weights.sum()).astype(embeddings.dtype)
    away = (embeddings - share @ embeddings) * np.sqrt(share)[:, None]
    covariance: Array = (away.T @ away).astype(np.float64)
    return covariance


def _mean(
    embeddings: NDArray[np.float32], labels: Sequence[str], sources: Sequence[str], weights: NDArray[np.floating]
) -> Array:
    """The mean, shape (n_dims,), in which every (class, source) cell counts the same."""
    cells: dict[tuple[str, str], list[int]] = {}
    for row, cell in enumerate(zip(labels, sources, strict=True)):
        cells.setdefault(cell, []).append(row)
    centres = [np.average(embeddings[rows], 0, weights[rows]) for rows in cells.values()]
    mean: Array = np.mean(centres, axis=0, dtype=np.float64)
    return mean


def rotation(n_dims: int, seed: int = 0) -> Array:
    """A random orthogonal matrix, shape (n_dims, n_dims), always the same one."""
    matrix, upper = np.linalg.qr(np.random.default_rng(seed).standard_normal((n_dims, n_dims)))
    turned: Array = matrix * np.sign(np.diag(upper))
    return turned


def representatives(embeddings: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Few vectors in the place of many that belong together but are not alike, as those of speech are not.

    Parameters
    ----------
    embeddings : NDArray[float32], shape (n, n_dims)
        Unit vectors of one group.

    Returns
    -------
    NDArray[float32], shape (m, n_dims)
        Unit vectors: the centres of k-means, one for ten of the group, at least 1 and at most 48.
    """
    n_centres = min(MAX_REPRESENTATIVES, max(1, len(embeddings) // PER_REPRESENTATIVE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a centre was left without a vector, which is then left out
        _, owner = kmeans2(embeddings.astype(np.float64), n_centres, minit="++", seed=seed)
    centres = np.stack([embeddings[owner == each].mean(axis=0) for each in np.unique(owner)])
    unit: NDArray[np.float32] = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    return unit


@dataclass(frozen=True)
class Comparisons:
    """Queries against prototypes.

    Attributes
    ----------
    differences : NDArray[float32], shape (n, n_dims)
        Absolute ones, to the power that they are compared with.
    same : NDArray[bool], shape (n,)
        Whether a pair is of one instrument.
    averaging : NDArray[float32], shape (n,)
        Of the prototypes' recordings.
    power : {1, 2}
    """

    differences: NDArray[np.float32]
    same: NDArray[np.bool_]
    averaging: NDArray[np.float32]
    power: int = 1


def draw_comparisons(
    rng: np.random.Generator,
    embeddings: NDArray[np.float32],
    support: dict[str, Pool],
    query: dict[str, Pool],
    n_episodes: int,
    way: int,
    shots: Sequence[int],
    power: int,
) -> Comparisons:
    """Compare as users do: queries against prototypes of one shot or several, in episodes."""
    differences, same, averages = [], [], []
    take_of = _takes(support)
    for number in range(n_episodes):
        episode = draw_episode(rng, support, query, {}, way, shots[number % len(shots)])
        classes = _classes_of(episode, embeddings, take_of)
        for clip, truth in episode.queries:
            differences.append(apart(classes.vectors - embeddings[clip], power))
            same.append(np.arange(way) == truth)
            averages.append(classes.averaging)
    return Comparisons(np.concatenate(differences), np.concatenate(same), np.concatenate(averages), power)


def _takes(pools: dict[str, Pool]) -> dict[int, str]:
    """Of each clip the take."""
    return {clip: take for pool in pools.values() for clip, take in zip(pool.clips.tolist(), pool.takes, strict=True)}


def _classes_of(episode: Episode, embeddings: NDArray[np.float32], take_of: dict[int, str]) -> Prototypes:
    """The support set of an episode; clips of one take are one recording."""
    chosen = np.concatenate(episode.support)
    owner = np.repeat(np.arange(len(episode.labels)), [len(s) for s in episode.support])
    return prototypes(episode.labels, embeddings[chosen], owner, recordings=[take_of[clip] for clip in chosen])


def fit_gamma(pairs: Comparisons, stiffness: float) -> NDArray[np.float64]:
    """Weights of the differences by logistic regression, held near one common weight.

    Parameters
    ----------
    stiffness : float > 0
        Strength of the pull towards equal weights.

    Returns
    -------
    NDArray[float64], shape (n_dims,)
        Mean -1; only the ratios matter, :func:`calibrate` sets the size.
    """
    x, y = pairs.differences.astype(np.float64), pairs.same.astype(np.float64)
    weight = np.where(pairs.same, 0.5 / y.mean(), 0.5 / (1 - y.mean())) / len(y)
    n_dims = x.shape[1]

    def loss(values: Array) -> tuple[float, Array]:
        gamma, bias = values[:-1], values[-1]
        odds = x @ gamma + bias
        cost = float(weight @ (np.logaddexp(0.0, odds) - y * odds))
        slope = weight * (expit(odds) - y)
        spread = gamma - gamma.mean()
        gradient = np.append(x.T @ slope + 2 * stiffness * spread, slope.sum())
        return cost + stiffness * float(spread @ spread), gradient

    start = np.append(np.full(n_dims, -8.0 / max(float(x.sum(1).mean()), 1e-9)), 8.0)
    gamma: NDArray[np.float64] = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x[:-1]
    return gamma / -float(gamma.mean())


def calibrate(pairs: Comparisons, gamma: NDArray[np.float64]) -> Head:
    """Scale and bias so that P(same) is a probability where same and different are equally likely.

    It is one for a class of one recording as for one of many, by what the head's ``several`` takes off.
    """
    distance = pairs.differences.astype(np.float64) @ gamma
    # Where all classes have equally many recordings, the bias says it all.
    averages = pairs.averaging.astype(np.float64) * (np.ptp(pairs.averaging) > 0)
    known = np.stack([distance, np.ones_like(distance), -averages], axis=1)
    y = pairs.same.astype(np.float64)
    weight = np.where(pairs.same, 0.5 / y.mean(), 0.5 / (1 - y.mean())) / len(y)

    def loss(values: Array) -> tuple[float, Array]:
        odds = known @ values
        return float(weight @ (np.logaddexp(0.0, odds) - y * odds)), known.T @ (weight * (expit(odds) - y))

    scale, bias, several = minimize(loss, np.array([1.0, 0.0, 0.0]), jac=True, method="BFGS").x
    return Head((gamma * scale).astype(np.float32), float(bias), float(several), power=pairs.power)


def fit_attended(
    rng: np.random.Generator,
    embeddings: NDArray[np.float32],
    known: dict[str, Pool],
    head: Head,
    way: int,
    shots: Sequence[int],
    n_episodes: int = 400,
) -> float:
    """What the second look brings the right class, in logits and for very many recordings; 0 without attention."""
    more, share = [], []
    take_of = _takes(known)
    for number in range(n_episodes):
        episode = draw_episode(rng, known, known, {}, way, shots[number % len(shots)])
        classes = _classes_of(episode, embeddings, take_of)
        clips, truth = (np.array(each) for each in zip(*episode.queries, strict=True))
        more.append(second_look(embeddings[clips], truth, classes, replace(head, attended=0.0)))
        share.append(classes.averaging[truth] + USUAL)
    x, y = np.concatenate(share).astype(np.float64), np.concatenate(more).astype(np.float64)
    return float(x @ y / max(float(x @ x), 1e-12))


def fit_threshold(
    rng: np.random.Generator,
    embeddings: NDArray[np.float32],
    known: dict[str, Pool],
    folds: Sequence[tuple[dict[str, Pool], NDArray[np.float32]]],
    head: Head,
    way: int,
    shots: Sequence[int] = THRESHOLD_SHOTS,
    n_episodes: int = 400,
) -> float:
    """The best P(same) at which as many known queries are refused as unknown ones are named, range (0, 1).

    Unknown queries come from strangers in one episode and from the instruments outside its support set in the next;
    from strangers in all of them where there are no such instruments.

    Parameters
    ----------
    folds : sequence of (strangers, background)
        Sounds that are no instrument, by class, and the background that they meet, which is made of other classes: what
        a user's room holds is in no background either. Episodes take the folds in turn.
    """
    take_of = _takes(known)
    inside: list[float] = []
    outside: list[float] = []
    for number in range(n_episodes):
        strangers, background = folds[number // 2 % len(folds)]
        labels = sorted(known)
        order = rng.permutation(len(labels))
        left = {labels[i]: known[labels[i]] for i in order[:way]}
        others = {labels[i]: known[labels[i]] for i in order[way:]} if number % 2 and len(labels) > way else strangers
        episode = draw_episode(rng, left, left, others, min(way, len(left)), shots[number % len(shots)])
        classes = _classes_of(episode, embeddings, take_of)
        queries = embeddings[[clip for clip, _ in episode.queries]]
        odds = judge(queries, classes, head, background).max(axis=1)
        for (_, truth), best in zip(episode.queries, odds, strict=True):
            (outside if truth < 0 else inside).append(float(best))
    candidates = np.sort(np.concatenate([inside, outside]))
    refused = np.searchsorted(np.sort(inside), candidates) / len(inside)
    named = 1.0 - np.searchsorted(np.sort(outside), candidates) / len(outside)
    return float(expit(candidates[int(np.argmin(np.abs(refused - named)))]))
