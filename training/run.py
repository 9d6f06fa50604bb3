"""A training run from manifests to engine files: cache, train, fit, export.

The run's folder holds ``split.csv`` (which clips it trains on, and which it is calibrated on) and ``checkpoint.pt``
while it trains, and at its end ``encoder.onnx`` (float32), ``encoder-int8.onnx`` and ``run.json`` (recipe, data,
figures of the fit).
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mird.kernels.encoder import EncoderCard, open_encoder
from mird.training.audio import read_mono
from mird.training.augment import to_input
from mird.training.distributed import World
from mird.training.errors import TrainingError
from mird.training.export import UnitEncoder, export_onnx, quantise, weights_fingerprint
from mird.training.fitting import check_enough, fit_encoder
from mird.training.layouts import read_recordings
from mird.training.manifest import Recording, split_by_source
from mird.training.material import Material, Part
from mird.training.pictures import build_cache
from mird.training.recipe import Recipe
from mird.training.start import start_from
from mird.training.trainer import StepReport, Trainer
from mird.training.whole import write_whole

CALIBRATION_PICTURES = 512
CHECKPOINT, FLOAT32, INT8, REPORT = "checkpoint.pt", "encoder.onnx", "encoder-int8.onnx", "run.json"
SPLIT = "split.csv"

Progress = Callable[[int, int, str], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """What a run trains on, and what it is calibrated on: the held-out sources, or the same clips if there are none.

    ``silent`` are recordings that were left out, ``damaged`` says in a line each which could not be read.
    """

    material: Material
    held_out: Material
    silent: tuple[Recording, ...]
    damaged: tuple[str, ...]

    def single(self) -> str:
        """Which classes have only one clip, to train on or held out; empty where none has."""
        parts = [("training", self.material)]
        if self.held_out is not self.material:
            parts.append(("held out", self.held_out))
        found = []
        for what, material in parts:
            counts = Counter(recording.label for recording in set(material.recordings))
            if names := sorted(label for label, n_clips in counts.items() if n_clips == 1):
                found.append(f"{', '.join(names)} ({what})")
        return "; ".join(found)


def load_data(
    manifests: Sequence[Path], rendered: Sequence[Path], recipe: Recipe, cache: Path, progress: Progress | None = None
) -> Data:
    """Read manifests, or folders that are data sets, and compute or fetch their pictures.

    Parameters
    ----------
    manifests : sequence of Path
        Recordings; the recipe's held-out sources and classes are taken out of them.
    rendered : sequence of Path
        Clips that ``mird render`` made; they get no composed phrases, and the recipe's ``rendered_weight``.
    cache : Path
        Folder of the picture cache.

    Raises
    ------
    TrainingError
        If a manifest cannot be read, a held-out source or class does not occur, or too little is left to train
        on or to calibrate with.
    """
    options = recipe.data
    recordings = [row for path in manifests for row in read_recordings(path)]
    training, away = split_by_source(recordings, options.held_out_sources)
    made = [row for path in rendered for row in read_recordings(path)]
    absent = set(options.held_out_classes) - {row.label for row in (*recordings, *made)}
    if absent:
        raise TrainingError(f"held-out class {', '.join(sorted(absent))} does not occur in the manifests")
    training, away, extra = (
        tuple(row for row in rows if row.label not in options.held_out_classes) for rows in (training, away, made)
    )
    silent: list[Recording] = []
    damaged: list[str] = []

    def part(rows: Sequence[Recording], n_composed: int, weight: float, *, phrases: bool, made: bool = False) -> Part:
        settings = recipe.compose if phrases else replace(recipe.compose, phrase=0.0, chord=0.0)
        levels, numbers = build_cache(
            rows, recipe.front_end, cache, n_composed=n_composed, seed=recipe.seed, settings=settings, progress=progress
        )
        for number in sorted(set(range(len(rows))).difference(numbers.tolist())):
            try:
                read_mono(rows[number].path, recipe.front_end.rate_hz)
                silent.append(rows[number])
            except TrainingError as error:
                damaged.append(str(error))
        return Part(tuple(rows[number] for number in numbers), levels, weight, made)

    parts = [part(training, options.n_composed, 1.0, phrases=True)] if training else []
    if extra:
        weight = options.rendered_weight
        parts.append(part(extra, options.n_composed_rendered, weight, phrases=False, made=True))
    if not parts:
        raise TrainingError("nothing is left to train on: every source or class is held out")
    material = Material(parts)
    held_out = Material([part(away, 0, 1.0, phrases=False)]) if away else material
    check_enough(recipe, material, held_out)
    return Data(material, held_out, tuple(silent), tuple(damaged))


def check_machine(device: str, n_threads: int) -> None:
    """Set the number of threads that torch computes with, and try the device.

    Raises
    ------
    TrainingError
        If there is no such device here, or ``n_threads`` is not positive.
    """
    if n_threads < 1:
        raise TrainingError(f"--threads {n_threads}: must be at least 1")
    torch.set_num_threads(n_threads)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:200]
        raise TrainingError(f"--device {device}: cannot be used here: {reason}") from None


def check_start(folder: Path, *, resume: bool) -> None:
    """Refuse to start anew in the folder of a run; TrainingError if it has a checkpoint and ``resume`` is not set."""
    if not resume and (folder / CHECKPOINT).exists():
        raise TrainingError(f"{folder / CHECKPOINT} exists; go on with --resume, or choose another --out folder")


def train(
    recipe: Recipe,
    data: Data,
    folder: Path,
    *,
    device: str = "cpu",
    world: World | None = None,
    resume: bool = False,
    start: Path | None = None,
    on_step: Callable[[StepReport], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Trainer:
    """Train to the recipe's last step, or until ``stop()``.

    Parameters
    ----------
    start : Path, optional
        An exported encoder, whose weights take the place of random ones.

    Raises
    ------
    EngineError, TrainingError
        If the folder holds another run's checkpoint and ``resume`` is not set, ``start`` does not fit the recipe, or
        training cannot go on.
    """
    if world is None or world.is_first:
        check_start(folder, resume=resume)
        _keep_split(data, folder)
    trainer = Trainer(recipe, data.material, folder, device, world)
    if not (resume and trainer.resume()) and start is not None:
        start_from(start, trainer.encoder, recipe.front_end, _some_pictures(recipe, data).to(device))
        trainer.average.load_state_dict(trainer.encoder.state_dict())
    trainer.run(on_step, stop=stop)
    return trainer


def _keep_split(data: Data, folder: Path) -> None:
    """Write which clip is for what; a run that goes on with other clips than before says so."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(("path", "class", "source", "part"))
    parts = [("training", data.material)]
    if data.held_out is not data.material:
        parts.append(("calibration", data.held_out))
    for part, material in parts:
        rows = dict.fromkeys(material.recordings)  # one of several windows occurs as often
        table.writerows((row.path, row.label, row.source, part) for row in rows)
    path = folder / SPLIT
    try:
        if path.exists() and path.read_bytes() != text.getvalue().encode():
            _log.warning("%s: goes on with other clips than before", path)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.getvalue().encode())
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written: {error.strerror}") from None


def finish(recipe: Recipe, data: Data, trainer: Trainer, name: str) -> EncoderCard:
    """Fit whitening, comparison and threshold, export in float32 and int8, and write the run's report.

    Returns
    -------
    EncoderCard
        Of the float32 file.
    """
    folder = trainer.folder
    fitted = fit_encoder(trainer.average, recipe, data.material, data.held_out)
    network = UnitEncoder(trainer.average, fitted.projection)
    front_end = recipe.front_end
    card = EncoderCard(
        f"{name} float32",
        front_end,
        weights_fingerprint(network, front_end.fingerprint()),
        fitted.head,
        fitted.threshold,
        fitted.background,
    )
    pictures = _some_pictures(recipe, data)
    export_onnx(network, card, pictures.shape[1:], folder / FLOAT32)
    _check_export(network, pictures[:64], folder / FLOAT32)
    quantise(folder / FLOAT32, pictures.numpy(), replace(card, name=f"{name} int8"), folder / INT8)
    report = {
        "name": name,
        "fingerprint": card.fingerprint,
        "steps": trainer.step,
        "n_clips": len(set(data.material.recordings)),
        "n_windows": len(data.material.recordings),
        "n_classes": len({r.label for r in data.material.recordings}),
        "n_sources": len({r.source for r in data.material.recordings}),
        "n_silent_left_out": len(data.silent),
        "n_damaged_left_out": len(data.damaged),
        "unknown_threshold": fitted.threshold,
        "several": fitted.head.several,
        "attended": fitted.head.attended,
        "gamma_spread": float(np.std(fitted.head.gamma) / -np.mean(fitted.head.gamma)),
        "recipe": asdict(recipe),
    }
    try:
        (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{folder / REPORT}: cannot write the report: {error.strerror}") from None
    return card


def _some_pictures(recipe: Recipe, data: Data) -> Tensor:
    """Of clips to train on, with what is no instrument among them: noise fills a picture as no instrument does."""
    n_clips = len(data.material.recordings)
    some = data.material.clean(range(0, n_clips, max(1, n_clips // CALIBRATION_PICTURES)))
    return to_input(torch.from_numpy(some), recipe.front_end.range_db)[:, None]


def _check_export(network: UnitEncoder, pictures: Tensor, path: Path) -> None:
    with torch.no_grad():
        wanted = network(pictures).numpy()
    found = open_encoder(path)(pictures.numpy())
    difference = float(np.abs(found - wanted).max())
    if difference > 1e-4:
        raise TrainingError(f"{path}: the exported encoder differs from the network by {difference:.1e}; do not use it")
