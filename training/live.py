"""Live-like input: a clean window as a microphone in a room would give it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mird.training.compose import ComposeSettings, reverberate
from mird.training.noises import COLOURS, coloured_noise

Wave = NDArray[np.float32]

LOWEST_HZ = 40.0
"""Frequency from which a microphone's response is drawn, up to half the sampling rate."""


@dataclass(frozen=True)
class LiveSettings:
    """How far a window is moved and coloured.

    Attributes
    ----------
    shift_s : range in which the sound is moved, later being positive
    eq_db : standard deviation of the response's tilt and of each of its three bumps
    reverberation_s, direct_db : ranges, as of :class:`mird.training.compose.ComposeSettings`
    noise_db : range of the signal-to-noise ratio
    """

    shift_s: tuple[float, float] = (-0.1, 0.3)
    eq_db: float = 4.0
    reverberation_s: tuple[float, float] = (0.2, 0.8)
    direct_db: tuple[float, float] = (0.0, 12.0)
    noise_db: tuple[float, float] = (10.0, 40.0)


def make_live(rng: np.random.Generator, window: Wave, rate_hz: int, settings: LiveSettings | None = None) -> Wave:
    """Move a window in time, colour it, put it into a room and add noise, each drawn anew.

    Parameters
    ----------
    window : NDArray[float32], shape (n,), range [-1, 1]

    Returns
    -------
    NDArray[float32], shape (n,)
        At the peak of the given window; a window without sound comes back as it is.
    """
    settings = settings or LiveSettings()
    peak = float(np.abs(window).max())
    if not peak:
        return window
    moved = _moved(window, int(rng.uniform(*settings.shift_s) * rate_hz))
    coloured = _coloured(rng, moved, rate_hz, settings.eq_db)
    room = ComposeSettings(reverberation_s=settings.reverberation_s, direct_db=settings.direct_db)
    wet = reverberate(rng, coloured, rate_hz, room)
    noise = coloured_noise(rng, len(window), rate_hz, float(rng.choice(list(COLOURS.values()))))
    ratio_db = float(rng.uniform(*settings.noise_db))
    out = wet + noise * np.float32(_rms(wet) / _rms(noise) * 10 ** (-ratio_db / 20))
    level = float(np.abs(out).max())
    return (out * np.float32(peak / level)).astype(np.float32) if level else window


def _moved(window: Wave, n: int) -> Wave:
    out = np.zeros_like(window)
    if n >= 0:
        out[n:] = window[: len(window) - n]
    else:
        out[:n] = window[-n:]
    return out if out.any() else window


def _coloured(rng: np.random.Generator, window: Wave, rate_hz: int, eq_db: float) -> Wave:
    """Through a smooth random frequency response: a tilt and three bumps over log frequency."""
    spectrum = scipy.fft.rfft(window)
    hertz = scipy.fft.rfftfreq(len(window), 1 / rate_hz)
    x = np.log(np.maximum(hertz, LOWEST_HZ) / LOWEST_HZ) / np.log(rate_hz / 2 / LOWEST_HZ) * 2 - 1
    response_db = rng.normal() * eq_db * x
    for _ in range(3):
        response_db += rng.normal() * eq_db * np.exp(-(((x - rng.uniform(-1, 1)) / rng.uniform(0.1, 0.5)) ** 2))
    return np.asarray(scipy.fft.irfft(spectrum * 10 ** (response_db / 20), len(window)), np.float32)


def _rms(samples: Wave) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) or 1e-12
