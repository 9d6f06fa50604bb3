"""Mixes in the manner of IRMAS: three seconds of one predominant instrument over others."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mird.training.audio import SILENT, read_mono, write_clip
from mird.training.compose import ComposeSettings, reverberate
from mird.training.errors import TrainingError
from mird.training.layouts import IRMAS
from mird.training.manifest import REQUIRED, Recording

RATE_HZ = 44_100
SECONDS = 3
PARTS = 3
"""Excerpts of one piece: the same players, another three seconds."""

LEAD_DB = (0.0, 10.0)
"""The predominant instrument's level above the accompaniment."""

ROOM_SHARE = 0.6

Wave = NDArray[np.float32]
Progress = Callable[[int, int], None]

_log = logging.getLogger(__name__)


def mix_excerpts(
    recordings: Sequence[Recording],
    folder: Path,
    *,
    n_each: int,
    seed: int,
    progress: Progress | None = None,
    report: Callable[[str], None] = _log.warning,
) -> Path:
    """Make excerpts of every class of IRMAS that has recordings, in IRMAS' layout: ``cel/[cel][mix]0001__1.flac``.

    Players never mix within one line: the notes of a line are of one class and source. Accompaniment is two or three
    other classes, each a line of its own.

    Parameters
    ----------
    recordings : sequence of Recording
        Single notes or phrases.
    folder : Path
        Gets the files and ``manifest.csv``, whose ``source`` is the predominant player's.
    n_each : int > 0
        Excerpts of each class.
    seed : int >= 0
        Decides everything.
    progress : callable (done, total) or None
        Clips are looked through first, then excerpts are made: both count.
    report : callable (line)
        Gets a line for each clip that is left out because it is damaged or without sound.

    Returns
    -------
    Path
        The manifest.

    Raises
    ------
    TrainingError
        If fewer than three classes have recordings that sound, or a file cannot be written.
    """
    played = [recording for recording in recordings if recording.is_instrument]
    wanted = n_each * len(set(IRMAS.values()) & {recording.label for recording in played})

    def count(done: int, total: int) -> None:
        if progress:
            progress(done, total)

    cells: dict[str, dict[str, list[Recording]]] = {}
    for number, recording in enumerate(played, start=1):
        if _sounds(recording, report):
            cells.setdefault(recording.label, {}).setdefault(recording.source, []).append(recording)
        count(number, len(played) + wanted)
    codes = {code: label for code, label in IRMAS.items() if label in cells}
    if not codes or len(cells) < 3:
        raise TrainingError(
            f"mixes need a class of IRMAS ({', '.join(sorted(IRMAS.values()))}) and two others; there are, with sound: "
            f"{', '.join(sorted(cells)) or 'none'}"
        )
    rows: list[tuple[object, ...]] = []
    total = len(codes) * n_each
    for number, (code, label) in enumerate(codes.items()):
        for excerpt in range(n_each):
            piece, part = divmod(excerpt, PARTS)
            players = np.random.default_rng((seed, number, piece))
            source = str(players.choice(sorted(cells[label])))
            others = [str(each) for each in players.permutation(sorted(set(cells) - {label}))[: players.integers(2, 4)]]
            band = [cells[other][str(players.choice(sorted(cells[other])))] for other in others]
            rng = np.random.default_rng((seed, number, piece, part))
            sound = _excerpt(rng, cells[label][source], band)
            path = folder / code / f"[{code}][mix]{piece + 1:04d}__{part + 1}.flac"
            write_clip(path, sound, RATE_HZ)
            rows.append((path.relative_to(folder), label, source, f"{code}/{piece + 1:04d}"))
            count(len(played) + len(rows), len(played) + total)
    manifest = folder / "manifest.csv"
    try:
        with manifest.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([(*REQUIRED, "original_name"), *rows])
    except OSError as error:
        raise TrainingError(f"{manifest}: cannot write the manifest: {error.strerror}") from None
    return manifest


def _sounds(recording: Recording, report: Callable[[str], None]) -> bool:
    """Whether a clip can be mixed: read, and not silent as far as an excerpt hears it; if not, that is reported."""
    try:
        note = read_mono(recording.path, RATE_HZ)
    except TrainingError as error:
        report(f"left out: {error}")
        return False
    if np.abs(note[: SECONDS * RATE_HZ]).max() > SILENT:
        return True
    report(f"left out, without sound: {recording.path}")
    return False


def _excerpt(rng: np.random.Generator, lead: Sequence[Recording], band: Sequence[Sequence[Recording]]) -> Wave:
    """One excerpt, shape (n,), peak 0.7."""
    front = _line(rng, lead)
    back = np.sum([_line(rng, player) for player in band], axis=0, dtype=np.float32)
    ratio = np.sqrt(np.mean(front**2) / max(float(np.mean(back**2)), 1e-12)) * 10 ** (-rng.uniform(*LEAD_DB) / 20)
    mixed = front + back * np.float32(ratio)
    peak = float(np.abs(mixed).max())
    return (mixed * np.float32(0.7 / peak)).astype(np.float32) if peak else mixed.astype(np.float32)


def _line(rng: np.random.Generator, player: Sequence[Recording]) -> Wave:
    """Notes of one player, one after the other, sometimes in a room."""
    line = np.zeros(SECONDS * RATE_HZ, np.float32)
    at_s, beat_s = float(rng.uniform(-0.3, 0.0)), float(rng.uniform(0.2, 0.8))
    while at_s < SECONDS:
        note = read_mono(player[int(rng.integers(len(player)))].path, RATE_HZ)
        peak = float(np.abs(note).max())
        begin = int(at_s * RATE_HZ)
        note, begin = note[max(0, -begin) :], max(0, begin)
        n = min(len(note), len(line) - begin)
        if peak and n > 0:
            line[begin : begin + n] += note[:n] * np.float32(0.5 / peak * 10 ** (rng.uniform(-6, 0) / 20))
        at_s += beat_s * float(rng.choice([0.5, 1, 1, 2]))
    return reverberate(rng, line, RATE_HZ, ComposeSettings()) if rng.random() < ROOM_SHARE else line
