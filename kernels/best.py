"""The best few classes of each hop: all that comes back from a device, however large the support set is.

A device gives :data:`N_BEST` pairs of a class's number and its logit, the best first; the scores that the decision gets
are as long as the support set, with zero for all other classes. That is right where it matters: the decision looks at
the best smoothed score alone, and a class's smoothed score is never too high, and too low by at most what the last of
the best would be smoothed to. The winner could be another only where it leads by less than the class in the 129th place
has, which a class that reaches its threshold does not. A bound in the place of the zero, such as the last of the best,
would smooth classes towards scores that they never had, and frames that list many would show them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mird.kernels.errors import EngineError
from mird.kernels.similarity import probabilities

N_BEST: Final = 128
"""Classes that come back: a power of two, more than a frame lists (``top_k`` is 100 at most), so that support sets of
usual size come back whole; 64 channels are 64 kB."""


def best_pairs(odds: NDArray[np.float32], n_best: int = N_BEST) -> NDArray[np.float32]:
    """What ``cuda/best.cu`` gives, by NumPy.

    Parameters
    ----------
    odds : NDArray[float32], shape (n, n_classes)
        Logits.
    n_best : int > 0

    Returns
    -------
    NDArray[float32], shape (n, n_best, 2)
        Number and logit of the best classes, the best first, of equals the earlier; what is no number is before all.
        The number -1 stands where there are fewer classes.
    """
    pairs = np.zeros((len(odds), n_best, 2), np.float32)
    pairs[..., 0] = -1
    order = np.argsort(np.where(np.isnan(odds), -np.inf, -odds), axis=1, kind="stable")[:, :n_best]
    pairs[:, : order.shape[1], 0] = order
    pairs[:, : order.shape[1], 1] = np.take_along_axis(odds, order, axis=1)
    return pairs


def found_classes(pairs: NDArray[np.float32], n_classes: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Check what a device gave.

    Parameters
    ----------
    pairs : NDArray[float32], shape (n, n_best, 2)
        As :func:`best_pairs` gives them.
    n_classes : int
        Of the support set that they were found in.

    Returns
    -------
    numbers : NDArray[intp], shape (n, min(n_best, n_classes))
        Of the classes, the best first.
    odds : NDArray[float32], of the same shape

    Raises
    ------
    EngineError
        They hold what is no number, or no class of such a set.
    """
    kept = pairs[:, :n_classes]
    numbers, odds = kept[..., 0], kept[..., 1]
    if not np.isfinite(kept).all():
        raise EngineError("gave what is no number")
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < n_classes):
        raise EngineError(f"gave the classes {numbers.min():g} to {numbers.max():g} of {n_classes}")
    return numbers.astype(np.intp), odds


def spread(numbers: NDArray[np.intp], odds: NDArray[np.float32], n_classes: int) -> NDArray[np.float32]:
    """Scores of all classes out of the best few.

    Parameters
    ----------
    numbers, odds : NDArray, shape (n, n_found)
        As of :func:`found_classes`.
    n_classes : int

    Returns
    -------
    NDArray[float32], shape (n, n_classes), range [0, 1]
        P(same) of the best, zero of the others.
    """
    scores = np.zeros((len(numbers), n_classes), np.float32)
    np.put_along_axis(scores, numbers, probabilities(odds), axis=1)
    return scores
