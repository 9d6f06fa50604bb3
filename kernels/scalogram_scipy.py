"""The transforms of SciPy, for the scalogram on a CPU: always there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mird.kernels.frontend import FrontEnd
from mird.kernels.scalogram_bands import BandScalogram

LARGE_BLOCK = 1 << 21
"""Numbers in a block (16 MiB) far larger than what SciPy allocates for one call."""


class ScipyTransforms:
    """See :class:`mird.kernels.scalogram_pieces.Transforms`."""

    name = "scipy"

    def __init__(self) -> None:
        # glibc hands freed blocks back to the system, and takes a page fault for each page of the next (2 ms a call),
        # until it has seen a block freed that was larger. This one is never touched.
        np.empty(LARGE_BLOCK)

    def cosine(self, windows: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:  # noqa: ARG002
        """Unnormalised DCT-II of each row, in a new array: SciPy takes none to write to."""
        cosines: NDArray[Any] = scipy.fft.dct(windows, type=2, axis=-1)
        return cosines

    def bind(self, waves: NDArray[Any]) -> Callable[[], NDArray[Any]]:
        """A call that gives the FFT of ``waves``, which SciPy is free to compute in place."""
        return partial(scipy.fft.fft, waves, axis=-1, overwrite_x=True)


class ScipyScalogram(BandScalogram):
    """The band-limited scalogram on NumPy and SciPy alone."""

    def __init__(self, front_end: FrontEnd, n_threads: int = 1, dtype: type[np.floating] = np.float32) -> None:
        super().__init__(front_end, ScipyTransforms(), n_threads, dtype)
