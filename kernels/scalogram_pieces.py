"""The work of a band-limited scalogram on a CPU, cut into pieces that fit a core's cache, and how a piece is done.

Per scale a product of its filter with a short band of the spectrum, an FFT, the magnitude and its sums over columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mird.kernels.scalogram_plan import END_CORRECTION, LANES, LONG, Group, Plan, half_step

PIECE = 45_000
"""Grid points of one piece of work, about: its bands, coefficients and magnitudes stay in a core's cache together."""

MOST_AT_ONCE = 9_000
"""Elements of one matrix-vector product; a larger one wakes the BLAS library's own threads, which wait by spinning."""

Real = NDArray[Any]
Complex = NDArray[Any]


class Transforms(Protocol):
    """One FFT library."""

    name: str

    def cosine(self, windows: Real, out: Real) -> Real:
        """Unnormalised DCT-II of each row, in ``out`` or in a new array."""
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
    """Work that is done in one go: a strip for some windows."""

    strip: Strip
    windows: tuple[int, int]
    n_points: int


@dataclass(frozen=True)
class Room:
    """What all pieces of some windows read and write.

    Attributes
    ----------
    spectrum : NDArray, shape (n_windows, 2 * n_bins)
        Every bin twice, with the bins in front of the first one and behind the last one that the strips reach into.
    sums : NDArray, shape (n_windows, n_scales, 2 * n_columns)
        Over the blocks that columns and their mirror images have of every other point.
    steps : NDArray, shape (n_windows, n_scales, n_columns - 1)
        Of the magnitude across the edges between columns.
    """

    spectrum: Real
    sums: Real
    steps: Real


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


@dataclass(frozen=True)
class Stages:
    """What is done with a piece, one after the other: bands, their magnitudes, and the sums and steps of those."""

    fill: Callable[[], None]
    transform: Callable[[], None]
    gather: Callable[[], None]


class Bench:
    """Work space for one piece at a time, with everything that each piece needs already cut out of it."""

    def __init__(self, plan: Plan, transforms: Transforms, dtype: type[np.floating], n_points: int) -> None:
        self._plan, self._transforms, self._dtype = plan, transforms, np.dtype(dtype)
        self._waves = np.zeros(n_points, np.result_type(dtype, np.complex64))
        self._over, self._sizes = np.zeros(2 * n_points, dtype), np.zeros(n_points, dtype)
        self._ready: dict[tuple[int, int, int], Stages] = {}

    def stages(self, piece: Piece, room: Room) -> Stages:
        """What computes a piece; ``room`` is the same until :meth:`forget` is called."""
        key = (piece.strip.rows[0], *piece.windows)
        stages = self._ready.get(key)
        if stages is None:
            stages = self._ready[key] = self._prepare(piece, room)
        return stages

    def forget(self) -> None:
        """Let go of the room."""
        self._ready.clear()

    def _prepare(self, piece: Piece, room: Room) -> Stages:
        strip, windows, rows = piece.strip, slice(*piece.windows), slice(*piece.strip.rows)
        sums, steps = room.sums[windows, rows], room.steps[windows, rows]
        shape, length = sums.shape[:2], self._plan.length(strip.group)
        n_rows = shape[0] * shape[1]
        waves = self._waves[: padded(n_rows) * length].reshape(-1, length)
        bands = waves[:n_rows].view(self._dtype).reshape(*shape, 2 * length)
        fourier = self._transforms.bind(waves)
        flat = self._sizes[: n_rows * length].reshape(n_rows, length)

        def transform() -> None:
            np.abs(fourier()[:n_rows], out=flat)

        gather = self._bind_sums(flat.reshape(*shape, length), strip.group.points, sums, steps)
        return Stages(self._bind_bands(strip, room.spectrum[windows], bands), transform, gather)

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

    def _bind_sums(self, sizes: Real, points: int, sums: Real, steps: Real) -> Callable[[], None]:
        """A call that sums ``sizes`` over each block, and takes the steps across the edges between columns.

        Every other point of a column lies in a block of ``sizes`` from the front, the others in one from the back:
        there are those of the mirror image. The filters are scaled so that the end correction needs no factor.
        """
        n_columns, n_blocks = self._plan.n_columns, 2 * self._plan.n_columns
        split = next(q for q in divisors(n_blocks) if sizes.shape[-1] // q <= MOST_AT_ONCE or q == n_blocks)
        blocks = sizes.reshape(*sizes.shape[:-1], split, n_blocks // split, points // 2)
        into = sums.reshape(blocks.shape[:-1])
        weights = np.full(points // 2, 1 / END_CORRECTION, self._dtype)
        edges = sizes[..., :: points // 2]
        before, after = edges[..., :n_columns:-1], edges[..., 1:n_columns]

        def gather() -> None:
            np.matmul(blocks, weights, out=into)
            np.subtract(after, before, out=steps)

        return gather


def means(room: Room, n_windows: int, out: Real) -> None:
    """Means over the columns, of their sums and of the steps across their edges."""
    sums, steps, n_columns = room.sums[:n_windows], room.steps[:n_windows], out.shape[-1]
    inner, outer = out[..., :-1], out[..., 1:]
    np.add(sums[..., :n_columns], sums[..., : n_columns - 1 : -1], out=out)
    # No step at the window's own edges, since the magnitude is symmetric about them.
    np.add(inner, steps, out=inner)
    np.subtract(outer, steps, out=outer)


def padded(n_rows: int) -> int:
    """Rows to transform: two or three beyond a vector of four are as quick as four."""
    return n_rows if n_rows % 4 < 2 else -(-n_rows // 4) * 4


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
