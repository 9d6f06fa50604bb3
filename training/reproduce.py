"""The paper's Tables III and IV on our data: class splits, networks and pictures, cell by cell, each kept when done."""

from __future__ import annotations

import functools
import json
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mird.training.audio import cut, fit_length, read_mono
from mird.training.baselines import mfcc_statistics
from mird.training.contenders import TRANSFORMS, Contender, Trained
from mird.training.errors import TrainingError
from mird.training.manifest import Recording
from mird.training.paper_tables import TABLES, Cell, list_cells, split_classes
from mird.training.protocol import N_ROUNDS, N_TASKS, cosine_score, distance_score, draw_tasks, run_rounds
from mird.training.table_peers import TablePeers
from mird.training.table_report import report_lines
from mird.training.whole import write_whole

CELLS, REPORT = "cells", "report.md"
MFCC_HZ = 44_100
"""Rate of the statistics, which are of as many seconds as a picture of the paper's."""


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
    peers: TablePeers | None = None,
    report_left_out: Callable[[str], None] = lambda _: None,
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
        Which cells, as of :func:`mird.training.paper_tables.list_cells`; the report covers whatever the folder has.
    peers : TablePeers, optional
        Answer the same tasks; cells that were done without them have them added.
    report_left_out : callable (line)
        Told once of each clip that is damaged or silent.

    Returns
    -------
    Path
        The report, which covers what is done, also where ``stop()`` ended it.

    Raises
    ------
    TrainingError
        If a class of the table has too few recordings, a row is none of the table's, a peer has no vector of a clip, or
        a file cannot be written.
    """
    table = TABLES[name]
    cells = list_cells(table, contenders, n_splits, pictures=pictures, rows=rows)
    told: set[str] = set()
    for number, cell in enumerate(cells):
        path = folder / CELLS / f"{cell.name}.json"
        contender = contenders[cell.recipe]
        identity = json.loads(json.dumps({**contender.identity(cell.picture), "n_rounds": n_rounds}))
        training, testing = split_classes(table.classes, cell.n_training, cell.split)
        done = _read_cell(path, identity) if path.exists() else None
        if done is not None and (peers is None or peers.digests.items() <= done.get("peer_digests", {}).items()):
            continue
        progress(number, len(cells), cell.name)
        # All that can fail for want of recordings comes before a training that would be lost.
        recordings, pixels, lines = contender.recordings(cell.picture)
        for line in lines:
            if line not in told:
                told.add(line)
                report_left_out(line)
        tasks = _draw(cell, recordings, testing, n_rounds)
        of_peers = {} if peers is None else peers.outcomes(tasks, recordings, testing, n_rounds)

        def say(step: int, n_steps: int, loss: float, number: int = number, cell: Cell = cell) -> None:
            progress(number, len(cells), f"{cell.name}: step {step} of {n_steps}, loss {loss:.3f}")

        if done is None:
            trained = contender.train(cell.picture, training, cell.split, folder / cell.name, say, stop)
            if trained is None:
                break
            done = {
                **asdict(cell),
                "kind": contender.kind,
                "left_out": list(lines),
                **identity,
                "training": list(training),
                "testing": list(testing),
                "device": device,
                "machine": torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine(),
                "loss": trained.loss,
                **_answer(tasks, recordings, pixels, trained, n_rounds, table.n_windows),
            }
        elif stop():
            break
        if peers is not None:
            done["peers"] = {**done.get("peers", {}), **{system: asdict(each) for system, each in of_peers.items()}}
            done["peer_digests"] = {**done.get("peer_digests", {}), **peers.digests}
        _write(path, json.dumps(done, indent=1) + "\n")
        (folder / cell.name).with_suffix(".pt").unlink(missing_ok=True)
        shutil.rmtree(folder / cell.name, ignore_errors=True)
    report = folder / REPORT
    kinds = {recipe: contender.kind for recipe, contender in contenders.items()}
    _write(report, "\n".join(report_lines(name, table, kinds, folder / CELLS)) + "\n")
    return report


def rows_of(name: str, recordings: Sequence[Recording]) -> list[Recording]:
    """Recordings of a table's classes; TrainingError if a class has none, or nothing to ask of another take."""
    classes = TABLES[name].classes
    rows = [r for r in dict.fromkeys(recordings) if r.label in classes]
    absent = sorted(set(classes) - {r.label for r in rows})
    if absent:
        raise TrainingError(f"{name} needs {len(classes)} classes; without recordings: {', '.join(absent)}")
    takes = Counter(label for label, _ in {(row.label, row.take) for row in rows})
    if single := sorted(label for label, n_takes in takes.items() if n_takes < 2):
        raise TrainingError(f"{name} needs recordings of two takes of each class; of one alone: {', '.join(single)}")
    return rows


def _draw(cell: Cell, recordings: Sequence[Recording], testing: Sequence[str], n_rounds: int) -> NDArray[np.int64]:
    """A cell's tasks, shape (n_rounds * 50, 3): the same whatever the recipe and the picture."""
    labels, takes = [r.label for r in recordings], [r.take for r in recordings]
    return draw_tasks(np.random.default_rng((cell.split, cell.n_training)), labels, takes, testing, n_rounds * N_TASKS)


def _answer(
    tasks: NDArray[np.int64],
    recordings: Sequence[Recording],
    pixels: NDArray[np.generic],
    trained: Trained,
    n_rounds: int,
    seconds: int,
) -> dict[str, Any]:
    """What network, pixels and MFCC statistics make of one cell's tasks."""
    used = sorted({int(i) for i in tasks.ravel()})
    statistics = np.zeros((len(recordings), 26), np.float32)
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
    """Of the first window that sounds; of the beginning where one sounds at a picture's rate, and just not at this."""
    samples, window = read_mono(path, MFCC_HZ), seconds * MFCC_HZ
    return mfcc_statistics((cut(samples, window, 1) or [fit_length(samples, window)])[0], MFCC_HZ)


def _read_cell(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A cell that is done; TrainingError if it is damaged, or of another recipe or other recordings."""
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
    return found


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written: {error.strerror}; what is done is kept") from None
