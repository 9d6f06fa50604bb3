"""What the GPU's kernels read besides the sound: the plan, the filters and the picture's description as flat arrays.

The types are those of ``cuda/scalogram.cu``, field by field. This module needs no GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mird.kernels.frontend import FrontEnd
from mird.kernels.scalogram_plan import Plan, half_step

SOURCE = Path(__file__).with_name("cuda") / "scalogram.cu"

SCALE = np.dtype(
    [
        *((name, np.int32) for name in ("start", "count", "length", "points")),
        *((name, np.int32) for name in ("group_first", "group_rows", "filter_at", "padding")),
        ("wave_at", np.int64),
    ]
)

PAINT = np.dtype(
    [
        *((name, np.int32) for name in ("n_scales", "n_columns", "n_rows", "decibels", "coloured")),
        ("range_db", np.float32),
    ]
)


@dataclass(frozen=True)
class Tables:
    """Tables of one front end.

    Attributes
    ----------
    scales : NDArray[SCALE], shape (n_scales,)
    bank : NDArray[complex64], shape (n,)
        All filters, turned by half a step of the grid, one behind the other.
    turns : NDArray[float32], shape (window, 2)
        Twice cosine and sine of pi k / (2 window): what turns an FFT into a DCT-II.
    paint : NDArray[PAINT], shape ()
    n_waves : int
        Complex numbers of all FFTs, for one window.
    """

    scales: NDArray[np.void]
    bank: NDArray[np.complex64]
    turns: NDArray[np.float32]
    paint: NDArray[np.void]
    n_waves: int


def make_tables(plan: Plan, front_end: FrontEnd) -> Tables:
    """Lay a plan out for the kernels."""
    scales = np.zeros(plan.n_scales, SCALE)
    filters: list[NDArray[np.complex128]] = []
    filter_at = wave_at = 0
    for group in plan.groups:
        length, (first, last) = plan.length(group), group.rows
        for row, start, response in zip(range(first, last), group.starts, group.filters, strict=True):
            grid = (start, len(response), length, group.points)
            scales[row] = (*grid, first, last - first, filter_at, 0, wave_at)
            filters.append(response * half_step(len(response), length))
            filter_at += len(response)
        wave_at += (last - first) * length
    angles = np.arange(plan.window) * (np.pi / (2 * plan.window))
    turns = np.stack([2 * np.cos(angles), 2 * np.sin(angles)], axis=-1).astype(np.float32)
    n_rows = front_end.n_rows or plan.n_scales
    flags = (front_end.magnitude == "db", front_end.colour != "grey")
    paint = np.array((plan.n_scales, plan.n_columns, n_rows, *flags, front_end.range_db), PAINT)
    return Tables(scales, np.concatenate(filters).astype(np.complex64), turns, paint, wave_at)
