"""The picture cache: every clip's scalogram levels, computed once per front end.

Levels are kept in decibels below each picture's peak, cut at 110 dB rather than at the front end's range, so that
augmentation can raise what a microphone would have raised. :func:`mird.training.augment.to_input` turns them into what
:func:`mird.kernels.image.picture` gives, to half precision.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mird.kernels.frontend import FrontEnd
from mird.kernels.image import decibels
from mird.kernels.scalogram import open_scalogram
from mird.training.audio import fit_length, read_mono
from mird.training.compose import ComposeSettings, compose
from mird.training.errors import TrainingError
from mird.training.manifest import Recording
from mird.training.whole import whole, write_whole

CACHE_RANGE_DB = 110.0
SILENT = 1e-5

Progress = Callable[[int, int, str], None]


def build_cache(
    recordings: Sequence[Recording],
    front_end: FrontEnd,
    folder: Path,
    *,
    n_composed: int,
    seed: int,
    settings: ComposeSettings | None = None,
    progress: Progress | None = None,
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Levels of every recording, clean and composed; read back from ``folder`` where they were computed before.

    Parameters
    ----------
    recordings : sequence of Recording
    front_end : FrontEnd
        With ``magnitude="db"``.
    folder : Path
        Cache folder; files are keyed by front end, recordings, seed and settings.
    n_composed : int >= 0
        Composed windows per recording, beside the clean one.
    seed : int >= 0
    settings : ComposeSettings, optional
    progress : callable (done, total, what) or None

    Returns
    -------
    levels : NDArray[float16], shape (n_recordings, 1 + n_composed, rows, columns), range [-110, 0] dB
        Memory-mapped. Index 0 of the second axis is the clean clip.
    sounding : NDArray[bool], shape (n_recordings,)
        False for clips that are damaged or without sound: to be reported and left out.

    Raises
    ------
    TrainingError
        If the cache cannot be written or is damaged.
    """
    settings = settings or ComposeSettings()
    key = hashlib.sha256(repr((front_end.fingerprint(), n_composed, seed, asdict(settings))).encode())
    for recording in recordings:
        stat = recording.path.stat()
        key.update(
            f"{recording.path.name}|{recording.label}|{recording.source}|{stat.st_size}|{stat.st_mtime_ns}\n".encode()
        )
    target = folder / f"levels-{key.hexdigest()[:16]}.npy"
    flags = target.with_suffix(".sounding.npy")
    if target.exists() and flags.exists():
        try:
            return np.load(target, mmap_mode="r"), np.load(flags)
        except (OSError, ValueError, EOFError) as error:
            raise TrainingError(f"{target}: damaged picture cache: {error}; remove it and try again") from None
    clips = []
    for number, recording in enumerate(recordings):
        try:
            clip = read_mono(recording.path, front_end.rate_hz)
        except TrainingError:
            clip = np.zeros(0, np.float32)
        clips.append(fit_length(clip, front_end.window))
        if progress:
            progress(number + 1, len(recordings), "reading clips")
    sounding = np.array([np.abs(clip).max() > SILENT for clip in clips])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole(target) as partial:
            _compute(recordings, clips, sounding, front_end, partial, n_composed, seed, settings, progress)
        content = io.BytesIO()
        np.save(content, sounding)
        write_whole(flags, content.getbuffer())
    except OSError as error:
        raise TrainingError(
            f"{folder}: cannot write the picture cache: {error.strerror}; choose another folder with --cache"
        ) from None
    return np.load(target, mmap_mode="r"), sounding


def _compute(
    recordings: Sequence[Recording],
    clips: Sequence[NDArray[np.float32]],
    sounding: NDArray[np.bool_],
    front_end: FrontEnd,
    path: Path,
    n_composed: int,
    seed: int,
    settings: ComposeSettings,
    progress: Progress | None,
) -> None:
    transform = open_scalogram(front_end)
    rows = front_end.n_rows or len(transform.frequencies_hz)
    shape = (len(clips), 1 + n_composed, rows, front_end.n_columns)
    cells: dict[tuple[str, str], list[int]] = {}
    for number, recording in enumerate(recordings):
        if sounding[number]:
            cells.setdefault((recording.label, recording.source), []).append(number)
    instruments = np.array([i for i, r in enumerate(recordings) if r.is_instrument and sounding[i]], np.int64)
    played = np.array([recordings[i].label for i in instruments])
    others = {label: instruments[played != label] for label in {r.label for r in recordings}}
    levels = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    # On a full disk this fails; writing to mapped memory that has no blocks would kill the process.
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    for number, recording in enumerate(recordings):
        rng = np.random.default_rng((seed, number))
        windows = [clips[number]]
        cell = [i for i in cells.get((recording.label, recording.source), ()) if i != number]
        # A handful of candidates is enough for one window; the draw differs for every window.
        for _ in range(n_composed if sounding[number] else 0):
            partners = [clips[i] for i in rng.choice(cell, min(len(cell), 6), replace=False)] if cell else []
            away = others[recording.label]
            backs = [clips[i] for i in rng.choice(away, 4)] if len(away) else []
            windows.append(compose(rng, clips[number], partners, backs, front_end.window, front_end.rate_hz, settings))
        magnitudes = transform(np.stack(windows))
        levels[number] = -CACHE_RANGE_DB
        levels[number, : len(windows)] = decibels(magnitudes, CACHE_RANGE_DB)
        if progress:
            progress(number + 1, len(clips), "computing pictures")
    levels.flush()
