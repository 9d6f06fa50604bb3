"""What stands in the paper's tables: its own networks, trained on pairs, and mird's recipe, under one interface.

mird's recipe may learn from every other instrument, too. Those are the same in every cell, so one start is trained on
them alone, and each cell goes on from it for `CELL_STEPS` with its own classes added. No weight of a cell has met its
test classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mird.kernels.frontend import Transform
from mird.training.audio import CUT
from mird.training.fitting import embed, project
from mird.training.layouts import read_recordings
from mird.training.manifest import Recording
from mird.training.material import Material
from mird.training.paper import PairTrainer, PaperRecipe, Pictures, draw_pictures
from mird.training.protocol import cosine_score
from mird.training.recipe import Recipe
from mird.training.run import Data, load_data
from mird.training.trainer import Trainer

TRANSFORMS: dict[str, Transform] = {"scalogram": "morse", "spectrogram": "stft"}
CELL_STEPS = 100
CELL_RATE = 0.25
"""Share of the recipe's rate at which a cell goes on from the start."""
CELL_AVERAGE = 0.98
SAME_INSTRUMENT = {"fiddle": "violin", "choir": "voice", "guitar-electric-distorted": "guitar-electric"}
"""Classes that are an instrument under another name: never trained on where that one is of the table."""

Say = Callable[[int, int, float], None]
"""Hears of steps done, steps in all and the loss."""
Stop = Callable[[], bool]
Hear = Callable[[int, int, str], None]
"""Hears of pictures: how many of how many are done, and of what; may raise KeyboardInterrupt."""


@dataclass(frozen=True)
class Trained:
    """A cell's network.

    Attributes
    ----------
    loss : float
        The last one.
    scores : callable (numbers, pairs) -> NDArray, shape (n_pairs,)
        How alike pairs of recordings are; ``pairs``, shape (n_pairs, 2), are of ``numbers``.
    """

    loss: float
    scores: Callable[[Sequence[int], NDArray[np.int64]], NDArray[np.floating]]


class Contender(Protocol):
    """A recipe in a table.

    Attributes
    ----------
    kind : {"residual", "convolutional"}
        Beside which of the paper's networks it stands.
    shown : tuple of str
        The pictures that it is trained on.
    """

    kind: str
    shown: tuple[str, ...]

    def identity(self, picture: str) -> dict[str, Any]:
        """What a cell's figures hang on: options, seed, front end, how clips are cut, a digest of the recordings."""

    def recordings(self, picture: str) -> tuple[tuple[Recording, ...], NDArray[np.generic], tuple[str, ...]]:
        """Those of the table that could be used, their pixels, shape (n, n_pixels), and a line for each left out."""

    def train(
        self, picture: str, training: Sequence[str], split: int, checkpoint: Path, say: Say, stop: Stop
    ) -> Trained | None:
        """Train on some classes of the table; None where ``stop()`` ended it, with a checkpoint left."""


class PairContender:
    """A recipe of the paper: what it trains on is of the table alone."""

    shown: tuple[str, ...] = tuple(TRANSFORMS)

    def __init__(
        self, recipe: PaperRecipe, rows: Sequence[Recording], cache: Path, device: str, hear: Hear = lambda *_: None
    ) -> None:
        self.kind = recipe.pairs.kind
        self._recipe, self._rows, self._cache, self._device, self._hear = recipe, rows, cache, device, hear
        self._found: dict[str, tuple[Pictures, tuple[str, ...]]] = {}

    def identity(self, picture: str) -> dict[str, Any]:
        """See :class:`Contender`."""
        recipe = self._recipe.with_transform(TRANSFORMS[picture])
        return {
            "options": asdict(recipe.pairs),
            "seed": recipe.seed,
            "front_end": recipe.front_end.fingerprint(),
            "windows": CUT,
            "data": _digest(self._rows),
        }

    def recordings(self, picture: str) -> tuple[tuple[Recording, ...], NDArray[np.generic], tuple[str, ...]]:
        """See :class:`Contender`."""
        pictures, left_out = self._pictures(picture)
        return pictures.recordings, pictures.entries.reshape(len(pictures.recordings), -1), left_out

    def train(
        self, picture: str, training: Sequence[str], split: int, checkpoint: Path, say: Say, stop: Stop
    ) -> Trained | None:
        """See :class:`Contender`."""
        recipe = replace(self._recipe.with_transform(TRANSFORMS[picture]), seed=self._recipe.seed + split)
        trainer = PairTrainer(recipe, self._pictures(picture)[0], training, self._device, checkpoint.with_suffix(".pt"))
        if not trainer.run(lambda step, loss: say(step, recipe.pairs.n_steps, loss), stop):
            return None
        return Trained(trainer.loss, trainer.scores)

    def _pictures(self, picture: str) -> tuple[Pictures, tuple[str, ...]]:
        if picture not in self._found:
            front_end = self._recipe.with_transform(TRANSFORMS[picture]).front_end
            self._found[picture] = draw_pictures(
                self._rows, front_end, self._cache, lambda done, total: self._hear(done, total, picture + "s")
            )
        return self._found[picture]


class OwnContender:
    """A recipe of mird's: every instrument outside the table is in training, too.

    Parameters
    ----------
    manifests, rendered : sequence of Path
        As of :func:`mird.training.run.load_data`; nothing is held out but the cell's test classes.
    classes : sequence of str
        Of the table.
    folder : Path
        Keeps the start.
    name : str
        The recipe's.
    """

    kind: str = "residual"
    shown: tuple[str, ...] = tuple(TRANSFORMS)

    def __init__(
        self,
        recipe: Recipe,
        manifests: Sequence[Path],
        rendered: Sequence[Path],
        classes: Sequence[str],
        folder: Path,
        cache: Path,
        device: str,
        name: str,
        hear: Hear = lambda *_: None,
    ) -> None:
        options = replace(recipe.data, held_out_sources=(), held_out_classes=())
        self._recipe = replace(recipe, data=options)
        self._manifests, self._rendered, self._classes = manifests, rendered, frozenset(classes)
        self._folder, self._cache, self._device, self._name, self._hear = folder, cache, device, name, hear
        self._digested = ""
        self._data: dict[str, Data] = {}
        self._starts: dict[str, dict[str, Tensor]] = {}

    def identity(self, picture: str) -> dict[str, Any]:
        """See :class:`Contender`."""
        recipe = self._of(picture)
        own = {"cell_steps": CELL_STEPS, "cell_rate": CELL_RATE}
        if not self._digested:
            self._digested = _digest(
                [row for path in (*self._manifests, *self._rendered) for row in read_recordings(path)]
            )
        return {
            "options": {**asdict(recipe), **own},
            "seed": recipe.seed,
            "front_end": recipe.front_end.fingerprint(),
            "windows": CUT,
            "data": self._digested,
        }

    def recordings(self, picture: str) -> tuple[tuple[Recording, ...], NDArray[np.generic], tuple[str, ...]]:
        """See :class:`Contender`."""
        data = self._load(picture)
        material = data.material
        numbers = self._of_table(material)
        left_out = (*data.damaged, *(f"{row.path}: without sound" for row in data.silent))
        pixels = material.clean(numbers).reshape(len(numbers), -1)
        return tuple(material.recordings[i] for i in numbers), pixels, left_out

    def train(
        self, picture: str, training: Sequence[str], split: int, checkpoint: Path, say: Say, stop: Stop
    ) -> Trained | None:
        """See :class:`Contender`."""
        start = self._start(picture, say, stop)
        if start is None:
            return None
        recipe, material = self._of(picture), self._load(picture).material
        learnt = material.of(lambda row: row.label in training or self._is_other(row))
        trainer = Trainer(_for_cell(recipe, split), learnt, checkpoint, self._device)
        if not trainer.resume():
            trainer.encoder.load_state_dict(start)
            trainer.average.load_state_dict(start)
        if not _run(trainer, CELL_STEPS, say, stop):
            return None
        rows = [i for i, row in enumerate(learnt.recordings) if row.is_instrument]
        projection = project(trainer.average, recipe, learnt, rows)
        of_table = self._of_table(material)

        def scores(numbers: Sequence[int], pairs: NDArray[np.int64]) -> NDArray[np.floating]:
            levels = material.clean([of_table[number] for number in numbers])
            vectors = projection.apply(embed(trainer.average, levels, recipe))
            place = np.zeros(max(numbers) + 1, np.int64)
            place[list(numbers)] = np.arange(len(numbers))
            return cosine_score(vectors)(place[pairs])

        return Trained(float(trainer.loss), scores)

    def _start(self, picture: str, say: Say, stop: Stop) -> dict[str, Tensor] | None:
        """Weights that have met no class of the table; None where ``stop()`` ended their training."""
        if picture not in self._starts:
            recipe = self._of(picture)
            material = self._load(picture).material.of(self._is_other)
            trainer = Trainer(recipe, material, self._folder / f"start-{self._name}-{picture}", self._device)
            trainer.resume()
            if not _run(trainer, recipe.optimiser.n_steps, say, stop):
                return None
            self._starts[picture] = {key: value.clone() for key, value in trainer.average.state_dict().items()}
        return self._starts[picture]

    def _of(self, picture: str) -> Recipe:
        return replace(self._recipe, front_end=replace(self._recipe.front_end, transform=TRANSFORMS[picture]))

    def _is_other(self, row: Recording) -> bool:
        return SAME_INSTRUMENT.get(row.label, row.label) not in self._classes

    def _load(self, picture: str) -> Data:
        if picture not in self._data:
            self._data[picture] = load_data(self._manifests, self._rendered, self._of(picture), self._cache, self._hear)
        return self._data[picture]

    def _of_table(self, material: Material) -> list[int]:
        """Numbers of the first windows of the table's recordings; clips that were rendered are for training alone."""
        made = {path.resolve().parent for path in self._rendered}
        first: dict[Recording, int] = {}
        for number, row in enumerate(material.recordings):
            first.setdefault(row, number)
        return [
            number
            for row, number in first.items()
            if row.label in self._classes and not made.intersection(row.path.resolve().parents)
        ]


def _digest(recordings: Sequence[Recording]) -> str:
    """Of what recordings are called, of which class and source they are, and how long their files are."""
    lines = sorted(f"{r.path.name}|{r.label}|{r.source}|{r.path.stat().st_size}\n" for r in recordings)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _for_cell(recipe: Recipe, split: int) -> Recipe:
    options = recipe.optimiser
    shorter = replace(
        options, n_steps=CELL_STEPS, rate=options.rate * CELL_RATE, steady=0.0, average=CELL_AVERAGE, warm_up=0.1
    )
    return replace(recipe, seed=recipe.seed + split, optimiser=shorter)


def _run(trainer: Trainer, n_steps: int, say: Say, stop: Stop) -> bool:
    """Train to the end; False where ``stop()`` ended it."""
    trainer.run(lambda report: say(report.step, n_steps, report.loss), stop=stop)
    return trainer.step >= n_steps
