"""The picture stage: magnitudes to the encoder's input.

Everything after the transform that decides what the encoder sees lives here: row map, level scale, colour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mird.kernels.frontend import FrontEnd

TINY = 1e-12
"""Magnitudes below this are taken as this before the logarithm: -240 dB."""


def decibels(magnitudes: NDArray[np.float32], range_db: float) -> NDArray[np.float32]:
    """Decibels below each picture's peak, cut at ``-range_db``.

    Parameters
    ----------
    magnitudes : NDArray[float32], shape (n, rows, columns), >= 0
    range_db : float > 0

    Returns
    -------
    NDArray[float32], shape (n, rows, columns), range [-range_db, 0]
        A picture without any sound is -range_db throughout.
    """
    peak = magnitudes.max(axis=(-2, -1), keepdims=True)
    floor = np.maximum(peak * np.float32(10.0 ** (-range_db / 20.0)), np.float32(TINY))
    levels: NDArray[np.float32] = np.maximum(magnitudes, floor)
    np.log10(levels / np.maximum(peak, floor), out=levels)
    levels *= np.float32(20.0)
    np.maximum(levels, np.float32(-range_db), out=levels)
    levels[np.broadcast_to(peak <= TINY, levels.shape)] = np.float32(-range_db)
    return levels


def picture(magnitudes: NDArray[np.float32], front_end: FrontEnd) -> NDArray[np.float32]:
    """The encoder's input.

    Parameters
    ----------
    magnitudes : NDArray[float32], shape (n, n_scales, n_columns), >= 0
    front_end : FrontEnd

    Returns
    -------
    NDArray[float32], shape (n, 1, rows, columns), range [0, 1]
        1 is the picture's peak, 0 is ``range_db`` below it or nothing at all.
    """
    levels = decibels(magnitudes, front_end.range_db)
    levels *= np.float32(1.0 / front_end.range_db)
    levels += np.float32(1.0)
    return levels[:, None]
