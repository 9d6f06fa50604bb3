"""Balanced batches: some classes, some clips of each, from as many sources as there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class BalancedSampler:
    """Draws batches of ``n_classes`` classes with ``n_per_class`` clips each.

    Classes are drawn without replacement with probability proportional to the square root of their weighted size;
    within a class, sources take turns in an order drawn by weight, so that a positive is mostly another player in
    another room.

    Parameters
    ----------
    labels, sources : sequence of str, one per clip
    weights : sequence of float > 0, one per clip
        The same for all clips of a source: how often it is drawn beside the class's other sources.
    n_classes, n_per_class : int > 0
    rng : numpy.random.Generator
    """

    def __init__(
        self,
        labels: Sequence[str],
        sources: Sequence[str],
        weights: Sequence[float],
        n_classes: int,
        n_per_class: int,
        rng: np.random.Generator,
    ) -> None:
        self.classes = tuple(sorted(set(labels)))
        cells: dict[str, dict[str, list[int]]] = {}
        for number, (label, source) in enumerate(zip(labels, sources, strict=True)):
            cells.setdefault(label, {}).setdefault(source, []).append(number)
        self._cells = [[np.array(cells[name][source]) for source in sorted(cells[name])] for name in self.classes]
        self._cell_weights = [np.array([weights[int(cell[0])] for cell in found]) for found in self._cells]
        sizes = [
            sum(len(cell) * weight for cell, weight in zip(found, by, strict=True))
            for found, by in zip(self._cells, self._cell_weights, strict=True)
        ]
        self._class_weights = np.sqrt(sizes) / np.sqrt(sizes).sum()
        self._n_classes = min(n_classes, len(self.classes))
        self._n_per_class = n_per_class
        self.rng = rng

    def draw(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """One batch: clip numbers and class numbers, both of shape (n_classes * n_per_class,)."""
        chosen = self.rng.choice(len(self.classes), self._n_classes, replace=False, p=self._class_weights)
        clips: list[int] = []
        for number in chosen:
            cells, weights = self._cells[number], self._cell_weights[number]
            order: list[int] = []
            while len(order) < self._n_per_class:
                order += list(self.rng.choice(len(cells), len(cells), replace=False, p=weights / weights.sum()))
            clips += [int(self.rng.choice(cells[i])) for i in order[: self._n_per_class]]
        return np.array(clips), np.repeat(chosen, self._n_per_class)
