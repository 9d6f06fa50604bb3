"""The paper's Tables III and IV on our data: class splits, networks and pictures, cell by cell, each kept when done."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mird.kernels.frontend import Transform
from mird.training.audio import fit_length, read_mono
from mird.training.baselines import mfcc_statistics
from mird.training.errors import TrainingError
from mird.training.manifest import Recording
from mird.training.paper import PairTrainer, PaperRecipe, Pictures, draw_pictures
from mird.training.protocol import N_ROUNDS, N_TASKS, Outcome, cosine_score, distance_score, draw_tasks, run_rounds

TRANSFORMS: dict[str, Transform] = {"scalogram": "morse", "spectrogram": "stft"}
CELLS, REPORT = "cells", "report.md"


@dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes
    ----------
    classes : tuple of str
    n_training : tuple of int
        Classes that are trained on, row by row; the rest is tested.
    paper : dict by (network, picture) of tuple of (max, mean), per cent, row by row
    """

    classes: tuple[str, ...]
    n_training: tuple[int, ...]
    paper: Mapping[tuple[str, str], tuple[tuple[int, int], ...]]


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


def list_cells(table: Table, recipes: Sequence[str], n_splits: int) -> list[Cell]:
    """All cells, the first split of every row before the second."""
    return [
        Cell(recipe, picture, n, split)
        for split in range(n_splits)
        for recipe in recipes
        for picture in TRANSFORMS
        for n in table.n_training
    ]


def reproduce(
    name: str,
    recordings: Sequence[Recording],
    recipes: Mapping[str, PaperRecipe],
    folder: Path,
    *,
    n_splits: int,
    device: str,
    progress: Callable[[int, int, str], None],
    stop: Callable[[], bool] = lambda: False,
    n_rounds: int = N_ROUNDS,
) -> Path:
    """Train and test every cell that is not done yet, and write the report.

    Parameters
    ----------
    name : {"table3", "table4"}
    recordings : sequence of Recording
        Those of other classes than the table's are left out.
    recipes : mapping of PaperRecipe by name
    folder : Path
        Keeps a file for each cell that is done, and the checkpoint of the one that is not.
    n_rounds : int > 0
        Rounds of 50 tasks; the paper's number unless for a trial.

    Returns
    -------
    Path
        The report, which covers what is done, also where ``stop()`` ended it.

    Raises
    ------
    TrainingError
        If a class of the table has too few recordings, or a file cannot be written.
    """
    table = TABLES[name]
    rows = [r for r in recordings if r.label in table.classes]
    absent = sorted(set(table.classes) - {r.label for r in rows})
    if absent:
        raise TrainingError(f"{name} needs {len(table.classes)} classes; without recordings: {', '.join(absent)}")
    left_out: dict[str, None] = {}
    cells = list_cells(table, list(recipes), n_splits)
    pictures: dict[tuple[str, str], Pictures] = {}
    for number, cell in enumerate(cells):
        path = folder / CELLS / f"{cell.name}.json"
        recipe = recipes[cell.recipe].with_transform(TRANSFORMS[cell.picture])
        if path.exists() and _fits(path, recipe, n_rounds):
            continue
        progress(number, len(cells), cell.name)
        key = (cell.picture, recipe.front_end.fingerprint())
        if key not in pictures:
            pictures[key], lines = draw_pictures(rows, recipe.front_end, folder / "cache")
            left_out.update(dict.fromkeys(lines))
        result = _run_cell(
            cell, table, recipe, pictures[key], folder, device, progress, number, len(cells), stop, n_rounds
        )
        if result is None:
            break
        _write(path, json.dumps(result, indent=1) + "\n")
        (folder / f"{cell.name}.pt").unlink(missing_ok=True)
    report = folder / REPORT
    _write(report, "\n".join(_report(name, table, recipes, folder, list(left_out))) + "\n")
    return report


def _run_cell(
    cell: Cell,
    table: Table,
    recipe: PaperRecipe,
    pictures: Pictures,
    folder: Path,
    device: str,
    progress: Callable[[int, int, str], None],
    number: int,
    total: int,
    stop: Callable[[], bool],
    n_rounds: int,
) -> dict[str, Any] | None:
    """One cell's figures; None where it was stopped."""
    training, testing = split_classes(table.classes, cell.n_training, cell.split)
    seeded = replace(recipe, seed=recipe.seed + cell.split)
    trainer = PairTrainer(seeded, pictures, training, device, folder / f"{cell.name}.pt")
    n_steps = recipe.pairs.n_steps
    if not trainer.run(
        lambda step, loss: progress(number, total, f"{cell.name}: step {step} of {n_steps}, loss {loss:.3f}"), stop
    ):
        return None
    labels, takes = [r.label for r in pictures.recordings], [r.take for r in pictures.recordings]
    rng = np.random.default_rng((cell.split, cell.n_training))
    tasks = draw_tasks(rng, labels, takes, testing, n_rounds * N_TASKS)
    used = sorted({int(i) for i in tasks.ravel()})
    pixels = pictures.entries.reshape(len(labels), -1)
    rate_hz, window = recipe.front_end.rate_hz, recipe.front_end.window
    statistics = np.zeros((len(labels), 26), np.float32)
    for i in used:
        statistics[i] = mfcc_statistics(fit_length(read_mono(pictures.recordings[i].path, rate_hz), window), rate_hz)
    spread = statistics[used]
    statistics = (statistics - spread.mean(0)) / (spread.std(0) + 1e-6)
    found = {
        "network": run_rounds(tasks, lambda pairs: trainer.scores(used, pairs), n_rounds),
        "pixels": run_rounds(tasks, distance_score(pixels), n_rounds),
        "mfcc": run_rounds(tasks, cosine_score(statistics), n_rounds),
    }
    return {
        **asdict(cell),
        **_identity(recipe, n_rounds),
        "training": list(training),
        "testing": list(testing),
        "device": device,
        "machine": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
        "loss": trainer.loss,
        **{key: asdict(value) for key, value in found.items()},
    }


def _identity(recipe: PaperRecipe, n_rounds: int) -> dict[str, Any]:
    """What a cell's figures hang on, beside the recordings."""
    return {
        "options": asdict(recipe.pairs),
        "seed": recipe.seed,
        "front_end": recipe.front_end.fingerprint(),
        "n_rounds": n_rounds,
    }


def _fits(path: Path, recipe: PaperRecipe, n_rounds: int) -> bool:
    """Whether a cell's file is of this recipe; TrainingError if it is not, or damaged."""
    wanted = _identity(recipe, n_rounds)
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        # Cells of before the others were noted have the options alone.
        same = found["options"] == wanted["options"] and all(
            found.get(key, wanted[key]) == wanted[key] for key in wanted
        )
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{path}: damaged cell: {error}; remove it to compute it again") from None
    if not same:
        raise TrainingError(f"{path}: is of another recipe; choose another --out folder or remove it")
    return True


def _report(
    name: str, table: Table, recipes: Mapping[str, PaperRecipe], folder: Path, left_out: Sequence[str]
) -> Iterator[str]:
    done = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / CELLS).glob("*.json"))]
    yield f"# {name} of the paper, on our recordings"
    yield ""
    yield (
        f"Two-way one-shot tasks on classes that were not trained on: {N_ROUNDS} rounds of {N_TASKS}, query and "
        "support of different takes. Mean over class splits with a 95 % interval over splits, and in brackets the best "
        "round; the paper's figures are `mean (max)`, of its one split. Pixels (nearest neighbour) and MFCC statistics "
        "(cosine) answer the same tasks; chance is 50."
    )
    for recipe in recipes:
        kind = recipes[recipe].pairs.kind
        yield ""
        yield f"## {recipe}"
        yield ""
        head = [f"{p}, {what}" for p in TRANSFORMS for what in ("measured", "paper", "pixels")]
        yield "| training + test classes | splits | " + " | ".join(head) + " | MFCC | ran on |"
        yield "|" + "---|" * (len(head) + 4)
        for row, n in enumerate(table.n_training):
            cells = {
                p: [d for d in done if (d["recipe"], d["picture"], d["n_training"]) == (recipe, p, n)]
                for p in TRANSFORMS
            }
            shown = []
            for picture, found in cells.items():
                best, mean = table.paper[kind, picture][row]
                shown += [_over_splits(found, "network"), f"{mean} ({best})", _over_splits(found, "pixels")]
            every = [d for found in cells.values() for d in found]
            machines = ", ".join(sorted({f"{d['device']}: {d['machine']}" for d in every})) or "not run"
            counts = "/".join(str(len(found)) for found in cells.values())
            mfcc = _over_splits(cells["scalogram"], "mfcc")
            yield f"| {n} + {len(table.classes) - n} | {counts} | " + " | ".join(shown) + f" | {mfcc} | {machines} |"
        yield ""
        yield _finding([d for d in done if d["recipe"] == recipe])
    if left_out:
        yield ""
        yield "Left out:"
        yield ""
        yield from (f"- {line}" for line in left_out)


def _over_splits(found: Sequence[Mapping[str, Any]], system: str) -> str:
    if not found:
        return "not run"
    outcomes = [Outcome(**d[system]) for d in found]
    means = 100 * np.array([o.mean for o in outcomes])
    interval = f" ± {1.96 * means.std(ddof=1) / len(means) ** 0.5:.1f}" if len(means) > 1 else ""
    return f"{means.mean():.1f}{interval} ({100 * max(o.best for o in outcomes):.0f})"


def _finding(done: Sequence[Mapping[str, Any]]) -> str:
    """Scalogram against spectrogram, split by split."""
    by = {(d["picture"], d["n_training"], d["split"]): 100 * d["network"]["mean"] for d in done}
    pairs = [
        value - by["spectrogram", n, split]
        for (picture, n, split), value in by.items()
        if picture == "scalogram" and ("spectrogram", n, split) in by
    ]
    if len(pairs) < 2:
        return "Scalogram against spectrogram: too few pairs of cells for a finding."
    mean, half = float(np.mean(pairs)), 1.96 * float(np.std(pairs, ddof=1)) / len(pairs) ** 0.5
    said = "no difference is shown" if abs(mean) <= half else ("better" if mean > 0 else "worse") + " on these data"
    return (
        f"Scalogram less spectrogram, over {len(pairs)} pairs of cells of the same split: {mean:+.1f} points "
        f"(95 % interval {mean - half:+.1f} to {mean + half:+.1f}): {said}."
    )


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(path.suffix + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written: {error.strerror}; what is done is kept") from None
