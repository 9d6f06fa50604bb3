"""Resampler: from a source's own rate to the rate of the front end, block by block and without a seam.

It is python-soxr's stream at its HQ setting (20 bits, pass-band to 0.913 of the lower Nyquist frequency, linear phase).
Output is aligned with input: output sample k lies at the time of input sample k rate_in_hz / rate_out_hz. The filter
needs some input ahead of that, so what comes out lags by up to 19 ms from 48, 96 or 192 kHz to 44.1 kHz, 42 ms from
22.05 kHz and 132 ms from 8 kHz.
"""

from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray


class Resampler:
    """One stream of blocks, resampled. One thread uses it.

    Parameters
    ----------
    rate_in_hz, rate_out_hz : int > 0
        Equal rates pass through unchanged.
    n_channels : int > 0
        Columns of every block; channels do not touch each other.

    Raises
    ------
    ValueError
        If one of them is not positive.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int, n_channels: int) -> None:
        if min(rate_in_hz, rate_out_hz, n_channels) < 1:
            raise ValueError(
                f"resampling {n_channels} channels from {rate_in_hz} Hz to {rate_out_hz} Hz: all must be positive"
            )
        self.n_channels: Final = n_channels
        self._stream = (
            soxr.ResampleStream(rate_in_hz, rate_out_hz, n_channels, dtype="float32", quality="HQ")
            if rate_in_hz != rate_out_hz
            else None
        )
        self._flushed = False

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give a block, take what is ready.

        Parameters
        ----------
        block : NDArray[float32], shape (n, n_channels)
            The next samples; `n` may be 0.

        Returns
        -------
        NDArray[float32], shape (m, n_channels)
            The next samples at the other rate; `m` may be 0.

        Raises
        ------
        ValueError
            If the block has another number of channels, or follows `flush`.
        """
        if block.ndim != 2 or block.shape[1] != self.n_channels:
            raise ValueError(f"a block of shape {block.shape} for {self.n_channels} channels")
        if self._flushed:
            raise ValueError("the resampler was flushed: a new stream needs a new one")
        return self._resample(block, last=False)

    def flush(self) -> NDArray[np.float32]:
        """End the stream, and take what the filter still held.

        Returns
        -------
        NDArray[float32], shape (m, n_channels)
            Empty the second time.
        """
        if self._flushed:
            return np.empty((0, self.n_channels), np.float32)
        self._flushed = True
        return self._resample(np.empty((0, self.n_channels), np.float32), last=True)

    def _resample(self, block: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        if self._stream is None:
            return block
        resampled: NDArray[np.float32] = self._stream.resample_chunk(np.ascontiguousarray(block, np.float32), last=last)
        return resampled
