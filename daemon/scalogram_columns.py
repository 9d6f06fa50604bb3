"""Scalogram columns: what of a window's picture is new since the last hop, in bytes, for those who look at it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mird.daemon.capture import Stream
from mird.daemon.messages import Scalogram
from mird.kernels.frontend import FrontEnd

FLOOR_DB: Final = -100.0
STEP_DB: Final = 0.4
"""255 steps reach to 2 dB above a full-scale sine."""

EDGE_S: Final = 0.036
"""So far from a window's end the wavelets above 100 Hz do not reach beyond it (three deviations of their envelope)."""


class ScalogramColumns:
    """Cuts the newest columns out of pictures; the processing thread uses it.

    Parameters
    ----------
    front_end : FrontEnd
    frequencies_hz : NDArray[float64], shape (n_scales,)
        Of the rows, highest first.
    hop : int > 0
        Samples of a hop.
    """

    def __init__(self, front_end: FrontEnd, frequencies_hz: NDArray[np.float64], hop: int) -> None:
        self._rate_hz, self._window, n_columns = front_end.rate_hz, front_end.window, front_end.n_columns
        self._n_rows = len(frequencies_hz)
        self._highest_hz, self._lowest_hz = float(frequencies_hz[0]), float(frequencies_hz[-1])
        self._spacing: Final = "log" if front_end.transform == "morse" else "linear"
        n_new = min(n_columns, -(-hop * n_columns // front_end.window))
        n_edge = round(EDGE_S * front_end.rate_hz * n_columns / front_end.window)
        self._last = n_columns - min(n_edge, n_columns - n_new)
        self._first = self._last - n_new
        self._edges = [round(column * front_end.window / n_columns) for column in (self._first, self._last)]

    def message(
        self, magnitudes: NDArray[np.float32] | None, stream: Stream, channel: int, sample_end: int
    ) -> Scalogram:
        """The message of one channel and hop.

        Parameters
        ----------
        magnitudes : NDArray[float32], shape (n_scales, n_columns), >= 0, or None
            The window's picture; None for digital silence.
        stream : Stream
        channel : int
        sample_end : int
            End of the window.
        """
        n_columns = self._last - self._first
        if magnitudes is None:
            levels = bytes(self._n_rows * n_columns)
        else:
            levels = to_bytes(magnitudes[:, self._first : self._last].T)
        start = sample_end - self._window
        return Scalogram(
            source=stream.source,
            channel=channel,
            stream_id=stream.stream_id,
            sample_start=start + self._edges[0],
            sample_end=start + self._edges[1],
            rate_hz=self._rate_hz,
            n_rows=self._n_rows,
            n_columns=n_columns,
            highest_hz=self._highest_hz,
            lowest_hz=self._lowest_hz,
            spacing=self._spacing,
            floor_db=FLOOR_DB,
            step_db=STEP_DB,
            levels=levels,
        )


def to_bytes(magnitudes: NDArray[np.float32]) -> bytes:
    """Magnitudes >= 0 of any shape as bytes of `STEP_DB` above `FLOOR_DB`, cut at both ends."""
    levels = 20.0 * np.log10(np.maximum(magnitudes, np.float32(10.0 ** (FLOOR_DB / 20.0))))
    return np.clip(np.rint((levels - FLOOR_DB) / STEP_DB), 0, 255).astype(np.uint8).tobytes()
