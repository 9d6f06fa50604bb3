"""False events per hour: sound that is no instrument, through the path of ``mird tag``, which is the live one.

usage: MIRD_RECORDINGS=FOLDER python tests/benchmarks/false_events.py [--minutes 60] [--prompts FOLDER ...] [--out F]

Made by formula with a seed: digital silence, dither and room tone, noise of five colours, hum, rain, applause. Spoken
by espeak-ng, where it is installed, by other speakers than the encoder's background was made of. What people spoke,
where ``--prompts`` names folders of it: Debian has prompts for telephone exchanges (``asterisk-core-sounds-en-wav``),
the letters and syllables of a tutor in 20 languages (``klettres-data``), the names of things in a dozen
(``tuxpaint-stamps-default``), and the voices of games (``hedgewars-data``, ``0ad-data``, ``warzone2100-data``).
Recorded: what ``solo.csv``, ``phrases.csv`` and ``manifest.csv`` of the folder of recordings call no instrument, each
take at each of two levels. Every passage of `PASSAGE_S` has a level of its own, from barely above the silence gate to
loud. Every event counts, whatever its label.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.signal import butter, sosfilt

from mird.daemon.assembly import open_engine, open_store
from mird.daemon.capture import SourceSpec
from mird.daemon.messages import Event, Frame
from mird.daemon.settings import Settings
from mird.daemon.tagging import Tagger
from mird.kernels.recognizer import Recognizer

RATE_HZ = 44_100
PASSAGE_S = 20.0
LEVELS_DBFS = (-50.0, -42.0, -35.0, -28.0, -22.0, -16.0)
COLOURS = {"white": 0.0, "pink": 1.0, "brown": 2.0, "blue": -1.0, "violet": -2.0}
VOICES = ("en-gb", "en-us", "de", "fr", "it", "es", "pt-br", "nl")
PROMPTS = {".wav", ".ogg"}
NO_SPEECH = {"ascending-2tone", "beep", "beeperr", "descending-2tone", "tt-monkeys"}
"""Prompts that are no speech but tones, which are named after what they sound like, and monkeys."""
TARGETS = {"silence": 0.0, "noise": 1.0, "speech": 2.0}
"""False events per hour that a group may have; other groups are measured and have no target."""

Samples = NDArray[np.float32]
Make = Callable[[np.random.Generator, int], Samples]


def noise(exponent: float) -> Make:
    """Gaussian noise whose power falls with frequency to the power of ``exponent``."""

    def make(rng: np.random.Generator, n: int) -> Samples:
        spectrum = np.fft.rfft(rng.standard_normal(n))
        hertz = np.fft.rfftfreq(n, 1 / RATE_HZ)
        spectrum *= np.where(hertz >= 15.0, np.maximum(hertz, 15.0) ** (-exponent / 2), 0.0)
        return np.fft.irfft(spectrum, n).astype(np.float32)

    return make


def hum(rng: np.random.Generator, n: int) -> Samples:
    """Hum of 50 or 60 Hz with two dozen harmonics of random strength and a little noise; the mains drift."""
    mains_hz = rng.choice([50.0, 60.0]) * (1 + 1e-3 * np.cumsum(rng.standard_normal(n // 441 + 2)) / 100)
    phase = 2 * np.pi * np.cumsum(np.repeat(mains_hz, 441)[:n]) / RATE_HZ
    partials = (rng.uniform(0.1, 1) / k ** rng.uniform(0.6, 1.6) * np.sin(k * phase) for k in range(1, 25))
    made = np.sum(list(partials), axis=0) + 10 ** rng.uniform(-3, -1) * rng.standard_normal(n)
    return np.asarray(made, np.float32)


def rain(rng: np.random.Generator, n: int) -> Samples:
    """Drops: short noisy decays at random over a bed of band-limited noise."""
    bed = sosfilt(butter(2, (400, 12_000), "bandpass", fs=RATE_HZ, output="sos"), rng.standard_normal(n))
    return np.asarray(bed + 6 * _grains(rng, n, rng.uniform(50, 400), (600, 9_000), 0.004), np.float32)


def applause(rng: np.random.Generator, n: int) -> Samples:
    """Claps of thirty to three hundred a second, each a resonant burst of some milliseconds."""
    return _grains(rng, n, rng.uniform(30, 300), (700, 3_500), 0.008)


def _grains(rng: np.random.Generator, n: int, per_s: float, band_hz: tuple[float, float], decay_s: float) -> Samples:
    """Bursts of band-limited noise at random times, of random strength."""
    bursts = []
    for _ in range(24):
        length = round(decay_s * rng.uniform(0.5, 2) * 6 * RATE_HZ)
        centre = np.exp(rng.uniform(*np.log(band_hz)))
        sos = butter(1, (centre * 0.7, min(centre * 1.4, 20_000)), "bandpass", fs=RATE_HZ, output="sos")
        burst = sosfilt(sos, rng.standard_normal(length) * np.exp(-6 * np.arange(length) / length))
        bursts.append(burst / np.abs(burst).max())
    made = np.zeros(n + max(map(len, bursts)))
    for at in rng.integers(0, n, rng.poisson(per_s * n / RATE_HZ)):
        burst = bursts[rng.integers(len(bursts))]
        made[at : at + len(burst)] += rng.exponential() * burst
    return np.asarray(made[:n], np.float32)


def levelled(samples: Samples, dbfs: float) -> Samples:
    """Samples at a level; peaks are clipped, as an interface would."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) or 1.0
    clipped: Samples = np.clip(samples * (10 ** (dbfs / 20) / rms), -1.0, 1.0).astype(np.float32)
    return clipped


def made(make: Make, minutes: float, seed: int, levels_dbfs: tuple[float, ...] = LEVELS_DBFS) -> Iterator[Samples]:
    """Passages of made sound, each at the next level."""
    rng = np.random.default_rng(seed)
    for k in range(max(1, round(60 * minutes / PASSAGE_S))):
        yield levelled(make(rng, round(PASSAGE_S * RATE_HZ)), levels_dbfs[k % len(levels_dbfs)])


def silence(minutes: float) -> Iterator[Samples]:
    """Exact zeros, the dither of 16 bits, and room tone 10 dB below the gate, in turns."""
    n = round(PASSAGE_S * RATE_HZ)
    rng = np.random.default_rng(0)
    for k in range(max(1, round(60 * minutes / PASSAGE_S))):
        if k % 3 == 0:
            yield np.zeros(n, np.float32)
        elif k % 3 == 1:
            yield (rng.integers(-1, 2, n) / 2**15).astype(np.float32)
        else:
            yield levelled(noise(1.0)(rng, n), Settings().silence_dbfs - 10)


def spoken(minutes: float, text: str) -> Iterator[Samples]:
    """Sentences read by espeak-ng: voices, speeds and pitches in turns."""
    rng = np.random.default_rng(1)
    lines = [line.strip() for line in text.replace("\n", " ").split(".") if 20 < len(line) < 400]
    done_s, k = 0.0, 0
    while done_s < 60 * minutes:
        words = ". ".join(lines[(k + j) % len(lines)] for j in range(3))
        voice = f"{VOICES[k % len(VOICES)]}+{('m1', 'f2', 'm3', 'f4', 'm7', 'f5')[k % 6]}"
        command = ["espeak-ng", "-v", voice, "-s", str(rng.integers(120, 210)), "-p", str(rng.integers(20, 80))]
        wave = subprocess.run([*command, "--stdout"], input=words.encode(), capture_output=True, check=True).stdout
        rate_hz = int.from_bytes(wave[24:28], "little")
        samples = np.frombuffer(wave[44 : len(wave) - len(wave) % 2], "<i2").astype(np.float32) / 2**15
        samples = soxr.resample(samples, rate_hz, RATE_HZ)
        yield levelled(samples, LEVELS_DBFS[2 + k % 4])
        done_s += len(samples) / RATE_HZ
        k += 3 if k % 2 else 4


def recorded(folder: Path, wanted: tuple[str, ...]) -> Iterator[Samples]:
    """Takes of the recordings whose class begins with one of the words, each at -35 and at -20 dBFS."""
    for table, column in (("solo.csv", "label"), ("phrases.csv", "class"), ("manifest.csv", "class")):
        with (folder / table).open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row[column].startswith(wanted)]
        if table == "solo.csv":
            rows = [row for row in rows if any(word.lstrip("_").rpartition("-")[2] in row["path"] for word in wanted)]
        for row, dbfs in ((row, dbfs) for row in rows for dbfs in (-35.0, -20.0)):
            samples, rate_hz = soundfile.read(folder / row["path"], dtype="float32", always_2d=True)
            sound = soxr.resample(samples[:, 0], rate_hz, RATE_HZ)
            sounding = np.flatnonzero(np.abs(sound) > 0)
            if len(sounding):
                yield levelled(sound[: sounding[-1] + 1], dbfs)


def prompted(minutes: float, folder: Path) -> Iterator[Samples]:
    """Short recordings of people who speak, one after the other, at speaking levels."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in PROMPTS and path.stem not in NO_SPEECH]
    np.random.default_rng(3).shuffle(paths)
    done_s = 0.0
    for k, path in enumerate(paths):
        if done_s >= 60 * minutes:
            return
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        if not samples.any():
            continue
        yield levelled(soxr.resample(samples[:, 0], rate_hz, RATE_HZ), LEVELS_DBFS[2 + k % 4])
        done_s += len(samples) / rate_hz


def kinds(minutes: float, folder: Path | None, prompts: Sequence[Path]) -> dict[tuple[str, str], Iterator[Samples]]:
    """By group and kind: the passages."""
    found: dict[tuple[str, str], Iterator[Samples]] = {("silence", "zeros, dither, room tone"): silence(minutes)}
    for number, (colour, exponent) in enumerate(COLOURS.items()):
        found["noise", colour] = made(noise(exponent), minutes, 10 + number)
    found["other", "hum, made"] = made(hum, minutes, 20)
    found["other", "rain, made"] = made(rain, minutes, 21)
    found["other", "applause, made"] = made(applause, minutes, 22)
    if shutil.which("espeak-ng"):
        text = Path("/usr/share/common-licenses/GPL-3").read_text()
        found["speech", "espeak-ng"] = spoken(minutes, text)
    for each in prompts:
        found["speech", f"{each.name}, recorded"] = prompted(minutes, each)
    if folder is not None:
        found["speech", "recorded"] = recorded(folder, ("_speech",))
        found["other", "rain and sea, recorded"] = recorded(folder, ("_env-rain", "_env-sea", "_env-ocean"))
        found["other", "applause and crowd, recorded"] = recorded(folder, ("_env-applause", "_env-crowd"))
        rest = ("_env-b", "_env-ch", "_env-cl", "_env-d", "_env-f", "_env-h", "_env-m", "_env-p", "_env-v")
        found["other", "animals, machines, things, recorded"] = recorded(folder, (*rest, "_env-rooster"))
    return found


def measure(passages: Iterator[Samples], tagger: Tagger) -> dict[str, Any]:
    """Tag the passages as one recording; the events in it."""
    with tempfile.TemporaryDirectory(prefix="mird-") as place:
        path = Path(place) / "sound.wav"
        with soundfile.SoundFile(path, "w", RATE_HZ, 1, "PCM_16") as file:
            for passage in passages:
                file.write(passage)
            seconds = file.frames / RATE_HZ
        labels: Counter[str] = Counter()
        scores: list[float] = []
        frames: Counter[str] = Counter()
        for message in tagger.tag(SourceSpec("file", str(path))):
            if isinstance(message, Event) and message.event == "end":
                labels[message.label] += 1
                scores.append(round(message.peak_score, 3))
            elif isinstance(message, Frame):
                frames[message.label if message.label in ("silence", "unknown") else "a class"] += 1
    n_events = labels.total()
    return {
        "hours": seconds / 3600,
        "n_events": n_events,
        "events_per_hour": n_events / (seconds / 3600),
        "labels": dict(labels.most_common()),
        "peak_scores": sorted(scores, reverse=True)[:50],
        "share_of_frames": {name: count / frames.total() for name, count in sorted(frames.items())},
    }


def show(result: dict[str, Any]) -> None:
    """The figures beside their targets."""
    table = Table("group", "kind", "hours", "events", "an hour", "target", "labels")
    for row in result["kinds"]:
        target = (
            f"under {TARGETS[row['group']]:g}"
            if TARGETS.get(row["group"])
            else "0"
            if row["group"] == "silence"
            else ""
        )
        labels = ", ".join(f"{name} {n}" for name, n in list(row["labels"].items())[:4])
        rate = f"{row['events_per_hour']:.1f}"
        table.add_row(row["group"], row["kind"], f"{row['hours']:.2f}", str(row["n_events"]), rate, target, labels)
    Console(width=150).print(table)


def main() -> None:
    """Measure, show, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, metavar="N", help="of each kind that is made or spoken")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="kinds whose group or name holds one of the words")
    parser.add_argument(
        "--prompts", nargs="+", type=Path, default=[], metavar="FOLDER", help="WAV or Ogg files of people who speak"
    )
    parser.add_argument("--hop-ms", type=int, default=100, metavar="N")
    parser.add_argument(
        "--wary-hold-ms", type=int, default=Settings().wary_hold_ms, metavar="N", help="0: what the encoder does alone"
    )
    parser.add_argument("--engine", default="", metavar="FILE", help="encoder; the shipped one by default")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write")
    args = parser.parse_args()
    settings = Settings(hop_ms=args.hop_ms, engine=args.engine, wary_hold_ms=args.wary_hold_ms)
    encoder = open_engine(settings)
    snapshot = open_store(settings, encoder).snapshot
    tagger = Tagger(Recognizer(encoder), snapshot, settings)
    folder = os.environ.get("MIRD_RECORDINGS")
    card = encoder.card
    result: dict[str, Any] = {
        "engine": f"{card.name} {card.fingerprint}",
        "n_classes": len(snapshot.prototypes.names),
        "unknown_threshold": card.unknown_threshold,
        "hop_ms": args.hop_ms,
        "wary_hold_ms": args.wary_hold_ms,
        "kinds": [],
    }
    for (group, kind), passages in kinds(args.minutes, Path(folder) if folder else None, args.prompts).items():
        if args.only and not any(word in f"{group} {kind}" for word in args.only):
            continue
        first = next(passages)
        row = {"group": group, "kind": kind, **measure(chain([first], passages), tagger)}
        result["kinds"].append(row)
        show({"kinds": [row]})
    show(result)
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
