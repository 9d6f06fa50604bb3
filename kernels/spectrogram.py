"""The spectrogram: windows of sound to short-time Fourier magnitudes, for comparison with the scalogram.

The paper compares its scalograms with spectrograms of the same size. This one has linear frequency, a Hann frame of a
fixed length centred on each column, reflection at the borders, and the scalogram's scale: a full-scale sine in the
middle of a bin gives 1.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.scalogram_bands import check_windows

FRAME_S = 0.046
"""Length of a frame, about: the nearest power of two samples is taken (2048 at 44.1 kHz)."""


class Spectrogram:
    """See :class:`mird.kernels.scalogram.Scalogram`: same shapes, rows from the highest frequency down.

    Parameters
    ----------
    front_end : FrontEnd
        ``n_scales`` is the number of rows, evenly spaced from half the sampling rate downwards; 0 keeps all bins of a
        frame but the one at 0 Hz.
    """

    name = "stft"

    def __init__(self, front_end: FrontEnd) -> None:
        self._window, self._n_columns = front_end.window, front_end.n_columns
        self._frame = 1 << round(np.log2(max(FRAME_S * front_end.rate_hz, 2)))
        if self._frame > self._window:
            raise ParameterError(f"window={self._window} is shorter than a frame of {self._frame} samples")
        n_bins = self._frame // 2
        n_rows = front_end.n_scales or n_bins
        if n_rows > n_bins:
            raise ParameterError(f"n_scales={n_rows} exceeds the {n_bins} bins of a frame of {self._frame} samples")
        taper = scipy.fft.fftshift(0.5 + 0.5 * np.cos(2 * np.pi * scipy.fft.fftfreq(self._frame)))
        self._taper = (taper * (2 / taper.sum())).astype(np.float32)
        centres = (np.arange(self._n_columns) + 0.5) * (self._window / self._n_columns)
        self._starts = np.floor(centres).astype(int)
        edges = np.linspace(0, n_bins, n_rows + 1)
        self._bins = np.floor((edges[:-1] + edges[1:]) / 2).astype(int)[::-1] + 1
        self.frequencies_hz: NDArray[np.float64] = self._bins * (front_end.rate_hz / self._frame)

    def __call__(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Transform windows; see the protocol."""
        checked = check_windows(windows, self._window).astype(np.float32, copy=False)
        half = self._frame // 2
        reflected = np.pad(checked, ((0, 0), (half, half)), mode="symmetric")
        frames = np.lib.stride_tricks.sliding_window_view(reflected, self._frame, axis=-1)[:, self._starts]
        waves = scipy.fft.rfft(frames * self._taper, axis=-1)[..., self._bins]
        return np.ascontiguousarray(np.abs(waves).swapaxes(1, 2))
