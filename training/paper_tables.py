"""The paper's tables: their classes, rows and figures, and the class splits that fill them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mird.training.contenders import TRANSFORMS, Contender
from mird.training.errors import TrainingError


@dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes
    ----------
    classes : tuple of str
    n_training : tuple of int
        Classes that are trained on, row by row; the rest is tested.
    paper : dict by (network, picture) of tuple of (max, mean), per cent, row by row
    n_windows : int
        How many of a recipe's windows, of a second each, a clip is long that one picture of the paper's shows.
    """

    classes: tuple[str, ...]
    n_training: tuple[int, ...]
    paper: Mapping[tuple[str, str], tuple[tuple[int, int], ...]]
    n_windows: int = 1


TABLES = {
    "table3": Table(
        (
            "cello", "clarinet", "double-bass", "flute", "french-horn", "guitar", "oboe", "saxophone-alto",
            "saxophone-soprano", "trombone", "trumpet", "tuba", "viola", "violin",
        ),
        (2, 5, 8, 10, 12),
        {
            ("convolutional", "scalogram"): ((82, 65), (82, 69), (86, 74), (86, 75), (92, 78)),
            ("convolutional", "spectrogram"): ((74, 61), (76, 63), (78, 66), (80, 69), (82, 73)),
            ("residual", "scalogram"): ((74, 60), (84, 70), (90, 73), (94, 81), (96, 94)),
            ("residual", "spectrogram"): ((71, 52), (79, 64), (83, 68), (89, 78), (89, 84)),
        },
    ),
    "table4": Table(
        (
            "cello", "clarinet", "flute", "guitar", "guitar-electric", "organ", "piano", "saxophone-alto", "trumpet",
            "violin", "voice",
        ),
        (3, 5, 7, 9),
        {
            ("convolutional", "scalogram"): ((78, 55), (82, 60), (74, 63), (78, 61)),
            ("convolutional", "spectrogram"): ((73, 53), (76, 59), (72, 61), (76, 64)),
            ("residual", "scalogram"): ((74, 60), (78, 61), (80, 61), (82, 64)),
            ("residual", "spectrogram"): ((71, 52), (73, 54), (72, 61), (78, 63)),
        },
        n_windows=3,
    ),
}  # fmt: skip
"""The paper's figures. Its best task is a luckiest round of 50: compare means."""


@dataclass(frozen=True)
class Cell:
    """One training: a recipe's name, a picture, a number of training classes, a class split."""

    recipe: str
    picture: str
    n_training: int
    split: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.recipe}-{self.picture}-{self.n_training}-{self.split}"


def split_classes(classes: Sequence[str], n_training: int, split: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes that are trained on, and those that are tested, of one numbered split."""
    order = np.random.default_rng((n_training, split)).permutation(len(classes))
    chosen = {int(i) for i in order[:n_training]}
    training = tuple(name for i, name in enumerate(classes) if i in chosen)
    return training, tuple(name for i, name in enumerate(classes) if i not in chosen)


def list_splits(classes: Sequence[str], n_training: int, n_splits: int) -> list[int]:
    """The first numbers whose splits differ.

    Raises
    ------
    TrainingError
        If there are not so many ways to split the classes.
    """
    n_ways = math.comb(len(classes), n_training)
    if n_splits > n_ways:
        raise TrainingError(f"{n_splits} splits: {len(classes)} classes can be split in {n_ways} ways only")
    found: dict[tuple[str, ...], int] = {}
    numbers = itertools.count()
    while len(found) < n_splits:
        number = next(numbers)
        found.setdefault(split_classes(classes, n_training, number)[0], number)
    return list(found.values())


def list_cells(
    table: Table,
    contenders: Mapping[str, Contender],
    n_splits: int,
    *,
    pictures: Sequence[str] = tuple(TRANSFORMS),
    rows: Sequence[int] = (),
) -> list[Cell]:
    """The cells of some pictures and rows (of all rows where none is named), the first split of each before the second.

    No two cells of a recipe, picture and row are of the same split.

    Raises
    ------
    TrainingError
        If a row, which is called after its number of training classes, is none of the table's, or has fewer splits.
    """
    unknown = ", ".join(str(n) for n in rows if n not in table.n_training)
    if unknown:
        known = ", ".join(map(str, table.n_training))
        raise TrainingError(f"row {unknown}: the table trains on {known} classes")
    splits = {n: list_splits(table.classes, n, n_splits) for n in table.n_training if n in rows or not rows}
    return [
        Cell(name, picture, n, numbers[place])
        for place in range(n_splits)
        for name, contender in contenders.items()
        for picture in contender.shown
        for n, numbers in splits.items()
        if picture in pictures
    ]
