"""Sounds as a stage makes them, out of single clips: phrases, chords, rooms, other players in the background.

A window of live sound rarely begins with one note's onset. Each composed window takes one clip as its subject and sets
it among other clips of the same instrument **and source**, so that players and rooms never mix within the subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mird.training.audio import fit_length

Wave = NDArray[np.float32]

HEARD = 0.05
"""Share of a note's peak from which on it counts as sounding."""


@dataclass(frozen=True)
class ComposeSettings:
    """How often and how far.

    Attributes
    ----------
    phrase, chord : share of windows with notes one after the other, and at once; range [0, 1]
    room, background : share with reverberation, and with another clip behind; range [0, 1]
    reverberation_s : range of the time in which reverberation falls by 60 dB
    direct_db : range of the direct sound's level above the reverberation
    background_db : range of the subject's level above the background
    """

    phrase: float = 0.5
    chord: float = 0.1
    room: float = 0.6
    background: float = 0.15
    reverberation_s: tuple[float, float] = (0.15, 1.6)
    direct_db: tuple[float, float] = (-4.0, 15.0)
    background_db: tuple[float, float] = (10.0, 25.0)


def compose(
    rng: np.random.Generator,
    subject: Wave,
    partners: Sequence[Wave],
    others: Sequence[Wave],
    window: int,
    rate_hz: int,
    settings: ComposeSettings,
) -> Wave:
    """One window of composed sound.

    Parameters
    ----------
    subject : NDArray[float32], shape (n,)
        The clip that must be heard.
    partners : sequence of NDArray[float32]
        Other clips of the same instrument and source, of other takes where there are some; may be empty.
    others : sequence of NDArray[float32]
        Clips for the background, of other instruments; may be empty.
    window : int > 0
        Samples of the result.

    Returns
    -------
    NDArray[float32], shape (window,)
        Peak 0.5; silent where the subject is.
    """
    lead = int(0.7 * rate_hz)  # sound before the window, so that releases and reverberation reach into it
    line = np.zeros(lead + window, np.float32)
    earliest_s = _earliest(subject, rate_hz)
    draw = rng.random()
    if partners and draw < settings.phrase:
        _add_phrase(rng, line, subject, partners, lead, rate_hz, earliest_s)
    elif partners and draw < settings.phrase + settings.chord:
        at = lead + int(rng.uniform(max(-0.4, earliest_s), 0.3) * rate_hz)
        for note in (subject, *_pick(rng, partners, int(rng.integers(1, 3)))):
            _add(line, _levelled(note) * 10 ** (rng.uniform(-4, 4) / 20), at + int(rng.uniform(0, 0.03) * rate_hz))
    else:
        _add(line, _levelled(subject), lead + int(rng.uniform(max(-0.5, earliest_s), 0.4) * rate_hz))
    if rng.random() < settings.room:
        line = reverberate(rng, line, rate_hz, settings)
    out = line[lead : lead + window]
    if others and rng.random() < settings.background:
        level_db = rng.uniform(*settings.background_db)
        back = np.zeros(window, np.float32)
        _add(back, _levelled(_pick(rng, others, 1)[0]), int(rng.uniform(-0.4, 0.4) * rate_hz))
        out = out + back * (_rms(out) / max(_rms(back), 1e-9)) * 10 ** (-level_db / 20)
    peak = float(np.abs(out).max())
    return (out * (0.5 / peak)).astype(np.float32) if peak > 1e-6 else fit_length(_levelled(subject), window)


def reverberate(rng: np.random.Generator, line: Wave, rate_hz: int, settings: ComposeSettings) -> Wave:
    """``line`` in a made-up room: decaying noise, treble decaying faster, behind a direct path; same shape."""
    decay_s = float(np.exp(rng.uniform(*np.log(settings.reverberation_s))))
    n_tail = int(min(decay_s, 1.2) * rate_hz)
    t = np.arange(n_tail, dtype=np.float32) / rate_hz
    tail = rng.standard_normal(n_tail, dtype=np.float32)
    dark = np.convolve(tail, np.ones(9, np.float32) / 3.0, mode="same")  # low-passed near 2.4 kHz
    treble_s = decay_s * rng.uniform(0.3, 0.9)
    response = dark * np.exp(-6.9 / decay_s * t) + 0.5 * tail * np.exp(-6.9 / treble_s * t)
    response /= np.sqrt(np.sum(response**2)) * 10 ** (rng.uniform(*settings.direct_db) / 20)
    delay = int(rng.uniform(0.0, 0.02) * rate_hz)
    impulse = np.zeros(delay + n_tail, np.float32)
    impulse[delay:] = response
    impulse[0] += 1.0
    size = scipy.fft.next_fast_len(len(line) + len(impulse) - 1, real=True)
    wet = scipy.fft.irfft(scipy.fft.rfft(line, size) * scipy.fft.rfft(impulse, size), size)
    return np.asarray(wet[: len(line)], np.float32)


def _add_phrase(
    rng: np.random.Generator,
    line: Wave,
    subject: Wave,
    partners: Sequence[Wave],
    lead: int,
    rate_hz: int,
    earliest_s: float,
) -> None:
    """Notes one after the other, the subject heard within the window; releases cut short or left ringing."""
    n_notes = int(rng.integers(2, 6))
    own_s = rng.uniform(max(-0.6, earliest_s), 0.6)
    onsets_s = np.sort(np.append(rng.uniform(-0.6, 0.9, n_notes - 1), own_s))
    place = int(np.searchsorted(onsets_s, own_s))
    ringing = rng.random() < 0.4
    partner_notes = _pick(rng, partners, n_notes)
    for number, onset_s in enumerate(onsets_s):
        note = _levelled(subject if number == place else partner_notes[number]) * 10 ** (rng.uniform(-6, 3) / 20)
        if not ringing and number + 1 < n_notes:
            length = int((onsets_s[number + 1] - onset_s) * rate_hz)
            fade = int(rng.uniform(0.015, 0.08) * rate_hz)
            if length + fade < len(note):
                note = note[: length + fade].copy()
                note[length:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
        _add(line, note, lead + int(onset_s * rate_hz))


def _earliest(note: Wave, rate_hz: int) -> float:
    """Earliest onset, seconds from the window's start, that leaves 0.2 s of a note's sound within; at most 0."""
    loud = np.flatnonzero(np.abs(note) > HEARD * np.abs(note).max())
    sounding_s = (int(loud[-1]) + 1) / rate_hz if len(loud) else 0.0
    return min(0.2, sounding_s) - sounding_s


def _add(line: Wave, note: Wave, at: int) -> None:
    begin, end = max(at, 0), min(at + len(note), len(line))
    if end > begin:
        line[begin:end] += note[begin - at : end - at]


def _levelled(note: Wave) -> Wave:
    peak = float(np.abs(note).max())
    return note * np.float32(0.5 / peak) if peak > 1e-9 else note


def _pick(rng: np.random.Generator, notes: Sequence[Wave], n: int) -> list[Wave]:
    return [notes[int(i)] for i in rng.integers(len(notes), size=n)]


def _rms(samples: Wave) -> float:
    return float(np.sqrt(np.mean(samples**2)))
