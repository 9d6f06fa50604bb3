"""Speech, read by espeak-ng (a Debian package): what a room is full of besides music, and no recording of anybody."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator

import numpy as np
import soxr
from numpy.typing import NDArray

PROGRAM = "espeak-ng"
VOICES = ("pl", "cs", "sv", "fi", "ru", "hu", "en-sc", "da")
"""Languages of the speakers. `tests/benchmarks/false_events.py` asks with others."""
TIMBRES = ("m1", "f2", "m3", "f4", "m7", "f5")
TELEPHONE_HZ = 8_000
"""Rate at which every other window is spoken: announcements and calls end at 4 kHz."""
OVERLAP = 0.75
PEAK = 0.3
SOUNDING_DB = -25.0

TEXT = (
    "The doors open at seven, and the concert begins half an hour later.",
    "Please leave your coats and umbrellas at the cloakroom on the ground floor.",
    "Could you turn the second microphone up a little, and take some of the bass away?",
    "We shall play the slow movement first, then the dance, and talk about both afterwards.",
    "One, two, three, four: is anybody there who hears the left loudspeaker?",
    "My grandmother kept nine geese, a grey horse, and a clock which never struck the hour.",
    "Thank you all for coming out on such a wet and windy evening.",
    "The next train to the harbour leaves from platform five in eleven minutes.",
)

_log = logging.getLogger(__name__)


def made_speech(rng: np.random.Generator, n_windows: int, window: int, rate_hz: int) -> NDArray[np.float32]:
    """Windows of speech, half of them with a telephone's band.

    Returns
    -------
    NDArray[float32], shape (n_windows, window), peak 0.3
        Of no window where espeak-ng is not installed, which is logged.
    """
    if shutil.which(PROGRAM) is None:
        _log.warning("%s is not installed: the background will know no speech but the manifests'", PROGRAM)
        return np.zeros((0, window), np.float32)
    found: list[NDArray[np.float32]] = []
    while len(found) < n_windows:
        found += _windows(_sentence(rng, rate_hz), window)
    return np.stack(found[:n_windows])


def _sentence(rng: np.random.Generator, rate_hz: int) -> NDArray[np.float32]:
    """Two sentences by one speaker, shape (n,)."""
    voice = f"{rng.choice(VOICES)}+{rng.choice(TIMBRES)}"
    pace = ("-s", str(rng.integers(110, 220)), "-p", str(rng.integers(15, 85)))
    words = " ".join(rng.choice(TEXT, 2, replace=False))
    wave = subprocess.run(
        [PROGRAM, "-v", voice, *pace, "--stdout"], input=words.encode(), capture_output=True, check=True
    )
    spoken_hz = int.from_bytes(wave.stdout[24:28], "little")
    body = wave.stdout[44:]  # the header's lengths are those of a stream
    samples = np.frombuffer(body[: len(body) // 2 * 2], "<i2").astype(np.float32) / 2**15
    if rng.random() < 0.5:
        samples, spoken_hz = soxr.resample(samples, spoken_hz, TELEPHONE_HZ), TELEPHONE_HZ
    resampled: NDArray[np.float32] = soxr.resample(samples, spoken_hz, rate_hz)
    return resampled


def _windows(samples: NDArray[np.float32], window: int) -> Iterator[NDArray[np.float32]]:
    """Windows that end in sound, as those that a daemon answers for, levelled."""
    floor = np.sqrt(np.mean(np.square(samples))) * 10 ** (SOUNDING_DB / 20)
    for first in range(0, len(samples) - window + 1, round(window * (1 - OVERLAP))):
        part = samples[first : first + window]
        if np.sqrt(np.mean(np.square(part[-window // 5 :]))) > floor:
            yield part * (PEAK / np.abs(part).max())
