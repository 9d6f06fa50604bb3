"""The transforms of ducc0, for the scalogram on a CPU: the extra ``fast`` (GPL-2.0 or later, by its own metadata)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ducc0
import numpy as np
from numpy.typing import NDArray

from mird.kernels.frontend import FrontEnd
from mird.kernels.scalogram_bands import BandScalogram

LONG = 10_000
"""From this length on ducc0 computes one transform faster than several side by side, which leave a core's cache."""


class DuccTransforms:
    """See :class:`mird.kernels.scalogram_pieces.Transforms`."""

    name = "ducc0"

    def cosine(self, windows: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        """Unnormalised DCT-II of each row."""
        ducc0.fft.dct(windows, type=2, axes=[1], out=out)
        return out

    def bind(self, waves: NDArray[Any]) -> Callable[[], NDArray[Any]]:
        """A call that computes the FFT of ``waves`` in place."""
        if waves.shape[1] < LONG:
            return partial(ducc0.fft.c2c, waves, axes=[1], out=waves)
        rows = list(waves)

        def one_by_one() -> NDArray[Any]:
            for row in rows:
                ducc0.fft.c2c(row, out=row)
            return waves

        return one_by_one


class DuccScalogram(BandScalogram):
    """The band-limited scalogram with ducc0's FFT."""

    def __init__(self, front_end: FrontEnd, n_threads: int = 1, dtype: type[np.floating] = np.float32) -> None:
        super().__init__(front_end, DuccTransforms(), n_threads, dtype)
