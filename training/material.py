"""Material: the recordings of a run with their pictures, numbered through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mird.training.manifest import Recording


@dataclass(frozen=True)
class Part:
    """Recordings of one manifest with their levels, none of them silent.

    Attributes
    ----------
    recordings : tuple of Recording
    levels : NDArray[float16], shape (n_recordings, 1 + n_composed, rows, columns)
    weight : float > 0
        How often its sources are drawn beside those of other parts.
    """

    recordings: tuple[Recording, ...]
    levels: NDArray[np.float16]
    weight: float = 1.0


class Material:
    """What a run trains on: clips are numbered through all parts.

    Parameters
    ----------
    parts : sequence of Part
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = tuple(parts)
        self.recordings = tuple(r for part in parts for r in part.recordings)
        self.weights = tuple(part.weight for part in parts for _ in part.recordings)
        self._first = np.cumsum([0, *(len(part.recordings) for part in parts)])

    def draw(self, clips: NDArray[np.int64], composed_share: float, rng: np.random.Generator) -> NDArray[np.float32]:
        """Levels of clips, shape (n, rows, columns), each clean or, with probability ``composed_share``, composed."""
        chosen = []
        for clip in clips:
            index = int(np.searchsorted(self._first, clip, side="right")) - 1
            levels = self._parts[index].levels
            n_composed = levels.shape[1] - 1
            variant = int(rng.integers(1, n_composed + 1)) if n_composed and rng.random() < composed_share else 0
            chosen.append(levels[clip - self._first[index], variant])
        return np.stack(chosen).astype(np.float32)

    def clean(self, clips: Sequence[int]) -> NDArray[np.float32]:
        """Clean levels of clips, shape (n, rows, columns)."""
        return self.draw(np.array(clips, np.int64), 0.0, np.random.default_rng(0))
