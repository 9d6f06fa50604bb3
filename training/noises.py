"""Sounds that are no instrument, made by formula: noise of five colours, mains hum and room tone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COLOURS = {"white": 0.0, "pink": 1.0, "brown": 2.0, "blue": -1.0, "violet": -2.0}
"""Noise by the exponent of its power's fall with frequency."""

LOWEST_HZ = 15.0
MAINS_HZ = (50.0, 60.0)
PEAK = 0.3


def coloured_noise(rng: np.random.Generator, n: int, rate_hz: int, exponent: float) -> NDArray[np.float32]:
    """Gaussian noise whose power falls with frequency to the power of ``exponent``; shape (n,), peak 0.3."""
    hertz = np.fft.rfftfreq(n, 1 / rate_hz)
    shape = np.zeros(len(hertz))
    audible = hertz >= LOWEST_HZ
    shape[audible] = hertz[audible] ** (-exponent / 2)
    spectrum = (rng.standard_normal(len(hertz)) + 1j * rng.standard_normal(len(hertz))) * shape
    return _levelled(np.fft.irfft(spectrum, n))


def mains_hum(rng: np.random.Generator, n: int, rate_hz: int, mains_hz: float) -> NDArray[np.float32]:
    """Hum of the mains, of two dozen harmonics of any strength over a little noise; shape (n,), peak 0.3."""
    t = np.arange(n) / rate_hz
    fall = rng.uniform(0.5, 1.8)
    partials = [
        rng.uniform(0.1, 1) / k**fall * np.sin(2 * np.pi * k * mains_hz * t + rng.uniform(0, 6.3)) for k in range(1, 25)
    ]
    return _levelled(np.sum(partials, axis=0) + 10 ** rng.uniform(-3.5, -1) * rng.standard_normal(n))


def room_tone(rng: np.random.Generator, n: int, rate_hz: int) -> NDArray[np.float32]:
    """What is heard of an empty room: air that falls with frequency, a fan's band, faint hum; shape (n,), peak 0.3."""
    air = coloured_noise(rng, n, rate_hz, rng.uniform(0.8, 2.5)).astype(np.float64)
    hertz = np.fft.rfftfreq(n, 1 / rate_hz)
    octaves = np.log2(np.maximum(hertz, LOWEST_HZ) / np.exp(rng.uniform(np.log(60), np.log(1200))))
    fan = np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * np.exp(-0.5 * (octaves / rng.uniform(0.1, 0.8)) ** 2), n)
    hum = mains_hum(rng, n, rate_hz, float(rng.choice(MAINS_HZ)))
    mixed = np.zeros(n)
    for part, level_db in ((air, 0.0), (fan, rng.uniform(-20, 3)), (hum, rng.uniform(-40, -6))):
        mixed += part / np.std(part) * 10 ** (level_db / 20)
    return _levelled(mixed)


N_HUMS = N_ROOMS = 10
"""Hums, and rooms, for each noise of a colour: they differ far more."""


def made_noises(rng: np.random.Generator, n_each: int, n: int, rate_hz: int) -> dict[str, NDArray[np.float32]]:
    """``n_each`` windows of every colour and ten times as many of hum and room tone; each of shape (n_windows, n)."""
    windows = {
        name: np.stack([coloured_noise(rng, n, rate_hz, exponent) for _ in range(n_each)])
        for name, exponent in COLOURS.items()
    }
    windows["hum"] = np.stack([mains_hum(rng, n, rate_hz, MAINS_HZ[k % len(MAINS_HZ)]) for k in range(N_HUMS * n_each)])
    windows["room"] = np.stack([room_tone(rng, n, rate_hz) for _ in range(N_ROOMS * n_each)])
    return windows


def _levelled(samples: NDArray[np.float64]) -> NDArray[np.float32]:
    levelled: NDArray[np.float32] = (samples * (PEAK / np.abs(samples).max())).astype(np.float32)
    return levelled
