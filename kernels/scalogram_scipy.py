"""The band-limited Morse scalogram on NumPy and SciPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.morse import Morse

TOLERANCE = 1e-4
"""Filters are cut where they fall below this share of their peak."""

OVERSAMPLING = 1.35
"""Points of a band's grid at least this many times its bins: the magnitude is smoother than its samples."""

POINTS_PER_COLUMN = tuple(sorted({8 << k for k in range(12)} | {12 << k for k in range(12)}))
"""Allowed points per column: small factors, so that every FFT length is quick."""


@dataclass(frozen=True)
class Group:
    """Scales that share one FFT length.

    Attributes
    ----------
    rows : (first, last + 1) of the scales, highest frequency first
    points : grid points per column
    starts : first spectrum bin of each scale
    filters : per scale, its filter over the bins it covers, float32
    """

    rows: tuple[int, int]
    points: int
    starts: tuple[int, ...]
    filters: tuple[NDArray[np.float32], ...]


def plan_groups(morse: Morse, scales: NDArray[np.float64], window: int, n_columns: int) -> tuple[Group, ...]:
    """Choose grid and band of every scale; neighbours with one grid form a group."""
    low, high = morse.edge(TOLERANCE, upper=False), morse.edge(TOLERANCE, upper=True)
    spectrum_w = np.pi * np.arange(window) / window
    planned: list[tuple[int, int, NDArray[np.float32]]] = []
    for scale in scales:
        first = int(np.ceil(low / scale / np.pi * window))
        last = min(window, int(np.floor(high / scale / np.pi * window)) + 1)
        n_bins = last - first
        points = next(p for p in POINTS_PER_COLUMN if 2 * n_columns * p >= OVERSAMPLING * n_bins)
        response = morse.response(spectrum_w[first:last] * scale) / (2 * window)
        planned.append((points, first, response.astype(np.float32)))
    groups: list[Group] = []
    row = 0
    while row < len(planned):
        end = row
        while end < len(planned) and planned[end][0] == planned[row][0]:
            end += 1
        members = planned[row:end]
        groups.append(Group((row, end), planned[row][0], tuple(m[1] for m in members), tuple(m[2] for m in members)))
        row = end
    return tuple(groups)


class ScipyScalogram:
    """See :class:`mird.kernels.scalogram.Scalogram`. Holds the filter bank and its work space: one thread at a time."""

    name = "scipy"

    def __init__(self, front_end: FrontEnd) -> None:
        morse = Morse(front_end.gamma, front_end.time_bandwidth)
        scales = morse.scales(front_end.window, front_end.voices)
        if front_end.n_scales > len(scales):
            raise ParameterError(f"n_scales={front_end.n_scales} exceeds the {len(scales)} that a window of {front_end.window} resolves")
        scales = scales[: front_end.n_scales or None]
        self.frequencies_hz = morse.frequencies_hz(scales, front_end.rate_hz)
        self._window = front_end.window
        self._n_columns = front_end.n_columns
        self._n_scales = len(scales)
        self._groups = plan_groups(morse, scales, front_end.window, front_end.n_columns)

    def __call__(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        if windows.ndim != 2 or windows.shape[1] != self._window:
            raise ParameterError(f"windows have shape {windows.shape}, (n, {self._window}) is needed")
        if not np.isfinite(windows).all():
            raise ParameterError("windows hold a NaN or infinite sample; replace it before the transform")
        spectrum = scipy.fft.dct(windows.astype(np.float32, copy=False), type=2, axis=-1)
        out = np.empty((len(windows), self._n_scales, self._n_columns), np.float32)
        for group in self._groups:
            first, last = group.rows
            out[:, first:last] = self._transform(spectrum, group)
        return out

    def _transform(self, spectrum: NDArray[np.float32], group: Group) -> NDArray[np.float32]:
        n_points, n_columns = group.points, self._n_columns
        bands = np.zeros((len(spectrum), len(group.starts), 2 * n_columns * n_points), np.float32)
        for row, (start, response) in enumerate(zip(group.starts, group.filters, strict=True)):
            np.multiply(spectrum[:, start : start + len(response)], response, out=bands[:, row, : len(response)])
        waves = scipy.fft.rfft(bands, axis=-1, overwrite_x=True)
        parts = waves.view(np.float32)
        np.multiply(parts, parts, out=parts)
        size = np.sqrt(parts[..., 0::2] + parts[..., 1::2])
        # Trapezoid over each column, then one Euler-Maclaurin end correction; the slope at the window's edges is 0 by symmetry.
        body, ends = size[..., :-1], size[..., n_points::n_points]
        means = body.reshape(*body.shape[:-1], n_columns, n_points).sum(-1)
        means += 0.5 * (ends - body[..., ::n_points])
        slope = np.zeros((*means.shape[:-1], n_columns + 1), np.float32)
        slope[..., 1:-1] = size[..., n_points + 1 : -1 : n_points] - size[..., n_points - 1 : -n_points - 1 : n_points]
        means -= np.diff(slope, axis=-1) / 24
        means /= n_points
        return means
