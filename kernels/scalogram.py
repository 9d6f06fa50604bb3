"""The scalogram: windows of sound to column means of Morse-wavelet magnitudes.

:class:`Scalogram` is what every back end does, :func:`open_scalogram` picks one. How it works: the half-sample
symmetric extension of a window has a real spectrum up to a phase, its DCT-II, so that each scale is a short real band
of it; a small FFT of the band gives the wavelet coefficients on a grid that is locked to the picture's columns. Half a
step off the columns' edges the mirror image gives the points between the window's own, so that a complex FFT of half
the grid's length does.
"""

from __future__ import annotations

import importlib.util
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mird.kernels.errors import EngineError, ParameterError
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


CPU_BACKENDS = ("ducc0", "scipy")
"""Back ends of the Morse scalogram on a CPU, fastest first (measured by ``tests/benchmarks/bench_scalogram.py``)."""

BACKENDS = (*CPU_BACKENDS, "cupy")
"""All back ends. ``cupy`` needs an NVIDIA GPU and is taken by name alone."""


def installed_backends() -> tuple[str, ...]:
    """Back ends whose library is installed, fastest first; whether a GPU is there is not asked."""
    return tuple(name for name in BACKENDS if importlib.util.find_spec(name) is not None)


def open_scalogram(front_end: FrontEnd, name: str | None = None, n_threads: int = 1) -> Scalogram:
    """The transform of a front end, by the fastest CPU back end that is installed.

    Parameters
    ----------
    front_end : FrontEnd
    name : {"ducc0", "scipy", "cupy"}, optional
        Back end to take instead of the fastest.
    n_threads : int > 0
        Threads that share the work of a call, on a CPU. One channel gains little from a second thread.

    Raises
    ------
    ParameterError
        If the front end cannot be computed, or the back end is unknown or not installed.
    EngineError
        If there is no GPU for the back end ``cupy``.
    """
    if front_end.transform == "stft":
        from mird.kernels.spectrogram import Spectrogram

        return Spectrogram(front_end)
    installed = installed_backends()
    if name is None:
        name = next(backend for backend in CPU_BACKENDS if backend in installed)
    elif name not in BACKENDS:
        raise ParameterError(f"scalogram back end {name!r} is unknown; one of {', '.join(BACKENDS)} is needed")
    elif name not in installed:
        raise ParameterError(f"scalogram back end {name!r} is not installed; installed here: {', '.join(installed)}")
    if name == "ducc0":
        from mird.kernels.scalogram_ducc import DuccScalogram

        return DuccScalogram(front_end, n_threads)
    if name == "cupy":
        try:
            from mird.kernels.scalogram_cupy import CupyScalogram
        except ImportError as error:
            raise EngineError(f"CuPy is installed but lacks a part of CUDA: {str(error).splitlines()[0]}") from error
        return CupyScalogram(front_end)
    from mird.kernels.scalogram_scipy import ScipyScalogram

    return ScipyScalogram(front_end, n_threads)
