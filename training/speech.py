"""Speech, read by espeak-ng and flite (Debian packages): what a room is full of besides music."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import soxr
from numpy.typing import NDArray

ESPEAK, FLITE = "espeak-ng", "flite"
VOICES = ("pl", "cs", "sv", "fi", "ru", "hu", "en-sc", "da")
"""Languages of the speakers. `tests/benchmarks/false_events.py` asks with others."""
TIMBRES = ("m1", "f2", "m3", "f4", "m7", "f5")
FLITE_VOICES = ("awb", "kal16", "rms", "slt")
"""Voices that flite was built with out of recordings of people."""
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

Speaker = Callable[[np.random.Generator, str], tuple[NDArray[np.float32], int]]
"""Reads a text; returns samples, shape (n,), and their rate in Hz."""

_log = logging.getLogger(__name__)


def speakers() -> dict[str, Speaker]:
    """Everybody who can speak here by name: a language of espeak-ng, in any timbre, or a voice of flite's."""
    found: dict[str, Speaker] = {}
    if shutil.which(ESPEAK):
        found |= {f"{ESPEAK}-{language}": partial(_espeak, language) for language in VOICES}
    if shutil.which(FLITE):
        found |= {f"{FLITE}-{voice}": partial(_flite, voice) for voice in FLITE_VOICES}
    return found


def made_speech(rng: np.random.Generator, n_windows: int, window: int, rate_hz: int) -> NDArray[np.float32]:
    """Windows of speech, half of them with a telephone's band, by espeak-ng's voices.

    Returns
    -------
    NDArray[float32], shape (n_windows, window), peak 0.3
        Of no window where espeak-ng is not installed, which is logged.
    """
    if shutil.which(ESPEAK) is None:
        _log.warning("%s is not installed: the background will know no speech but the manifests'", ESPEAK)
        return np.zeros((0, window), np.float32)
    found: list[NDArray[np.float32]] = []
    while len(found) < n_windows:
        found += read_aloud(rng, partial(_espeak, str(rng.choice(VOICES))), window, rate_hz)
    return np.stack(found[:n_windows])


def read_aloud(rng: np.random.Generator, speaker: Speaker, window: int, rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """Windows of two drawn sentences, half of the time through a telephone; see :func:`cut_speech`."""
    samples, spoken_hz = speaker(rng, " ".join(rng.choice(TEXT, 2, replace=False)))
    if rng.random() < 0.5:
        samples, spoken_hz = soxr.resample(samples, spoken_hz, TELEPHONE_HZ), TELEPHONE_HZ
    return cut_speech(soxr.resample(samples, spoken_hz, rate_hz), window)


def cut_speech(samples: NDArray[np.float32], window: int) -> Iterator[NDArray[np.float32]]:
    """Windows that end in sound, as those that a daemon answers for, each of shape (window,) and peak 0.3."""
    floor = np.sqrt(np.mean(np.square(samples))) * 10 ** (SOUNDING_DB / 20)
    for first in range(0, len(samples) - window + 1, round(window * (1 - OVERLAP))):
        part = samples[first : first + window]
        if np.sqrt(np.mean(np.square(part[-window // 5 :]))) > floor:
            yield part * (PEAK / np.abs(part).max())


def _espeak(language: str, rng: np.random.Generator, text: str) -> tuple[NDArray[np.float32], int]:
    voice = f"{language}+{rng.choice(TIMBRES)}"
    pace = ("-s", str(rng.integers(110, 220)), "-p", str(rng.integers(15, 85)))
    return _speech_of([ESPEAK, "-v", voice, *pace, "--stdout"], text)


def _flite(voice: str, rng: np.random.Generator, text: str) -> tuple[NDArray[np.float32], int]:
    pace = ("--setf", f"duration_stretch={rng.uniform(0.8, 1.3):.2f}")
    return _speech_of([FLITE, "-voice", voice, *pace, "-t", text, "-o", "/dev/stdout"], "")


def _speech_of(command: list[str], text: str) -> tuple[NDArray[np.float32], int]:
    """What a synthesiser writes to its standard output as a WAV file, and its rate."""
    wave = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout
    spoken_hz = int.from_bytes(wave[24:28], "little")
    body = wave[44:]  # the header's lengths are those of a stream
    samples = np.frombuffer(body[: len(body) // 2 * 2], "<i2").astype(np.float32)
    samples /= 2**15
    return samples, spoken_hz
