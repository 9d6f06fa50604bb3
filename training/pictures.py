"""The picture cache: scalogram levels of every clip's windows, computed once per front end.

Levels are kept in decibels below each picture's peak, cut at 110 dB rather than at the front end's range, so that
augmentation can raise what a microphone would have raised. :func:`mird.training.augment.to_input` turns them into what
:func:`mird.kernels.image.picture` gives, to half precision.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from mird.kernels.frontend import FrontEnd
from mird.kernels.image import decibels
from mird.kernels.scalogram import open_scalogram
from mird.training.audio import CUT, cut, read_mono
from mird.training.compose import ComposeSettings, compose
from mird.training.errors import TrainingError
from mird.training.manifest import Recording
from mird.training.whole import whole, write_whole

CACHE_RANGE_DB = 110.0
MOST_WINDOWS = 60
"""Of one recording: half a minute or more of its sound."""

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
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Levels of every window that sounds, clean and composed; read back from ``folder`` if they were computed before.

    A recording that is longer than a window has several, at most `MOST_WINDOWS`, spread over what sounds in it.

    Parameters
    ----------
    recordings : sequence of Recording
    front_end : FrontEnd
        With ``magnitude="db"``.
    folder : Path
        Cache folder; files are keyed by front end, recordings, seed and settings.
    n_composed : int >= 0
        Composed windows for each clean one.
    seed : int >= 0
    settings : ComposeSettings, optional
    progress : callable (done, total, what) or None

    Returns
    -------
    levels : NDArray[float16], shape (n_windows, 1 + n_composed, rows, columns), range [-110, 0] dB
        Memory-mapped. Index 0 of the second axis is the clean window.
    numbers : NDArray[int64], shape (n_windows,)
        Which recording a window is of, ascending. Those that are damaged or without sound do not occur: to be reported.

    Raises
    ------
    TrainingError
        If the cache cannot be written or is damaged, or no recording can be used.
    """
    settings = settings or ComposeSettings()
    rule = (CUT, MOST_WINDOWS, front_end.fingerprint(), n_composed, seed, asdict(settings))
    key = hashlib.sha256(repr(rule).encode())
    for recording in recordings:
        stat = recording.path.stat()
        key.update(
            f"{recording.path.name}|{recording.label}|{recording.source}|{stat.st_size}|{stat.st_mtime_ns}\n".encode()
        )
    target = folder / f"levels-{key.hexdigest()[:16]}.npy"
    index = target.with_suffix(".windows.npy")
    if target.exists() and index.exists():
        try:
            return np.load(target, mmap_mode="r"), np.load(index)
        except (OSError, ValueError, EOFError) as error:
            raise TrainingError(f"{target}: damaged picture cache: {error}; remove it and try again") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Hours of recordings do not fit into memory.
        with tempfile.TemporaryFile(dir=folder) as store:
            numbers = _read_windows(recordings, front_end, store, progress)
            if not len(numbers):
                raise TrainingError(
                    f"no recording can be used: all are damaged or without sound, as {recordings[0].path} is"
                )
            windows = np.memmap(store, np.float32, "r", shape=(len(numbers), front_end.window))
            with whole(target) as partial:
                _compute(recordings, windows, numbers, front_end, partial, n_composed, seed, settings, progress)
        content = io.BytesIO()
        np.save(content, numbers)
        write_whole(index, content.getbuffer())
    except OSError as error:
        raise TrainingError(
            f"{folder}: cannot write the picture cache: {error.strerror}; choose another folder with --cache"
        ) from None
    return np.load(target, mmap_mode="r"), numbers


def _read_windows(
    recordings: Sequence[Recording], front_end: FrontEnd, store: IO[bytes], progress: Progress | None
) -> NDArray[np.int64]:
    """Write the windows of every recording one after the other, float32; returns which recording each is of."""
    numbers: list[int] = []
    for number, recording in enumerate(recordings):
        with suppress(TrainingError):  # which are damaged is for the caller to say, also of pictures that are read back
            for window in cut(read_mono(recording.path, front_end.rate_hz), front_end.window, MOST_WINDOWS):
                store.write(window.tobytes())
                numbers.append(number)
        if progress:
            progress(number + 1, len(recordings), "reading clips")
    store.flush()
    return np.array(numbers, np.int64)


def _compute(
    recordings: Sequence[Recording],
    windows: NDArray[np.float32],
    numbers: NDArray[np.int64],
    front_end: FrontEnd,
    path: Path,
    n_composed: int,
    seed: int,
    settings: ComposeSettings,
    progress: Progress | None,
) -> None:
    transform = open_scalogram(front_end)
    rows = front_end.n_rows or len(transform.frequencies_hz)
    shape = (len(windows), 1 + n_composed, rows, front_end.n_columns)
    of = [recordings[number] for number in numbers]
    places: dict[tuple[str, str], list[int]] = {}
    for place, recording in enumerate(of):
        places.setdefault((recording.label, recording.source), []).append(place)
    cells = {key: np.array(found) for key, found in places.items()}
    instruments = np.array([i for i, r in enumerate(of) if r.is_instrument], np.int64)
    played = np.array([of[i].label for i in instruments])
    away_from = {label: instruments[played != label] for label in {r.label for r in of}}
    levels = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    # On a full disk this fails; writing to mapped memory that has no blocks would kill the process.
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    first = np.searchsorted(numbers, numbers)
    for place, recording in enumerate(of):
        # What is drawn for a recording hangs on its own number, not on how many windows those before it have.
        further = int(place - first[place])
        rng = np.random.default_rng((seed, int(numbers[place]), *([further] if further else [])))
        shown = [np.array(windows[place])]
        cell = cells[recording.label, recording.source]
        others = cell[numbers[cell] != numbers[place]]
        # Windows of one recording may overlap: they are partners only where there is no other.
        cell = others if len(others) else cell[cell != place]
        # A handful of candidates is enough for one window; the draw differs for every window.
        for _ in range(n_composed):
            partners = [windows[i] for i in rng.choice(cell, min(len(cell), 6), replace=False)] if len(cell) else []
            away = away_from[recording.label]
            backs = [windows[i] for i in rng.choice(away, 4)] if len(away) else []
            shown.append(compose(rng, windows[place], partners, backs, front_end.window, front_end.rate_hz, settings))
        levels[place] = decibels(transform(np.stack(shown)), CACHE_RANGE_DB)
        if progress:
            progress(place + 1, len(windows), "computing pictures")
    levels.flush()
