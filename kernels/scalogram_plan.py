"""The plan of a band-limited scalogram: for every scale its band of the spectrum and the grid it is evaluated on.

Every back end follows one plan, so that all of them compute the same numbers. A scale's filter covers a short band of
the window's DCT-II; a grid of ``points`` points in each column, the first half a step behind its edge, covers the
window. On that grid the window's mirror image holds the same magnitudes between the points of the window, so that a
complex FFT of ``n_columns * points``, every other point of both together, gives them all. Scales that are neighbours
share a grid where one FFT length for all of them is cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.morse import Morse

TOLERANCE = 1e-4
"""Filters are cut where they fall below this share of their peak; at 1e-3 cells 60 dB down would move by up to 6 dB."""

ENOUGH_POINTS = 2.1
"""Points per column that a band one cycle wide in a column needs for the mean over the cusps of its magnitude."""

SHARING = 0.84
"""Power of the cycles that the points grow with: in a wider band each column has more cusps, whose errors cancel."""

OVERSAMPLING = 1.03
"""Points of a grid, mirror image included, for each bin of its band, at the very least: nothing may fold over."""

LEAST_POINTS = 4
"""Points per column at least; half of them for bands of less than NARROW cycles, whose magnitude hardly bends there."""

NARROW = 0.36
"""Cycles in a column."""

LANES = 8
"""Transforms of one length that the FFT libraries do best with; a long one fills the cache with half as many."""

LONG = 10_000
"""Length of a long transform."""

END_CORRECTION = 1.0 / 24.0
"""The midpoint rule's first end correction, h^2 / 24 f', with h f' as the difference across a column's edge."""


@dataclass(frozen=True)
class Group:
    """Scales that share one grid.

    Attributes
    ----------
    rows : (first, last + 1) of the scales, highest frequency first
    points : grid points per column, even
    starts : first spectrum bin of each scale
    filters : per scale, its filter over the bins it covers, NDArray[float64], range [0, 1 / window]
    """

    rows: tuple[int, int]
    points: int
    starts: tuple[int, ...]
    filters: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class Plan:
    """All groups of one front end.

    Attributes
    ----------
    window, n_columns, n_scales : int
        As in the front end, with ``n_scales`` resolved to the number of rows.
    frequencies_hz : NDArray[float64], shape (n_scales,)
        Peak frequency of each row, highest first.
    groups : tuple of Group
        In the order of the rows.
    """

    window: int
    n_columns: int
    n_scales: int
    frequencies_hz: NDArray[np.float64]
    groups: tuple[Group, ...]

    def length(self, group: Group) -> int:
        """FFT length of a group, complex: every other point of the grid over the window and its mirror image."""
        return self.n_columns * group.points

    @property
    def n_points(self) -> int:
        """Complex FFT points of one window, all scales together."""
        return sum(len(group.starts) * self.length(group) for group in self.groups)


def make_plan(front_end: FrontEnd, first_row: int = 0) -> Plan:
    """Bands and grids of a Morse front end.

    Parameters
    ----------
    front_end : FrontEnd
    first_row : int >= 0
        Scales to leave out at the highest frequencies; the plan's own rows begin at 0 all the same.

    Raises
    ------
    ParameterError
        If the front end asks for another transform, for no scale at all or for more than the window resolves.
    """
    if front_end.transform != "morse":
        raise ParameterError(f"transform={front_end.transform!r} has no scalogram; 'morse' is needed")
    morse = Morse(front_end.gamma, front_end.time_bandwidth)
    window, n_columns = front_end.window, front_end.n_columns
    scales = morse.scales(window, front_end.voices)
    if front_end.n_scales > len(scales):
        raise ParameterError(
            f"n_scales={front_end.n_scales} exceeds the {len(scales)} that window={window} samples resolve"
        )
    scales = scales[first_row : front_end.n_scales or None]
    low, high = (morse.edge(TOLERANCE, upper=upper) * window / np.pi for upper in (False, True))
    firsts = np.ceil(low / scales).astype(int)
    lasts = np.minimum(window, np.floor(high / scales).astype(int) + 1)
    # A band that ends at the window's last bin needs the grid of a whole one.
    cycles = (high - low) / scales / (2 * n_columns)
    enough = np.maximum(ENOUGH_POINTS * cycles**SHARING, np.where(cycles < NARROW, LEAST_POINTS // 2, LEAST_POINTS))
    needed = np.maximum(enough, OVERSAMPLING * (lasts - firsts) / (2 * n_columns))
    groups = []
    for first, last, points in group_rows(needed, n_columns):
        filters = [
            morse.response(np.arange(firsts[row], lasts[row]) * (np.pi / window * scales[row])) / (2 * window)
            for row in range(first, last)
        ]
        groups.append(Group((first, last), points, tuple(firsts[first:last].tolist()), tuple(filters)))
    frequencies_hz = morse.frequencies_hz(scales, front_end.rate_hz)
    return Plan(window, n_columns, len(scales), frequencies_hz, tuple(groups))


def half_step(n_bins: int, length: int) -> NDArray[np.complex128]:
    """Factors for the bins of a band that move the grid of an FFT of ``length`` by half a step."""
    turns: NDArray[np.complex128] = np.exp(-0.5j * np.pi / length * np.arange(n_bins))
    return turns


def group_rows(needed: NDArray[np.float64], length_per_point: int) -> list[tuple[int, int, int]]:
    """Cut the rows into groups of one grid each, at the least cost.

    Parameters
    ----------
    needed : NDArray[float64], shape (n_scales,)
        Points per column that each row needs.
    length_per_point : int
        FFT length for one point per column.

    Returns
    -------
    list of (first row, last row + 1, points per column)
    """
    allowed = 2 * smooth_numbers(int(needed.max()) + LEAST_POINTS)
    best = [0.0] + [np.inf] * len(needed)
    cut = [(0, 0)] * (len(needed) + 1)
    for first in range(len(needed)):
        most = 0.0
        for last in range(first + 1, len(needed) + 1):
            most = max(most, needed[last - 1])
            points = int(allowed[np.searchsorted(allowed, most)])
            cost = best[first] + _cost(last - first, points * length_per_point)
            if cost < best[last]:
                best[last], cut[last] = cost, (first, points)
    groups, last = [], len(needed)
    while last:
        first, points = cut[last]
        groups.append((first, last, points))
        last = first
    return groups[::-1]


def _cost(n_rows: int, length: int) -> float:
    """Relative time of ``n_rows`` FFTs, in points."""
    at_once, each = (LANES, 1.0) if length < LONG else (LANES // 2, 1.15)
    return -(-n_rows // at_once) * at_once * length * each + 6_000


def smooth_numbers(largest: int) -> NDArray[np.int64]:
    """Numbers from 1 to at least ``largest`` without prime factors above 5, ascending."""
    twos, threes, fives = np.meshgrid(*(base ** np.arange(n) for base, n in ((2, 22), (3, 12), (5, 8))))
    numbers = np.unique(twos * threes * fives)
    return numbers[: int(np.searchsorted(numbers, largest)) + 1]
