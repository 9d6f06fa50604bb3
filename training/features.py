"""Features: every window of a suite's recordings as each system sees it, clean and live-like."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mird.kernels.encoder import Encoder
from mird.kernels.image import picture
from mird.kernels.scalogram import open_scalogram
from mird.kernels.windows import choose_windows
from mird.training.audio import fit_length, read_mono
from mird.training.baselines import Peers, mfcc_statistics
from mird.training.errors import TrainingError
from mird.training.live import make_live
from mird.training.manifest import Recording

Vectors = NDArray[np.float32]
Progress = Callable[[int, int], None]

PIXELS, MFCC = "pixels", "mfcc"


@dataclass(frozen=True)
class Features:
    """Windows, numbered through all recordings.

    Attributes
    ----------
    recordings : tuple of Recording
        Those that sound.
    windows : tuple of NDArray[int64], one per recording
        Numbers of its windows.
    clean, live : dict by system of NDArray, shape (n_windows, n_dims)
        MFCC statistics are the peers' where those have some. ``live`` has no peers and may be empty.
    broken, silent : tuple of str
        Files that were left out: why, and which held no sound.
    """

    recordings: tuple[Recording, ...]
    windows: tuple[NDArray[np.int64], ...]
    clean: Mapping[str, Vectors]
    live: Mapping[str, Vectors]
    broken: tuple[str, ...]
    silent: tuple[str, ...]


def compute_features(
    recordings: Sequence[Recording],
    encoders: Mapping[str, Encoder],
    folder: Path,
    peers: Peers,
    *,
    live: bool,
    seed: int,
    progress: Progress | None = None,
) -> Features:
    """Compute every system's vectors of every window that sounds.

    Parameters
    ----------
    recordings : sequence of Recording
    encoders : mapping of Encoder by system
        With one front end.
    folder : Path
        Where the manifests lie: ``peers`` names files relative to it. Their windows are used where they chose some.
    live : bool
        Compute the live-like windows, too; how each is changed hangs on ``seed`` and its place alone.

    Raises
    ------
    TrainingError
        If the encoders' front ends differ.
    """
    front_ends = {encoder.card.front_end for encoder in encoders.values()}
    if len(front_ends) != 1:
        raise TrainingError(f"the encoders of one suite need one front end, these have {len(front_ends)}")
    (front_end,) = front_ends
    transform = open_scalogram(front_end)
    found: dict[bool, dict[str, list[Vectors]]] = {False: {}, True: {}}
    kept, numbers, broken, silent = [], [], [], []
    n_windows = 0
    for done, recording in enumerate(recordings, start=1):
        if progress:
            progress(done, len(recordings))
        name = relative(recording.path, folder)
        try:
            samples = read_mono(recording.path, front_end.rate_hz)
        except TrainingError as error:
            broken.append(str(error))
            continue
        n_most = max(1, 2 * len(samples) // front_end.window)
        starts = peers.starts.get(name) or choose_windows(samples, front_end.window, n_most)
        if not starts or not np.abs(samples).max():
            silent.append(name)
            continue
        windows = [fit_length(samples[start : start + front_end.window], front_end.window) for start in starts]
        for changed in (False, True) if live else (False,):
            if changed:
                windows = [
                    make_live(
                        np.random.default_rng((seed, zlib.crc32(f"{name}:{start}".encode()))), each, front_end.rate_hz
                    )
                    for start, each in zip(starts, windows, strict=True)
                ]
            pictures = picture(transform(np.stack(windows)), front_end)
            into = found[changed]
            into.setdefault(PIXELS, []).append(pictures.reshape(len(windows), -1).astype(np.float16))
            if MFCC not in peers.names:
                statistics = [mfcc_statistics(each, front_end.rate_hz) for each in windows]
                into.setdefault(MFCC, []).append(np.stack(statistics))
            for system, encoder in encoders.items():
                into.setdefault(system, []).append(encoder(pictures))
        for peer in peers.names:
            rows = [peers.vectors.get((name, start), {}).get(peer) for start in starts]
            found[False].setdefault(peer, []).extend(
                np.full((1, 1), np.nan) if row is None else row[None] for row in rows
            )
        kept.append(recording)
        numbers.append(np.arange(n_windows, n_windows + len(starts)))
        n_windows += len(starts)
    clean, changed_too = ({key: _stack(parts) for key, parts in found[which].items()} for which in (False, True))
    return Features(tuple(kept), tuple(numbers), clean, changed_too, tuple(broken), tuple(silent))


def relative(path: Path, folder: Path) -> str:
    """A file's path as peers and reports name it: relative to the folder where it lies in it, else whole."""
    resolved, root = path.resolve(), folder.resolve()
    return resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else str(resolved)


def _stack(parts: Sequence[Vectors]) -> Vectors:
    """Rows below each other; a peer that lacks a window has NaN there."""
    n_dims = max(part.shape[1] for part in parts)
    return np.concatenate(
        [part if part.shape[1] == n_dims else np.full((len(part), n_dims), np.nan, np.float32) for part in parts]
    )
