"""Which windows of a clip are worth recognising: those that sound, spread over the clip.

Training, evaluation and enrolment all choose with this one function, so that a support set is made of what the encoder
was trained on.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError

FRAMES_PER_WINDOW: Final = 50
"""Level frames in a window: 20 ms each where the window is 1 s."""

FLOOR_DBFS: Final = -60.0
"""Level below which nothing sounds."""

RELATIVE_DB: Final = 30.0
"""Decibels below the loudest frame to which a frame sounds."""

WANTED_SHARE: Final = 1 / 3
"""Share of a window's frames that must sound."""

PAUSE_SHARE: Final = 0.1
"""Share of a window that must be silent before sound is said to begin anew."""

NEAR_BEST_SHARE: Final = 0.75
"""Where no window has its wanted share: the share of the best one's sound that the others must have."""


def choose_windows(
    samples: NDArray[np.float32],
    window: int,
    n_max: int,
    *,
    floor_dbfs: float = FLOOR_DBFS,
    relative_db: float = RELATIVE_DB,
) -> tuple[int, ...]:
    """Start indexes of the windows of a clip that sound.

    A frame of ``window / 50`` samples sounds where its level (RMS without the clip's mean) is at least `floor_dbfs` and
    at most `relative_db` below the loudest frame. Sound begins after a pause of a tenth of a window. Windows are
    considered where sound begins and at every half window from there while it lasts; those whose sounding frames are
    less than a third are left out, unless none has that much: then those with at least three quarters of the best
    one's. The first is the earliest; each further one lies as far from those already chosen as can be, measured in
    sounding frames.

    Parameters
    ----------
    samples : NDArray[float32], shape (n,)
        One channel, full scale at 1.
    window : int > 0
        Samples in a window.
    n_max : int > 0
        The most windows wanted.
    floor_dbfs : float
        Level in dBFS below which nothing sounds.
    relative_db : float >= 0
        Decibels below the loudest frame to which a frame sounds.

    Returns
    -------
    tuple[int, ...]
        1 to `n_max` starts, ascending, at least half a window apart, each with ``start + window <= n``. ``(0,)`` where
        the clip is no longer than a window: the caller pads it. Empty where nothing sounds.

    Raises
    ------
    ParameterError
        `window` or `n_max` is not positive, `relative_db` is negative, or `samples` is not one channel of finite
        values.
    """
    _check(samples, window, n_max, relative_db)
    frame = max(1, window // FRAMES_PER_WINDOW)
    power = frame_power(samples, frame)
    sounding = sounding_frames(power, floor_dbfs=floor_dbfs, relative_db=relative_db)
    if not sounding.any():
        return ()
    if samples.size <= window:
        return (0,)
    n_sounding = np.concatenate(([0], np.cumsum(sounding, dtype=np.int64)))
    starts = _candidates(sounding, frame, window, samples.size)
    span = -(-window // frame)
    first = starts // frame
    share = (n_sounding[np.minimum(first + span, sounding.size)] - n_sounding[first]) / span
    best = float(share.max())
    good = starts[share >= (WANTED_SHARE if best >= WANTED_SHARE else NEAR_BEST_SHARE * best)]
    return _spread(good, n_sounding[good // frame], window, n_max)


def frame_power(samples: NDArray[np.float32], frame: int) -> NDArray[np.float64]:
    """Mean square of consecutive frames of a clip, the clip's mean taken off first.

    Parameters
    ----------
    samples : NDArray[float32], shape (n,)
        One channel, full scale at 1.
    frame : int > 0
        Samples in a frame; the last one may be shorter.

    Returns
    -------
    NDArray[float64], shape (ceil(n / frame),)
        Power, at least 0; 10 log10 of it is the level in dBFS of a full-scale square wave.
    """
    n_whole = samples.size // frame
    whole = samples[: n_whole * frame].reshape(n_whole, frame)
    rest = samples[n_whole * frame :]
    total: NDArray[np.float64] = whole.sum(axis=1, dtype=np.float64)
    square = np.einsum("ij,ij->i", whole, whole, dtype=np.float64)
    length = np.full(n_whole, float(frame))
    if rest.size:
        total = np.append(total, rest.sum(dtype=np.float64))
        square = np.append(square, np.einsum("i,i->", rest, rest, dtype=np.float64))
        length = np.append(length, float(rest.size))
    if not total.size:
        return total
    mean = float(total.sum()) / samples.size
    power: NDArray[np.float64] = np.maximum(square / length - mean * (2.0 * total / length - mean), 0.0)
    return power


def sounding_frames(
    power: NDArray[np.float64], *, floor_dbfs: float = FLOOR_DBFS, relative_db: float = RELATIVE_DB
) -> NDArray[np.bool_]:
    """Which frames of a clip sound.

    Parameters
    ----------
    power : NDArray[float64], shape (n_frames,)
        Mean squares, as of :func:`frame_power`.
    floor_dbfs, relative_db : float
        As in :func:`choose_windows`.

    Returns
    -------
    NDArray[bool], shape (n_frames,)
    """
    peak = float(power.max(initial=0.0))
    wanted = max(10.0 ** (floor_dbfs / 10.0), peak * 10.0 ** (-relative_db / 10.0))
    sounding: NDArray[np.bool_] = (power >= wanted) & (power > 0.0)
    return sounding


def _check(samples: NDArray[np.float32], window: int, n_max: int, relative_db: float) -> None:
    if samples.ndim != 1:
        raise ParameterError(f"samples of shape {samples.shape}: one channel is wanted, shape (n,)")
    if window < 1:
        raise ParameterError(f"window={window}: must be at least 1 sample")
    if n_max < 1:
        raise ParameterError(f"n_max={n_max}: must be at least 1")
    if not relative_db >= 0.0:
        raise ParameterError(f"relative_db={relative_db}: must be at least 0")
    if samples.size and not np.isfinite(samples).all():
        raise ParameterError("samples hold values that are not finite: every value must be a number")


def _candidates(sounding: NDArray[np.bool_], frame: int, window: int, n: int) -> NDArray[np.int64]:
    """Starts, ascending and each once: where sound begins and every half window from there while it lasts."""
    frames = np.flatnonzero(sounding)
    pause = max(1, int(FRAMES_PER_WINDOW * PAUSE_SHARE))
    breaks = np.flatnonzero(np.diff(frames) > pause)
    begins = np.concatenate(([frames[0]], frames[breaks + 1]))
    ends = np.concatenate((frames[breaks] + 1, [frames[-1] + 1]))
    step = max(1, (window + 1) // 2)
    runs = [np.arange(begin * frame, end * frame, step) for begin, end in zip(begins, ends, strict=True)]
    return np.unique(np.minimum(np.concatenate(runs), n - window)).astype(np.int64)


def _spread(starts: NDArray[np.int64], position: NDArray[np.int64], window: int, n_max: int) -> tuple[int, ...]:
    """Choose the earliest start, then again and again the one farthest in sound from those chosen."""
    chosen: list[int] = []
    distance = np.full(starts.size, np.iinfo(np.int64).max, dtype=np.int64)
    free = np.ones(starts.size, dtype=np.bool_)
    while free.any() and len(chosen) < n_max:
        index = int(np.argmax(np.where(free, distance, -1)))
        chosen.append(int(starts[index]))
        distance = np.minimum(distance, np.abs(position - position[index]))
        free &= np.abs(starts - starts[index]) * 2 >= window
    return tuple(sorted(chosen))
