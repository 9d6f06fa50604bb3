"""The scalogram: windows of sound to column means of Morse-wavelet magnitudes.

:class:`Scalogram` is what every back end does, :func:`open_scalogram` picks one. How it works (``scalogram_scipy``): the half-sample
symmetric extension of a window has a real spectrum up to a phase, its DCT-II, so that each scale is a short real band of it; a
small real FFT of the band gives the wavelet coefficients on a grid that is locked to the picture's columns.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd


class Scalogram(Protocol):
    """Column means of wavelet magnitudes, one back end."""

    name: str
    """Back end in one word, as messages and ``mird doctor`` give it."""

    frequencies_hz: NDArray[np.float64]
    """Peak frequency of each row, shape (n_scales,), highest first."""

    def __call__(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Transform windows of sound.

        Parameters
        ----------
        windows : NDArray[floating], shape (n_windows, window), range [-1, 1] by convention

        Returns
        -------
        NDArray[float32], shape (n_windows, n_scales, n_columns), >= 0
            Mean of |W| over each column; a full-scale sine at a row's frequency gives 1. Owned by the caller.

        Raises
        ------
        ParameterError
            If the shape is wrong or a sample is not finite.
        """
        ...


def open_scalogram(front_end: FrontEnd) -> Scalogram:
    """The fastest back end that is installed, for this front end."""
    if front_end.transform != "morse":
        raise ParameterError(f"transform={front_end.transform!r} has no scalogram")
    from mird.kernels.scalogram_scipy import ScipyScalogram

    return ScipyScalogram(front_end)
