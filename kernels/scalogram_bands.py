"""The band-limited scalogram on a CPU: what all FFT libraries share.

Per window one DCT-II; per scale a product of its filter with a short band of it, an FFT, the magnitude and its mean
over each column. Everything happens in pieces that fit a core's cache, in work space that is held between calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.scalogram_plan import END_CORRECTION, LANES, LONG, Group, Plan, half_step, make_plan

LARGEST = 1e30
"""Samples beyond this could overflow on the way, and would reach the picture as NaN."""

PIECE = 45_000
"""Grid points of one piece of work, about: its bands, coefficients and magnitudes stay in a core's cache together."""

MOST_AT_ONCE = 9_000
"""Elements of one matrix-vector product; a larger one wakes the BLAS library's own threads, which wait by spinning."""

Real = NDArray[Any]
Complex = NDArray[Any]


class Transforms(Protocol):
    """One FFT library."""

    name: str

    def cosine(self, windows: Real, out: Real) -> None:
        """Unnormalised DCT-II of each row, into ``out``, shape (n, window), contiguous."""
        ...

    def bind(self, waves: Complex) -> Callable[[], Complex]:
        """Return a call that gives the FFT of ``waves``, last axis, in the same memory if the library can."""
        ...


@dataclass(frozen=True)
class Strip:
    """Rows whose filters are laid so that one product makes all their bands.

    Row ``i`` begins at bin ``start - i * step`` of the spectrum, at or a little before its own first bin: where a
    band begins changes no magnitude.

    Attributes
    ----------
    group : Group
    rows : (first, last + 1)
    start, step : int
    filters : NDArray, complex, shape (n_rows, width)
        Turned by half a step of the grid, and scaled so that the end correction of a column's mean is a plain
        difference; zero where a row's own filter does not reach.
    """

    group: Group
    rows: tuple[int, int]
    start: int
    step: int
    filters: Complex


@dataclass(frozen=True)
class Piece:
    """Work that one thread does in one go: a strip for some windows."""

    strip: Strip
    windows: tuple[int, int]
    n_points: int


def cut_strips(plan: Plan, dtype: type[np.floating]) -> list[Strip]:
    """Strips of whole vectors of rows where that is possible, and of about PIECE points."""
    strips: list[Strip] = []
    for group in plan.groups:
        (first, last), length = group.rows, plan.length(group)
        row = first
        while row < last:
            at_once = LANES if length < LONG else LANES // 2
            n_rows = min(max(at_once, PIECE // length // LANES * LANES), last - row)
            while (strip := _lay(group, row, row + n_rows, length, dtype)).filters.shape[1] > 2 * length:
                n_rows = (n_rows + 1) // 2
            strips.append(strip)
            row += n_rows
    return strips


def _lay(group: Group, first: int, last: int, length: int, dtype: type[np.floating]) -> Strip:
    members = slice(first - group.rows[0], last - group.rows[0])
    starts, responses = np.array(group.starts[members]), group.filters[members]
    index = np.arange(len(starts))
    step = int(starts[0] - starts[-1]) // max(1, len(starts) - 1)
    begins = np.min(starts + step * index) - step * index
    ends = starts + [len(response) for response in responses]
    filters = np.zeros((len(starts), np.max(ends - begins)), np.result_type(dtype, np.complex64))
    for row, (lead, response) in enumerate(zip(starts - begins, responses, strict=True)):
        turned = response * half_step(len(response), length)
        filters[row, lead : lead + len(response)] = END_CORRECTION / group.points * turned
    return Strip(group, (first, last), int(begins[0]), step, filters)


def cut_pieces(plan: Plan, strips: list[Strip], n_windows: int) -> list[Piece]:
    """Strips times windows, the longest pieces first."""
    pieces = []
    for strip in strips:
        n_rows, length = len(strip.filters), plan.length(strip.group)
        n = max(1, min(PIECE // (length * n_rows), n_windows))
        for window in range(0, n_windows, n):
            span = (window, min(window + n, n_windows))
            pieces.append(Piece(strip, span, n_rows * (span[1] - span[0]) * length))
    return sorted(pieces, key=lambda piece: -piece.n_points)


class Bench:
    """One thread's work space, with everything that a piece needs already cut out of it."""

    def __init__(self, plan: Plan, transforms: Transforms, dtype: type[np.floating], n_points: int) -> None:
        self._plan, self._transforms, self._dtype = plan, transforms, np.dtype(dtype)
        self._waves = np.zeros(n_points, np.result_type(dtype, np.complex64))
        self._over, self._sizes, self._sums, self._steps = (np.zeros(n * n_points, dtype) for n in (2, 1, 1, 1))
        self._ready: dict[tuple[int, int, int], Callable[[Real], None]] = {}

    def do(self, piece: Piece, spectrum: Real, out: Real) -> None:
        """Compute a piece.

        Parameters
        ----------
        piece : Piece
        spectrum : NDArray, shape (n_windows or more, 2 * n_bins)
            Every bin twice, with the bins in front of the first one and behind the last one that the strips reach
            into; the same array until :meth:`forget` is called.
        out : NDArray, shape (n_windows, n_scales, n_columns)
        """
        (first, last), (begin, end) = piece.strip.rows, piece.windows
        run = self._ready.get((first, begin, end))
        if run is None:
            run = self._ready[first, begin, end] = self._prepare(piece.strip, spectrum[begin:end])
        run(out[begin:end, first:last])

    def forget(self) -> None:
        """Let go of the spectrum."""
        self._ready.clear()

    def _prepare(self, strip: Strip, spectrum: Real) -> Callable[[Real], None]:
        shape, length = (len(spectrum), len(strip.filters)), self._plan.length(strip.group)
        n_rows = shape[0] * shape[1]
        waves = self._waves[: padded(n_rows) * length].reshape(-1, length)
        fill = self._bind_bands(strip, spectrum, waves[:n_rows].view(self._dtype).reshape(*shape, 2 * length))
        transform = self._transforms.bind(waves)
        sizes = self._sizes[: n_rows * length].reshape(n_rows, length)
        average = self._bind_means(shape, strip.group.points, sizes)

        def run(out: Real) -> None:
            fill()
            np.abs(transform()[:n_rows], out=sizes)
            average(out)

        return run

    def _bind_bands(self, strip: Strip, spectrum: Real, bands: Real) -> Callable[[], None]:
        """A call that multiplies bins and filters into ``bands``, both as pairs of reals: NumPy is quick with those."""
        filters, item, length = strip.filters.view(self._dtype), self._dtype.itemsize, bands.shape[-1]
        strides = (spectrum.strides[0], -2 * strip.step * item, item)
        shape = (*bands.shape[:-1], filters.shape[1])
        bins: Real = np.ndarray(shape, self._dtype, spectrum, 2 * strip.start * item, strides)
        near_bins, near_filters = bins[..., :length], filters[:, :length]
        used, unused = bands[..., : filters.shape[1]], bands[..., filters.shape[1] :]
        # What is longer than the FFT folds over.
        far_bins, far_filters = bins[..., length:], filters[:, length:]
        over = self._over[: far_bins.size].reshape(far_bins.shape)
        again = bands[..., : far_filters.shape[1]]

        def fill() -> None:
            np.multiply(near_bins, near_filters, out=used)
            if over.size:
                np.multiply(far_bins, far_filters, out=over)
                np.add(again, over, out=again)
            else:
                unused[...] = 0

        return fill

    def _bind_means(self, shape: tuple[int, int], points: int, sizes: Real) -> Callable[[Real], None]:
        """A call that gives the mean of ``sizes`` over each column.

        Every other point of a column lies in a block of ``sizes`` from the front, the others in one from the back:
        there are those of the mirror image. The filters are scaled so that the end correction needs no factor.
        """
        n_columns, n_blocks = self._plan.n_columns, 2 * self._plan.n_columns
        split = next(q for q in divisors(n_blocks) if sizes.shape[1] // q <= MOST_AT_ONCE or q == n_blocks)
        blocks = sizes.reshape(-1, n_blocks // split, points // 2)
        weights = np.full(points // 2, 1 / END_CORRECTION, self._dtype)
        sums = self._sums[: len(sizes) * n_blocks].reshape(blocks.shape[:-1])
        halves: Real = sums.reshape(*shape, n_blocks)
        front, back = halves[..., :n_columns], halves[..., : n_columns - 1 : -1]
        edges = sizes[:, :: points // 2].reshape(*shape, n_blocks)
        before, after = edges[..., :n_columns:-1], edges[..., 1:n_columns]
        steps = self._steps[: before.size].reshape(before.shape)

        def average(out: Real) -> None:
            np.matmul(blocks, weights, out=sums)
            np.add(front, back, out=out)
            # No step at the window's own edges, since the magnitude is symmetric about them.
            np.subtract(after, before, out=steps)
            inner, outer = out[..., :-1], out[..., 1:]
            np.add(inner, steps, out=inner)
            np.subtract(outer, steps, out=outer)

        return average


def padded(n_rows: int) -> int:
    """Rows to transform: two or three beyond a vector of four are as quick as four."""
    return n_rows if n_rows % 4 < 2 else -(-n_rows // 4) * 4


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


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
        self._cosines, self._spectrum = self._room(0)
        self._pieces: list[Piece] = []
        self._n_windows = 0
        most = max(padded(len(strip.filters)) * self.plan.length(strip.group) for strip in strips)
        n_points = max(most, PIECE + LANES * max(self.plan.length(group) for group in self.plan.groups))
        self._benches = [Bench(self.plan, transforms, dtype, n_points) for _ in range(n_threads)]
        self._others = ThreadPoolExecutor(n_threads - 1, "scalogram") if n_threads > 1 else None

    def __call__(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Transform windows; see the protocol."""
        checked = check_windows(windows, self.plan.window).astype(self._dtype, order="C", copy=False)
        n_windows = len(windows)
        out = np.empty((n_windows, self.plan.n_scales, self.plan.n_columns), self._dtype)
        if not n_windows:
            return out
        if n_windows > len(self._spectrum):
            self._cosines, self._spectrum = self._room(n_windows)
            for bench in self._benches:
                bench.forget()
        if n_windows != self._n_windows:
            self._n_windows, self._pieces = n_windows, cut_pieces(self.plan, self._strips, n_windows)
        self._transforms.cosine(checked, self._cosines[:n_windows])
        bins = self._spectrum.view(np.result_type(self._dtype, np.complex64))
        inside = bins[:n_windows, self._front : self._front + self.plan.window]
        np.multiply(self._cosines[:n_windows], 1 + 1j, out=inside)
        if self._others is None:
            self._work(self._benches[0], self._pieces, out)
        else:
            waiting = deque(self._pieces)
            helpers = [self._others.submit(self._work, bench, drained(waiting), out) for bench in self._benches[1:]]
            self._work(self._benches[0], drained(waiting), out)
            for helper in helpers:
                helper.result()
        return out

    def _room(self, n_windows: int) -> tuple[Real, Real]:
        """Room for the DCT of windows, and for the same with every bin twice and zeros around."""
        return np.zeros((n_windows, self.plan.window), self._dtype), np.zeros(
            (n_windows, 2 * self._n_bins), self._dtype
        )

    def _work(self, bench: Bench, pieces: Iterable[Piece], out: Real) -> None:
        for piece in pieces:
            bench.do(piece, self._spectrum, out)


def drained(pieces: deque[Piece]) -> Iterable[Piece]:
    """Take from a queue that other threads take from, until it is empty."""
    while True:
        try:
            yield pieces.popleft()
        except IndexError:
            return


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
