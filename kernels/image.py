"""The picture stage: magnitudes to the encoder's input.

Everything after the transform that decides what the encoder sees lives here: row map, level scale, colour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mird.kernels.frontend import FrontEnd

TINY = 1e-12
"""Magnitudes below this are taken as this before the logarithm: -240 dB."""

N_COLOURS = 256
"""Entries of a colour map."""


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


def stretch(magnitudes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Magnitudes between each picture's own smallest and largest, range [0, 1]; 0 throughout where all are one."""
    low, high = (extreme(magnitudes, axis=(-2, -1), keepdims=True) for extreme in (np.min, np.max))
    span = np.where(high - low > TINY, high - low, np.float32(np.inf))
    stretched: NDArray[np.float32] = (magnitudes - low) / span
    return stretched


def row_map(n_scales: int, n_rows: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Which scales a picture's rows lie between, evenly in log frequency, edges on edges.

    Returns
    -------
    lower : NDArray[int64], shape (n_rows,)
        The scale above a row; the one below it is the next.
    share : NDArray[float32], shape (n_rows,), range [0, 1]
        Share of the scale below.
    """
    place = np.clip((np.arange(n_rows) + 0.5) * (n_scales / n_rows) - 0.5, 0, n_scales - 1)
    lower = np.minimum(place.astype(np.int64), max(0, n_scales - 2))
    return lower, (place - lower).astype(np.float32)


def map_rows(magnitudes: NDArray[np.float32], n_rows: int) -> NDArray[np.float32]:
    """Interpolate ``n_rows`` rows between the scales: shape (n, n_scales, columns) to (n, n_rows, columns)."""
    n_scales = magnitudes.shape[-2]
    if n_rows in (0, n_scales):
        return magnitudes
    lower, share = row_map(n_scales, n_rows)
    above = magnitudes[..., lower, :]
    below = magnitudes[..., np.minimum(lower + 1, n_scales - 1), :]
    mapped: NDArray[np.float32] = above + share[:, None] * (below - above)
    return mapped


def parula() -> NDArray[np.float32]:
    """Colour map of 256 entries from dark blue over azure, teal and green to yellow, like the paper's pictures.

    A smooth curve through eight colours chosen by eye, not a copy of the original's table; brightness rises throughout.

    Returns
    -------
    NDArray[float32], shape (256, 3), range [0, 1]
    """
    from scipy.interpolate import PchipInterpolator  # two thirds of the time that mird takes to start, and 25 MB

    places = np.array([0.0, 0.13, 0.3, 0.45, 0.58, 0.72, 0.86, 1.0])
    red = np.array([0.24, 0.28, 0.18, 0.08, 0.16, 0.52, 0.95, 0.98])
    green = np.array([0.15, 0.30, 0.52, 0.67, 0.75, 0.78, 0.77, 0.98])
    blue = np.array([0.66, 0.94, 0.97, 0.84, 0.63, 0.35, 0.22, 0.08])
    curve = PchipInterpolator(places, np.stack([red, green, blue], axis=-1))
    colours: NDArray[np.float32] = curve(np.linspace(0, 1, N_COLOURS)).astype(np.float32)
    return colours


def picture(magnitudes: NDArray[np.float32], front_end: FrontEnd) -> NDArray[np.float32]:
    """The encoder's input.

    Parameters
    ----------
    magnitudes : NDArray[float32], shape (n, n_scales, n_columns), >= 0
    front_end : FrontEnd

    Returns
    -------
    NDArray[float32], shape (n, 1 or 3, rows, columns), range [0, 1]
        Grey: 1 is the picture's peak; 0 is ``range_db`` below it or nothing at all (``db``), or the picture's smallest
        magnitude (``linear``). Otherwise red, green and blue of that.
    """
    rows = map_rows(magnitudes, front_end.n_rows)
    if front_end.magnitude == "linear":
        levels = stretch(rows)
    else:
        levels = decibels(rows, front_end.range_db)
        levels *= np.float32(1.0 / front_end.range_db)
        levels += np.float32(1.0)
        np.maximum(levels, 0, out=levels)  # where rounding fell short of it
    if front_end.colour == "grey":
        return levels[:, None]
    entries = np.minimum((levels * np.float32(N_COLOURS)).astype(np.intp), N_COLOURS - 1)
    return np.ascontiguousarray(np.moveaxis(parula()[entries], -1, 1))
