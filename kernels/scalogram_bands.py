"""The band-limited scalogram on a CPU: what all FFT libraries share.

Per window one DCT-II; per scale a product of its filter with a short band of it, a real FFT, the magnitude and its mean
over each column. Everything happens in pieces that fit a core's cache, in work space that is held between calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.scalogram_plan import END_CORRECTION, LANES, Group, Plan, make_plan

LARGEST = 1e30
"""Samples beyond this could overflow on the way, and would reach the picture as NaN."""

PIECE = 60_000
"""Grid points of one piece of work, about: its bands, coefficients and magnitudes stay in a core's cache together."""

MOST_AT_ONCE = 9_000
"""Elements of one matrix-vector product; a larger one wakes the BLAS library's own threads, which wait by spinning."""

Real = NDArray[Any]
Complex = NDArray[Any]


class Transforms(Protocol):
    """One FFT library."""

    name: str

    def cosine(self, windows: Real, out: Real) -> None:
        """Unnormalised DCT-II of each row, into ``out``, shape (n, window), any stride between rows."""
        ...

    def bind(self, points: Real, waves: Complex) -> Callable[[], Complex]:
        """Return a call that gives the real FFT of ``points``, last axis, in ``waves`` or in a new array."""
        ...


def trapezoid(points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of a column's mean: the trapezoid with one end correction at either edge.

    Returns
    -------
    body : NDArray[float64], shape (points,)
        For the grid points from the one before the column's first edge on.
    tail : NDArray[float64], shape (3,)
        For the points before, on and after its second edge.
    """
    weights = np.zeros(points + 3)
    weights[1 : points + 1] += 0.5
    weights[2 : points + 2] += 0.5
    np.add.at(weights, [0, 2, points, points + 2], np.array([-1, 1, 1, -1]) * END_CORRECTION)
    weights /= points
    return weights[:points], weights[points:]


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
    filters : NDArray, shape (n_rows, width)
        Zero where a row's own filter does not reach.
    """

    group: Group
    rows: tuple[int, int]
    start: int
    step: int
    filters: Real


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
            n_rows = min(max(LANES, PIECE // length // LANES * LANES), last - row)
            while (strip := _lay(group, row, row + n_rows, dtype)).filters.shape[1] > length:
                n_rows = (n_rows + 1) // 2
            strips.append(strip)
            row += n_rows
    return strips


def _lay(group: Group, first: int, last: int, dtype: type[np.floating]) -> Strip:
    members = slice(first - group.rows[0], last - group.rows[0])
    starts, responses = np.array(group.starts[members]), group.filters[members]
    index = np.arange(len(starts))
    step = int(starts[0] - starts[-1]) // max(1, len(starts) - 1)
    begins = np.min(starts + step * index) - step * index
    ends = starts + [len(response) for response in responses]
    filters = np.zeros((len(starts), np.max(ends - begins)), dtype)
    for row, (lead, response) in enumerate(zip(starts - begins, responses, strict=True)):
        filters[row, lead : lead + len(response)] = response
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
    """One thread's work space, with everything that a piece of one shape needs already cut out of it."""

    def __init__(self, plan: Plan, transforms: Transforms, dtype: type[np.floating], n_points: int) -> None:
        self._plan, self._transforms, self._dtype = plan, transforms, np.dtype(dtype)
        n_rows = n_points // (2 * plan.n_columns)
        self._points = np.zeros(n_points, self._dtype)
        self._waves = np.zeros(n_points // 2 + n_rows, np.result_type(self._dtype, np.complex64))
        self._sizes = np.zeros(n_points // 2 + 3 * n_rows, self._dtype)
        self._ends = np.zeros(n_rows * plan.n_columns, self._dtype)
        self._ready: dict[tuple[int, int], Callable[[Real, Real], None]] = {}

    def do(self, piece: Piece, spectrum: Real, out: Real) -> None:
        """Compute a piece.

        Parameters
        ----------
        piece : Piece
        spectrum : NDArray, shape (n_windows, n_bins)
            With the bins in front of the first one and behind the last one that the strips reach into.
        out : NDArray, shape (n_windows, n_scales, n_columns)
        """
        (first, last), (begin, end) = piece.strip.rows, piece.windows
        run = self._ready.get((first, end - begin))
        if run is None:
            run = self._ready[first, end - begin] = self._prepare(piece.strip, end - begin)
        run(spectrum[begin:end], out[begin:end, first:last])

    def _prepare(self, strip: Strip, n: int) -> Callable[[Real, Real], None]:
        n_columns, points, length = self._plan.n_columns, strip.group.points, self._plan.length(strip.group)
        n_rows, width = strip.filters.shape
        n_used, dtype = n * n_rows, self._dtype
        bands = self._points[: padded(n_used) * length].reshape(-1, length)
        used, unused = bands[:n_used].reshape(n, n_rows, length)[..., :width], bands[:, width:]
        transform = self._transforms.bind(bands, self._waves[: len(bands) * (length // 2 + 1)].reshape(len(bands), -1))
        stride = length // 2 + 3
        sizes = self._sizes[: n_used * stride].reshape(n_used, stride)
        # A column's points are a row of a matrix: one product with the weights gives the means of all columns of all
        # rows.
        split = next(q for q in divisors(n_columns) if n_columns // q * points <= MOST_AT_ONCE or q == n_columns)
        shape = (n, n_rows, split, n_columns // split)
        item = self._dtype.itemsize
        steps = (n_rows * stride * item, stride * item, n_columns // split * points * item, points * item, item)
        bodies, tails = as_strided(sizes, (*shape, points), steps), as_strided(sizes[:, points:], (*shape, 3), steps)
        body, tail = (weights.astype(self._dtype) for weights in trapezoid(points))
        ends = self._ends[: n_used * n_columns].reshape(shape)

        def run(spectrum: Real, out: Real) -> None:
            strides = (spectrum.strides[0], -strip.step * item, item)
            bins: Real = np.ndarray(used.shape, dtype, spectrum, strip.start * item, strides)
            np.multiply(bins, strip.filters, out=used)
            unused[...] = 0
            np.abs(transform()[:n_used], out=sizes[:, 1:-1])
            # The magnitude is symmetric about both edges of the window.
            sizes[:, 0], sizes[:, -1] = sizes[:, 2], sizes[:, -3]
            means = out.reshape(shape)
            np.matmul(bodies, body, out=means)
            np.matmul(tails, tail, out=ends)
            np.add(means, ends, out=means)

        return run


def padded(n_rows: int) -> int:
    """Rows to transform: two or three beyond a multiple of LANES are as quick as a full vector of them."""
    return n_rows if n_rows % LANES < 2 else -(-n_rows // LANES) * LANES


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
        self._spectrum: Real = np.zeros((0, self._n_bins), dtype)
        self._pieces: list[Piece] = []
        most = max(padded(len(strip.filters)) * self.plan.length(strip.group) for strip in strips)
        n_points = max(most, PIECE + LANES * max(self.plan.length(group) for group in self.plan.groups))
        self._benches = [Bench(self.plan, transforms, dtype, n_points) for _ in range(n_threads)]
        self._others = ThreadPoolExecutor(n_threads - 1, "scalogram") if n_threads > 1 else None

    def __call__(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Transform windows; see the protocol."""
        checked = check_windows(windows, self.plan.window).astype(self._dtype, order="C", copy=False)
        out = np.empty((len(windows), self.plan.n_scales, self.plan.n_columns), self._dtype)
        if len(windows) != len(self._spectrum):
            self._spectrum = np.zeros((len(windows), self._n_bins), self._dtype)
            self._pieces = cut_pieces(self.plan, self._strips, len(windows))
        if not len(windows):
            return out
        self._transforms.cosine(checked, self._spectrum[:, self._front : self._front + self.plan.window])
        if self._others is None:
            self._work(self._benches[0], self._pieces, out)
        else:
            waiting = deque(self._pieces)
            helpers = [self._others.submit(self._work, bench, drained(waiting), out) for bench in self._benches[1:]]
            self._work(self._benches[0], drained(waiting), out)
            for helper in helpers:
                helper.result()
        return out

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
