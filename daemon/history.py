"""The last seconds of every channel at the front end's rate, and when the next window is due."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

N_KEPT: Final = 4
"""Windows of samples that are kept: one that is due, a gap, a second of sound, and what a resampler held back."""


class History:
    """Rolling windows over a stream of samples. One thread uses it.

    Parameters
    ----------
    n_channels : int > 0
    window, hop : int > 0
        In samples. The first window ends at sample ``window``, each further one ``hop`` later.

    Attributes
    ----------
    n_samples : int
        Samples that have come in, gaps included: the stream's clock.
    due : int
        Where the next window ends.
    """

    def __init__(self, n_channels: int, window: int, hop: int) -> None:
        self._window, self._hop = window, hop
        self._samples = np.zeros((n_channels, (N_KEPT + 2) * window), np.float32)
        self._end = 0  # columns of _samples in use
        self._gaps: deque[tuple[int, int]] = deque()  # (first, last + 1) of silence put in for lost sound
        self.n_samples = 0
        self.due = window

    @property
    def pending(self) -> int:
        """Windows that are complete and have not been taken."""
        return max(0, (self.n_samples - self.due) // self._hop + 1)

    def push(self, samples: NDArray[np.float32]) -> None:
        """Append samples, shape (n, n_channels).

        Windows that are still due must fit into the `N_KEPT` windows of samples that are kept.
        """
        for first in range(0, len(samples), self._window):
            part = samples[first : first + self._window]
            if self._end + len(part) > self._samples.shape[1]:
                keep = min(self._end, N_KEPT * self._window)
                self._samples[:, :keep] = self._samples[:, self._end - keep : self._end].copy()
                self._end = keep
            self._samples[:, self._end : self._end + len(part)] = part.T
            self._end += len(part)
            self.n_samples += len(part)

    def push_gap(self, n: int) -> None:
        """Put silence in the place of ``n`` lost samples; where that is more than a window, go on at the gap's end."""
        self._gaps.append((self.n_samples, self.n_samples + n))
        skipped = max(0, n - self._window)
        if skipped:
            self.n_samples += skipped
            self.due = max(self.due, self.n_samples + self._window)
        self.push(np.zeros((n - skipped, len(self._samples)), np.float32))

    def mark_gap(self) -> None:
        """Note that sound was lost just now, and nobody knows how much: it counts as one sample."""
        if self.n_samples:
            self._gaps.append((self.n_samples - 1, self.n_samples))

    def skip_to_newest(self) -> int:
        """Leave out all windows that are due but the newest; returns how many."""
        n_skipped = max(0, self.pending - 1)
        self.due += n_skipped * self._hop
        return n_skipped

    def take(self) -> tuple[NDArray[np.float32], int, int]:
        """The next window that is due.

        Returns
        -------
        windows : NDArray[float32], shape (n_channels, window)
            A view that is valid until the next ``push``.
        sample_end : int
            The window's end on the stream's clock.
        n_gap : int
            Samples of the window that were lost.
        """
        sample_end = self.due
        self.due += self._hop
        last = self._end - (self.n_samples - sample_end)
        sample_start = sample_end - self._window
        while self._gaps and self._gaps[0][1] <= sample_start:
            self._gaps.popleft()
        n_gap = sum(max(0, min(end, sample_end) - max(first, sample_start)) for first, end in self._gaps)
        return self._samples[:, last - self._window : last], sample_end, n_gap
