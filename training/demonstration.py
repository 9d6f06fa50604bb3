"""The demonstration recording: six instruments play a tune one after the other, by FluidSynth from a free soundfont."""

from __future__ import annotations

import csv
from pathlib import Path

import mido
import numpy as np

from mird.training.audio import write_clip
from mird.training.errors import TrainingError
from mird.training.general_midi import PROGRAMS, Program
from mird.training.render import RATE_HZ, TICKS_PER_S, check_soundfont, play

PARTS = (("piano", 60), ("violin", 67), ("flute", 72), ("trumpet", 62), ("guitar", 52), ("cello", 43))
"""Who plays, and from which MIDI note."""

TUNE = ((0, 0.4), (4, 0.4), (7, 0.4), (12, 0.6), (11, 0.2), (9, 0.4), (7, 0.4), (5, 0.2), (4, 0.2), (2, 0.4), (0, 0.8))
"""Semitones above the first note, and seconds."""

PART_S, REST_S = 4.5, 1.0
VELOCITY = 92
PEAK = 0.5
REVERBERATION = 0.1


def make_demonstration(soundfont: Path, recording: Path, labels: Path) -> None:
    """Write the recording (FLAC) and what is heard in it (CSV: start_s, end_s, label).

    Raises
    ------
    TrainingError
        If the soundfont is missing or cannot be played, or a file cannot be written.
    """
    check_soundfont(soundfont)
    rows, parts = [], []
    n_part, n_fade = round((PART_S + REST_S) * RATE_HZ), RATE_HZ // 2
    for number, (label, root) in enumerate(PARTS):
        program = next(p for p in PROGRAMS if p.label == label)
        sound = play(_tune(program, root), soundfont, reverberation=REVERBERATION)[:n_part]
        part = np.zeros(n_part, np.float32)
        part[: len(sound)] = sound * (PEAK / np.abs(sound).max())
        part[-n_fade:] *= np.linspace(1.0, 0.0, n_fade, dtype=np.float32)
        parts.append(part)
        start_s = number * (PART_S + REST_S)
        rows.append((start_s, start_s + PART_S, label))
    write_clip(recording, np.concatenate(parts), RATE_HZ)
    try:
        with labels.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([("start_s", "end_s", "label"), *rows])
    except OSError as error:
        raise TrainingError(f"{labels}: cannot write the labels: {error}") from None


def _tune(program: Program, root: int) -> mido.MidiFile:
    score = mido.MidiFile(ticks_per_beat=TICKS_PER_S // 2)
    track = mido.MidiTrack([mido.Message("program_change", program=program.number)])
    score.tracks.append(track)
    for step, seconds in TUNE:
        ticks = round(seconds * TICKS_PER_S)
        track.append(mido.Message("note_on", note=root + step, velocity=VELOCITY))
        track.append(mido.Message("note_off", note=root + step, time=ticks))
    return score
