"""The paper's Tables III and IV on our data: class splits, networks and pictures, cell by cell, each kept when done."""

from __future__ import annotations

import functools
import itertools
import json
import math
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mird.training.audio import fit_length, read_mono
from mird.training.baselines import mfcc_statistics
from mird.training.contenders import TRANSFORMS, Contender, Trained
from mird.training.errors import TrainingError
from mird.training.manifest import Recording
from mird.training.protocol import N_ROUNDS, N_TASKS, Outcome, cosine_score, distance_score, draw_tasks, run_rounds
from mird.training.whole import write_whole

CELLS, REPORT = "cells", "report.md"
MFCC_HZ = 44_100
"""Rate of the statistics, which are of as many seconds as a picture of the paper's."""


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


def reproduce(
    name: str,
    contenders: Mapping[str, Contender],
    folder: Path,
    *,
    n_splits: int,
    device: str,
    progress: Callable[[int, int, str], None],
    stop: Callable[[], bool] = lambda: False,
    n_rounds: int = N_ROUNDS,
    pictures: Sequence[str] = tuple(TRANSFORMS),
    rows: Sequence[int] = (),
) -> Path:
    """Train and test every cell that is not done yet, and write the report.

    Processes that share neither a picture nor a recipe may work in one folder at once.

    Parameters
    ----------
    name : {"table3", "table4"}
    contenders : mapping of Contender by the recipe's name
    folder : Path
        Keeps a file for each cell that is done, and the checkpoint of the one that is not.
    n_rounds : int > 0
        Rounds of 50 tasks; the paper's number unless for a trial.
    pictures, rows : sequence
        Which cells, as of :func:`list_cells`; the report covers whatever the folder has.

    Returns
    -------
    Path
        The report, which covers what is done, also where ``stop()`` ended it.

    Raises
    ------
    TrainingError
        If a class of the table has too few recordings, a row is none of the table's, or a file cannot be written.
    """
    table = TABLES[name]
    cells = list_cells(table, contenders, n_splits, pictures=pictures, rows=rows)
    for number, cell in enumerate(cells):
        path = folder / CELLS / f"{cell.name}.json"
        contender = contenders[cell.recipe]
        identity = json.loads(json.dumps({**contender.identity(cell.picture), "n_rounds": n_rounds}))
        if path.exists() and _fits(path, identity):
            continue
        progress(number, len(cells), cell.name)
        checkpoint = folder / cell.name

        def say(step: int, n_steps: int, loss: float, number: int = number, cell: Cell = cell) -> None:
            progress(number, len(cells), f"{cell.name}: step {step} of {n_steps}, loss {loss:.3f}")

        training, testing = split_classes(table.classes, cell.n_training, cell.split)
        trained = contender.train(cell.picture, training, cell.split, checkpoint, say, stop)
        if trained is None:
            break
        recordings, pixels, lines = contender.recordings(cell.picture)
        result = {
            **asdict(cell),
            "kind": contender.kind,
            "left_out": list(lines),
            **identity,
            "training": list(training),
            "testing": list(testing),
            "device": device,
            "machine": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
            "loss": trained.loss,
            **_answer(cell, testing, recordings, pixels, trained, n_rounds, table.n_windows),
        }
        _write(path, json.dumps(result, indent=1) + "\n")
        checkpoint.with_suffix(".pt").unlink(missing_ok=True)
        shutil.rmtree(checkpoint, ignore_errors=True)
    report = folder / REPORT
    kinds = {recipe: contender.kind for recipe, contender in contenders.items()}
    _write(report, "\n".join(_report(name, table, kinds, folder)) + "\n")
    return report


def rows_of(name: str, recordings: Sequence[Recording]) -> list[Recording]:
    """Recordings of a table's classes; TrainingError if a class has none."""
    classes = TABLES[name].classes
    rows = [r for r in recordings if r.label in classes]
    absent = sorted(set(classes) - {r.label for r in rows})
    if absent:
        raise TrainingError(f"{name} needs {len(classes)} classes; without recordings: {', '.join(absent)}")
    return rows


def _answer(
    cell: Cell,
    testing: Sequence[str],
    recordings: Sequence[Recording],
    pixels: NDArray[np.generic],
    trained: Trained,
    n_rounds: int,
    seconds: int,
) -> dict[str, Any]:
    """What network, pixels and MFCC statistics make of one cell's tasks."""
    labels, takes = [r.label for r in recordings], [r.take for r in recordings]
    rng = np.random.default_rng((cell.split, cell.n_training))
    tasks = draw_tasks(rng, labels, takes, testing, n_rounds * N_TASKS)
    used = sorted({int(i) for i in tasks.ravel()})
    statistics = np.zeros((len(labels), 26), np.float32)
    for i in used:
        statistics[i] = _mfcc(recordings[i].path, seconds)
    spread = statistics[used]
    statistics = (statistics - spread.mean(0)) / (spread.std(0) + 1e-6)
    found = {
        "network": run_rounds(tasks, lambda pairs: trained.scores(used, pairs), n_rounds),
        "pixels": run_rounds(tasks, distance_score(pixels), n_rounds),
        "mfcc": run_rounds(tasks, cosine_score(statistics), n_rounds),
    }
    return {key: asdict(value) for key, value in found.items()}


@functools.cache
def _mfcc(path: Path, seconds: int) -> NDArray[np.float32]:
    return mfcc_statistics(fit_length(read_mono(path, MFCC_HZ), seconds * MFCC_HZ), MFCC_HZ)


def _fits(path: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether a cell's file is of this recipe; TrainingError if it is not, or damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        # Cells of before the others were noted have the options alone.
        same = found["options"] == wanted["options"] and all(
            found.get(key, wanted[key]) == wanted[key] for key in wanted
        )
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{path}: damaged cell: {error}; remove it to compute it again") from None
    if not same:
        raise TrainingError(
            f"{path}: is of another recipe or other recordings; choose another --out folder or remove it"
        )
    return True


def _report(name: str, table: Table, kinds: Mapping[str, str], folder: Path) -> Iterator[str]:
    """The lines of a report on all cells of a folder; ``kinds`` has the networks of the recipes that were asked for."""
    done = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / CELLS).glob("*.json"))]
    kinds = {**{cell["recipe"]: cell.get("kind", "residual") for cell in done}, **kinds}
    yield f"# {name} of the paper, on our recordings"
    yield ""
    yield (
        f"Two-way one-shot tasks on classes that were not trained on: {N_ROUNDS} rounds of {N_TASKS}, query and "
        "support of different takes. Mean over class splits with a 95 % interval over splits, and in brackets the best "
        "round; the paper's figures are `mean (max)`, of its one split. Pixels (nearest neighbour) and MFCC statistics "
        "(cosine) answer the same tasks; chance is 50."
    )
    for recipe, kind in kinds.items():
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
            # The same tasks whatever the picture, so the same figures.
            mfcc = _over_splits(max(cells.values(), key=len), "mfcc")
            yield f"| {n} + {len(table.classes) - n} | {counts} | " + " | ".join(shown) + f" | {mfcc} | {machines} |"
        yield ""
        yield _finding([d for d in done if d["recipe"] == recipe])
    left_out = dict.fromkeys(line for cell in done for line in cell.get("left_out", ()))
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written: {error.strerror}; what is done is kept") from None
