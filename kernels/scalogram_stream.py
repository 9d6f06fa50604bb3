"""The incremental scalogram: only the newest columns of a hop are computed, the others move on.

Its definition differs from the isolated window's, and is its own: every column holds the magnitudes that the full
transform of *all the sound so far*, reflected at its newest sample alone, had when the column was last computed. A hop
of ``hop`` samples moves the picture by ``hop_columns``; of each row the newest ``hop_columns + reach`` columns are
computed anew from a segment that reaches twice as far back, where ``reach`` covers the wavelet's length: what lies
further back no longer changes. So the left of the picture shows true history, not the reflection of an isolated
window's first samples; the right is the same. Rows whose wavelets are too long for the window are computed from the
whole of it, as ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd

import numpy as np
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.morse import Morse
from mird.kernels.scalogram_bands import BandScalogram, check_windows
from mird.kernels.scalogram_pieces import Transforms

SUPPORT = 1e-3
"""A wavelet's reach ends where its envelope has fallen to this share of its peak."""

REACHES = (1, 2, 4, 7)
"""Reaches in hops: rows are gathered into segments of these, since each segment costs a DCT of its own."""


@dataclass(frozen=True)
class Segment:
    """Rows that are computed from one stretch of the newest sound.

    Attributes
    ----------
    rows : (first, last + 1)
    n_samples : samples of the stretch
    n_kept : newest columns that are replaced
    transform : the scalogram of the stretch
    """

    rows: tuple[int, int]
    n_samples: int
    n_kept: int
    transform: BandScalogram


class StreamScalogram:
    """Scalograms of several channels that move on hop by hop. Holds the sound and the picture: one thread.

    Parameters
    ----------
    front_end : FrontEnd
    transforms : Transforms
        The FFT library.
    n_channels : int > 0
    hop_columns : int > 0, optional
        Columns of a hop; the fewest that are whole samples, and at least eight, if not given.

    Attributes
    ----------
    hop : int
        Samples of a hop.

    Raises
    ------
    ParameterError
        If a hop would not be whole samples, or be longer than half the window.
    """

    def __init__(
        self, front_end: FrontEnd, transforms: Transforms, n_channels: int = 1, hop_columns: int | None = None
    ) -> None:
        window, n_columns = front_end.window, front_end.n_columns
        least = n_columns // gcd(window, n_columns)
        if hop_columns is None:
            hop_columns = least * -(-8 // least)
        if hop_columns < 1 or hop_columns % least or 2 * hop_columns > n_columns:
            raise ParameterError(
                f"hop_columns={hop_columns} must be a multiple of {least}, for a hop of whole samples, "
                f"and at most half of n_columns={n_columns}"
            )
        self.hop_columns, self.hop = hop_columns, hop_columns * window // n_columns
        morse = Morse(front_end.gamma, front_end.time_bandwidth)
        scales = morse.scales(window, front_end.voices)[: front_end.n_scales or None]
        # The envelope of a Morse wavelet is nearly Gaussian, of this standard deviation in samples.
        deviations = scales * np.sqrt(front_end.time_bandwidth) / morse.peak
        reaches = deviations * np.sqrt(2 * np.log(1 / SUPPORT)) / self.hop
        self._segments = self._cut(front_end, transforms, reaches)
        self.frequencies_hz = morse.frequencies_hz(scales, front_end.rate_hz)
        self.name = f"{transforms.name}, incremental"
        self._sound = np.zeros((n_channels, window), np.float32)
        self.magnitudes: NDArray[np.float32] = np.zeros((n_channels, len(scales), n_columns), np.float32)

    def _cut(self, front_end: FrontEnd, transforms: Transforms, reaches: NDArray[np.float64]) -> list[Segment]:
        n_hops = front_end.n_columns // self.hop_columns
        segments, row = [], 0
        for reach in (*REACHES, n_hops):
            whole = 1 + 2 * reach >= n_hops
            last = len(reaches) if whole else int(np.searchsorted(reaches, reach, side="right"))
            if last > row:
                n_columns = front_end.n_columns if whole else (1 + 2 * reach) * self.hop_columns
                n_kept = front_end.n_columns if whole else (1 + reach) * self.hop_columns
                n_samples = n_columns * front_end.window // front_end.n_columns
                part = replace(front_end, window=n_samples, n_columns=n_columns, n_scales=last)
                segments.append(Segment((row, last), n_samples, n_kept, BandScalogram(part, transforms, first_row=row)))
                row = last
            if whole:
                break
        return segments

    def clear(self) -> None:
        """Forget the sound and the picture, as if silence had gone before."""
        self._sound[...] = 0
        self.magnitudes[...] = 0

    def push(self, samples: NDArray[np.floating]) -> NDArray[np.float32]:
        """Move on by one hop.

        Parameters
        ----------
        samples : NDArray[floating], shape (n_channels, hop)

        Returns
        -------
        NDArray[float32], shape (n_channels, n_scales, n_columns), >= 0
            A view of :attr:`magnitudes`, which the next call changes.

        Raises
        ------
        ParameterError
            If the shape is wrong or a sample is not finite; nothing has moved then.
        """
        checked = check_windows(samples, self.hop)
        if len(samples) != len(self._sound):
            raise ParameterError(f"samples have {len(samples)} channels, {len(self._sound)} are needed")
        self._sound[:, : -self.hop] = self._sound[:, self.hop :]
        self._sound[:, -self.hop :] = checked
        moving = self.magnitudes[..., : -self.hop_columns]
        moving[...] = self.magnitudes[..., self.hop_columns :]
        for segment in self._segments:
            newest = segment.transform(self._sound[:, -segment.n_samples :])[..., -segment.n_kept :]
            self.magnitudes[:, slice(*segment.rows), -segment.n_kept :] = newest
        return self.magnitudes
