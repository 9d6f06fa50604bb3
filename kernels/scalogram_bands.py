"""The band-limited scalogram on a CPU: what all FFT libraries share.

Per window one DCT-II, and the pieces of :mod:`mird.kernels.scalogram_pieces`, in work space that is held between calls.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.scalogram_helpers import Helpers
from mird.kernels.scalogram_pieces import (
    PIECE,
    Bench,
    Piece,
    Real,
    Room,
    Transforms,
    cut_pieces,
    cut_strips,
    means,
    padded,
)
from mird.kernels.scalogram_plan import LANES, make_plan

LARGEST = 1e30
"""Samples beyond this could overflow on the way, and would reach the picture as NaN."""


class BandScalogram:
    """See :class:`mird.kernels.scalogram.Scalogram`. Holds work space: calls from one thread at a time.

    Parameters
    ----------
    front_end : FrontEnd
    transforms : Transforms
        The FFT library.
    n_threads : int > 0
        Threads that share the work of a call. They sleep between calls.
    dtype : float32 or float64
        Of the arithmetic and of the result.
    first_row : int >= 0
        Scales to leave out at the highest frequencies.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        transforms: Transforms,
        n_threads: int = 1,
        dtype: type[np.floating] = np.float32,
        *,
        first_row: int = 0,
    ) -> None:
        if n_threads < 1:
            raise ParameterError(f"n_threads={n_threads!r} must be 1 or more")
        self.name = transforms.name
        self.plan = make_plan(front_end, first_row)
        self.frequencies_hz = self.plan.frequencies_hz
        self._transforms, self._dtype = transforms, dtype
        strips = cut_strips(self.plan, dtype)
        lasts = [strip.start - strip.step * (len(strip.filters) - 1) for strip in strips]
        self._front = max(0, -min(lasts))
        behind = max(strip.start + strip.filters.shape[1] for strip in strips)
        self._n_bins = self._front + max(self.plan.window, behind)
        self._strips = [replace(strip, start=strip.start + self._front) for strip in strips]
        self._cosines, self._room = self._furnish(0)
        self._pieces: list[Piece] = []
        self._n_windows = 0
        most = max(padded(len(strip.filters)) * self.plan.length(strip.group) for strip in strips)
        n_points = max(most, PIECE + LANES * max(self.plan.length(group) for group in self.plan.groups))
        n_benches = 1 if n_threads == 1 else n_threads + 2
        self._benches = [Bench(self.plan, transforms, dtype, n_points) for _ in range(n_benches)]
        self._helpers = Helpers(n_threads - 1) if n_threads > 1 else None

    def __call__(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Transform windows; see the protocol."""
        checked = check_windows(windows, self.plan.window).astype(self._dtype, order="C", copy=False)
        n_windows = len(windows)
        out = np.empty((n_windows, self.plan.n_scales, self.plan.n_columns), self._dtype)
        if not n_windows:
            return out
        if n_windows > len(self._cosines):
            self._cosines, self._room = self._furnish(n_windows)
            for bench in self._benches:
                bench.forget()
        if n_windows != self._n_windows:
            self._n_windows, self._pieces = n_windows, cut_pieces(self.plan, self._strips, n_windows)
        if self._helpers is None:
            self._transform(checked)
            for piece in self._pieces:
                stages = self._benches[0].stages(piece, self._room)
                stages.fill()
                stages.transform()
                stages.gather()
        else:
            with self._helpers.awake() as share:
                self._transform(checked)
                share(self._pieces, self._benches, self._room)
        means(self._room, n_windows, out)
        return out

    def _transform(self, windows: Real) -> None:
        """The windows' DCT, with every bin twice."""
        cosines = self._transforms.cosine(windows, self._cosines[: len(windows)])
        bins = self._room.spectrum.view(np.result_type(self._dtype, np.complex64))
        np.multiply(cosines, 1 + 1j, out=bins[: len(windows), self._front : self._front + self.plan.window])

    def _furnish(self, n_windows: int) -> tuple[Real, Room]:
        """Room for the DCT of windows, and for their pieces."""
        rows, n_columns = (n_windows, self.plan.n_scales), self.plan.n_columns
        shapes = ((n_windows, 2 * self._n_bins), (*rows, 2 * n_columns), (*rows, n_columns - 1))
        spectrum, sums, steps = (np.zeros(shape, self._dtype) for shape in shapes)
        return np.zeros((n_windows, self.plan.window), self._dtype), Room(spectrum, sums, steps)


def check_windows(windows: NDArray[np.floating], window: int) -> NDArray[np.floating]:
    """Refuse what cannot be transformed.

    Raises
    ------
    ParameterError
        If the shape is not (n, window), the type no floating one, or a sample not finite or beyond LARGEST.
    """
    if windows.ndim != 2 or windows.shape[1] != window:
        raise ParameterError(f"windows have shape {windows.shape}, (n, {window}) is needed")
    if not np.issubdtype(windows.dtype, np.floating):
        raise ParameterError(f"windows are of type {windows.dtype}, float32 is needed (16-bit sound: divide by 32768)")
    if windows.size and not -LARGEST <= float(windows.min()) <= float(windows.max()) <= LARGEST:
        row, column = np.argwhere(~(np.abs(windows) <= LARGEST))[0]
        raise ParameterError(
            f"sample {column} of window {row} is {windows[row, column]}; finite samples up to {LARGEST:g} are needed"
        )
    return windows
