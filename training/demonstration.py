"""The demonstration recording: six instruments one after the other, played by FluidSynth from a free soundfont."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile

from mird.training.errors import TrainingError
from mird.training.general_midi import PROGRAMS
from mird.training.render import RATE_HZ, play, random_phrases

ORDER = ("piano", "violin", "flute", "trumpet", "guitar", "cello")
PART_S, REST_S = 4, 1
PEAK = 0.5


def make_demonstration(soundfont: Path, recording: Path, labels: Path, seed: int) -> None:
    """Write the recording (FLAC) and what is heard in it (CSV: start_s, end_s, label).

    Raises
    ------
    TrainingError
        If the soundfont cannot be played.
    """
    if not soundfont.is_file():
        raise TrainingError(
            f"{soundfont}: no such soundfont; Debian's musescore-general-soundfont-lossless installs one"
        )
    rows, parts = [], []
    at_s = 0
    for number, label in enumerate(ORDER):
        program = next(p for p in PROGRAMS if p.label == label)
        sound = play(
            random_phrases(np.random.default_rng((seed, number)), program, PART_S), soundfont, reverberation=0.1
        )
        part = np.zeros((PART_S + REST_S) * RATE_HZ, np.float32)
        sound = sound[: len(part)]
        part[: len(sound)] = sound * (PEAK / np.abs(sound).max())
        fade = RATE_HZ // 2
        part[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
        parts.append(part)
        rows.append((at_s, at_s + PART_S, label))
        at_s += PART_S + REST_S
    soundfile.write(recording, np.concatenate(parts), RATE_HZ, subtype="PCM_16")
    with labels.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("start_s", "end_s", "label"), *rows])
