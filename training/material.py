"""Material: the windows of a run's recordings with their pictures, numbered through.

A recording that is longer than a window occurs as often as it has windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mird.training.manifest import Recording


@dataclass(frozen=True)
class Part:
    """Windows of one manifest's recordings with their levels, none of them silent.

    Attributes
    ----------
    recordings : tuple of Recording, one per window
    levels : NDArray[float16], shape (n_windows, 1 + n_composed, rows, columns)
    weight : float > 0
        How often its sources are drawn beside those of other parts.
    made : bool
        Played by `mird render`, not recorded.
    """

    recordings: tuple[Recording, ...]
    levels: NDArray[np.float16]
    weight: float = 1.0
    made: bool = False


class Material:
    """What a run trains on: windows, each called a clip here, are numbered through all parts.

    Parameters
    ----------
    parts : sequence of Part
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        sizes = [len(part.recordings) for part in parts]
        self._keep(np.repeat(np.arange(len(sizes)), sizes), np.concatenate([np.arange(size) for size in sizes]))

    def of(self, wanted: Callable[[Recording], bool]) -> Material:
        """The recordings that ``wanted`` says yes to, numbered anew; levels are shared."""
        numbers = [i for i, recording in enumerate(self.recordings) if wanted(recording)]
        fewer = Material(self._parts)
        fewer._keep(self._part[numbers], self._row[numbers])
        return fewer

    def _keep(self, part: NDArray[np.int64], row: NDArray[np.int64]) -> None:
        """Number recordings by their part and their row in it."""
        self._part, self._row = part, row
        self.recordings = tuple(self._parts[p].recordings[r] for p, r in zip(part, row, strict=True))
        self.weights = tuple(self._parts[p].weight for p in part)
        self.made = tuple(self._parts[p].made for p in part)

    def draw(self, clips: NDArray[np.int64], composed_share: float, rng: np.random.Generator) -> NDArray[np.float32]:
        """Levels of clips, shape (n, rows, columns), each clean or, with probability ``composed_share``, composed."""
        chosen = []
        for clip in clips:
            levels = self._parts[self._part[clip]].levels
            n_composed = levels.shape[1] - 1
            variant = int(rng.integers(1, n_composed + 1)) if n_composed and rng.random() < composed_share else 0
            chosen.append(levels[self._row[clip], variant])
        return np.stack(chosen).astype(np.float32)

    def clean(self, clips: Sequence[int]) -> NDArray[np.float32]:
        """Clean levels of clips, shape (n, rows, columns)."""
        return self.draw(np.array(clips, np.int64), 0.0, np.random.default_rng(0))
