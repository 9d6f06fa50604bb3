"""Clips for training and evaluation: read as mono float32 at the front end's rate, and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from mird.kernels.windows import choose_windows
from mird.training.errors import TrainingError

SILENT = 1e-5
"""Peak up to which a clip is without sound to whoever needs no windows of it."""
CUT = "choose_windows"
"""How :func:`cut` chooses: what was computed of other windows is of no use any more."""
CLIP_PEAK = 0.7
"""Of the clips that are made: what a recorded one may well have."""


def read_mono(path: Path, rate_hz: int) -> NDArray[np.float32]:
    """A recording's mean over channels, at ``rate_hz``.

    Returns
    -------
    NDArray[float32], shape (n,), range [-1, 1] but for resampling overshoot

    Raises
    ------
    TrainingError
        If the file cannot be read, is empty or holds a sample that is not finite.
    """
    try:
        samples, file_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, TypeError, soundfile.LibsndfileError) as error:  # TypeError: raw samples of unknown rate
        raise TrainingError(f"{path}: cannot read the sound: {error}") from None
    mono = samples.mean(axis=1)
    if not len(mono):
        raise TrainingError(f"{path}: holds no samples")
    if not np.isfinite(mono).all():
        raise TrainingError(f"{path}: holds a NaN or infinite sample")
    if file_rate_hz != rate_hz:
        mono = soxr.resample(mono, file_rate_hz, rate_hz, quality="HQ")
    return np.ascontiguousarray(mono, np.float32)


def write_clip(path: Path, samples: NDArray[np.float32], rate_hz: int) -> None:
    """Write a FLAC file of 16 bits, and the folders above it where they are missing.

    Parameters
    ----------
    path : Path
    samples : NDArray[float32], shape (n,), range [-1, 1]
    rate_hz : int

    Raises
    ------
    TrainingError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    except (OSError, soundfile.LibsndfileError) as error:
        raise TrainingError(f"{path}: cannot write the sound: {error}") from None


def fit_length(samples: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """The first ``n`` samples, zero-padded at the end where there are fewer; shape (n,)."""
    out = np.zeros(n, np.float32)
    out[: min(n, len(samples))] = samples[:n]
    return out


def cut(samples: NDArray[np.float32], window: int, n_most: int) -> list[NDArray[np.float32]]:
    """The windows of a clip that sound, chosen by :func:`mird.kernels.windows.choose_windows`.

    Parameters
    ----------
    samples : NDArray[float32], shape (n,)
    window, n_most : int > 0
        Samples in a window, and how many windows are wanted at most; they overlap by half at most.

    Returns
    -------
    list of NDArray[float32], shape (window,)
        One, zero-padded at the end, where the clip is no longer than a window; none where nothing sounds.
    """
    starts = choose_windows(samples, window, max(1, min(n_most, 2 * len(samples) // window)))
    return [fit_length(samples[start : start + window], window) for start in starts]
