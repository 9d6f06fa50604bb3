"""From an instrument's first sound to its published event, and what hysteresis costs and brings.

``python tests/benchmarks/bench_onset.py DATA`` writes ``results/onset.json``; ``chart_onset.py`` draws it. DATA is a
folder with ``manifest.csv``, ``phrases.csv`` and ``solo.csv``.

Sequences of instruments in turn, each for four notes of a second, are built from the source vsco2, which no weight has
seen; half of the changes are direct, the others after 0.6 s of room noise. ``shipped`` is the set as it comes, whose
players are others; ``enrolled`` is the same after each instrument was taught by five clips of other takes of the player
(`SupportSet.with_shots`, as `mird enroll` does). Sounds that are no instrument (speech, sea, rain, birds, whistling and
others that were not trained on, noise of three colours) stand apart and count false events.

Every hop goes once through the recognizer; the decisions are replayed over its scores with each combination of
smoothing_ms, hold_ms and release_ms, by the daemon's own `Decision`. Times are of the stream: the 6 ms from capture to
publishing come on top (``bench_hop.py``).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mird.daemon.assembly import open_engine, open_store
from mird.daemon.decision import SILENCE, UNKNOWN, Decision, DecisionSettings
from mird.daemon.pipeline import GATE_S, level_dbfs
from mird.daemon.settings import Settings
from mird.daemon.shot import Shot
from mird.daemon.support_set import SupportSet
from mird.kernels.recognizer import Recognizer
from mird.kernels.similarity import Prototypes
from mird.training.audio import read_mono
from mird.training.evaluate import embed_recordings
from mird.training.manifest import Recording, read_manifest

RESULTS = Path(__file__).with_name("results") / "onset.json"
RATE_HZ = 44_100
SOURCE = "vsco2"
MIN_TAKES = 11
N_NOTES = 4
N_ENROLLED = 5
PAUSE_S = 0.6
ROOM_DBFS = -72.0
LEVEL_DBFS = -24.0
SMOOTHING_MS = (0, 50, 100, 150, 200, 300, 500)
HOLD_MS = (0, 100, 200, 300, 400, 600)
RELEASE_MS = (100, 300, 500)

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """One instrument's turn, on the stream's clock."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Heard:
    """What the recognizer made of a stream: per hop its end in s, scores, and level at the gate."""

    time_s: NDArray[np.float64]
    scores: NDArray[np.float32]
    gate_dbfs: NDArray[np.float64]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Spell:
    """One published event: label, and when its start and its end were published."""

    label: str
    start_s: float
    end_s: float


def room(rng: np.random.Generator, n: int) -> Samples:
    return (10 ** (ROOM_DBFS / 20) * rng.normal(size=n)).astype(np.float32)


def note(recording: Recording) -> Samples:
    """A clip at the common level, without a click at its ends, from its first sound on."""
    samples = read_mono(recording.path, RATE_HZ)
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    samples = samples[loud[0] :].copy() if len(loud) else samples.copy()
    samples *= 10 ** (LEVEL_DBFS / 20) / max(float(np.sqrt(np.mean(samples**2))), 1e-9)
    fade = np.linspace(0.0, 1.0, RATE_HZ // 100, dtype=np.float32)
    samples[-len(fade) :] *= fade[::-1]
    return np.clip(samples, -1.0, 1.0)


def sequence(clips: dict[str, list[Recording]], n_rounds: int, seed: int) -> tuple[Samples, list[Segment]]:
    """Every instrument once a round, in another order each."""
    rng = np.random.default_rng(seed)
    parts, segments = [room(rng, RATE_HZ)], []
    at, last = RATE_HZ, ""
    for _ in range(n_rounds):
        order = [str(label) for label in rng.permutation(sorted(clips))]
        if order[0] == last:
            order.append(order.pop(0))
        for number, label in enumerate(order):
            if number % 2:
                parts.append(room(rng, round(PAUSE_S * RATE_HZ)))
                at += len(parts[-1])
            chosen = rng.choice(len(clips[label]), size=min(N_NOTES, len(clips[label])), replace=False)
            begin = at
            for index in chosen:
                parts.append(note(clips[label][int(index)]))
                at += len(parts[-1])
            segments.append(Segment(label, begin / RATE_HZ, at / RATE_HZ))
        last = order[-1]
    parts.append(room(rng, RATE_HZ))
    return np.concatenate(parts), segments


def strangers(data: Path) -> Samples:
    """Sounds that are no instrument and were not trained on, a second of room noise between them."""
    rng = np.random.default_rng(3)
    paths = []
    for name, column in (("phrases.csv", "class"), ("solo.csv", "label")):
        with (data / name).open(newline="") as file:
            paths += [data / row["path"] for row in csv.DictReader(file) if row[column].startswith(("_env", "_speech"))]
    parts = []
    for path in paths:
        samples = read_mono(path, RATE_HZ)
        parts += [samples * (10 ** (LEVEL_DBFS / 20) / max(float(np.sqrt(np.mean(samples**2))), 1e-9))]
    for power in (0.0, 1.0, 2.0):  # white, pink, brown
        spectrum = np.fft.rfft(rng.normal(size=20 * RATE_HZ))
        frequency = np.maximum(np.arange(len(spectrum)), 20.0)
        noise = np.fft.irfft(spectrum / frequency ** (power / 2))
        parts.append((noise * (10 ** (LEVEL_DBFS / 20) / noise.std())).astype(np.float32))
    return np.concatenate(list(itertools.chain.from_iterable((room(rng, RATE_HZ), part) for part in parts)))


def hear(samples: Samples, recognizer: Recognizer, hop_ms: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ends and embeddings of every hop's window."""
    front_end = recognizer.card.front_end
    ends = np.arange(front_end.window, len(samples) + 1, round(hop_ms * RATE_HZ / 1000))
    vectors = [recognizer.embed(samples[end - front_end.window : end][None]) for end in ends]
    return ends, np.concatenate(vectors)


def compared(
    samples: Samples, ends: NDArray[np.int64], vectors: NDArray[np.float32], recognizer: Recognizer, classes: Prototypes
) -> Heard:
    gate = round(GATE_S * RATE_HZ)
    levels = np.array([level_dbfs(samples[end - gate : end]) for end in ends])
    return Heard(ends / RATE_HZ, recognizer.compare(vectors, classes), levels, classes.names)


def events(heard: Heard, settings: DecisionSettings) -> list[Spell]:
    """The events that a daemon publishes, by the times at which it does."""
    decision = Decision(settings, new_id=lambda: "0" * 16)
    found: list[Spell] = []
    for time_s, scores, gate in zip(heard.time_s.tolist(), heard.scores, heard.gate_dbfs.tolist(), strict=True):
        for change in decision.step(heard.names, scores, gate, time_s).changes:
            if change.kind == "start":
                found.append(Spell(change.label, time_s, math.inf))
            else:
                found[-1] = replace(found[-1], end_s=time_s)
    return found


def delays(found: list[Spell], segments: list[Segment]) -> NDArray[np.float64]:
    """From each segment's first sound to the publishing of its right event, s; infinite where there was none."""
    taken = np.full(len(segments), np.inf)
    for row, segment in enumerate(segments):
        right = [
            max(0.0, spell.start_s - segment.start_s)
            for spell in found
            if spell.label == segment.label and spell.end_s > segment.start_s and spell.start_s < segment.end_s
        ]
        taken[row] = min(right, default=np.inf)
    return taken


def n_wrong(found: list[Spell], segments: list[Segment]) -> int:
    """Events that start while another instrument plays."""
    return sum(
        any(s.start_s < spell.start_s <= s.end_s and s.label != spell.label for s in segments) for spell in found
    )


def row_of(found: list[Spell], segments: list[Segment], strange: list[Spell], strange_s: float) -> dict[str, Any]:
    taken = delays(found, segments)
    minutes = sum(segment.end_s - segment.start_s for segment in segments) / 60
    p50, p90 = np.percentile(taken, [50, 90], method="higher")
    return {
        "median_s": None if math.isinf(p50) else round(float(p50), 3),
        "p90_s": None if math.isinf(p90) else round(float(p90), 3),
        "within_1s": round(float(np.mean(taken <= 1.0)), 4),
        "ever": round(float(np.mean(np.isfinite(taken))), 4),
        "wrong_per_minute": round(n_wrong(found, segments) / minutes, 3),
        "strangers_per_minute": round(60 * len(strange) / strange_s, 3),
    }


def enrolled(start: SupportSet, shots: dict[str, list[Recording]], recognizer: Recognizer) -> SupportSet:
    support = start
    for label, recordings in shots.items():
        embedded = embed_recordings(recordings, recognizer)
        for recording, vectors in zip(embedded.recordings, embedded.vectors, strict=True):
            support = support.with_shots(label, tuple(Shot(vector, recording.path.name, 1) for vector in vectors))
    return support


def halves(rows: list[Recording], seed: int) -> tuple[dict[str, list[Recording]], dict[str, list[Recording]]]:
    """For each instrument, clips to enrol (`N_ENROLLED` takes, one clip each) and the clips of the other takes."""
    rng = np.random.default_rng(seed)
    shots: dict[str, list[Recording]] = {}
    played: dict[str, list[Recording]] = {}
    for label in sorted({row.label for row in rows}):
        own = [row for row in rows if row.label == label]
        takes = sorted({row.take for row in own})
        if len(takes) < MIN_TAKES:
            continue
        away = {takes[i] for i in rng.permutation(len(takes))[:N_ENROLLED]}
        shots[label] = [next(row for row in own if row.take == take) for take in sorted(away)]
        played[label] = [row for row in own if row.take not in away]
    return shots, played


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    encoder = open_engine(Settings())
    recognizer = Recognizer(encoder)
    with tempfile.TemporaryDirectory() as folder:
        start = open_store(Settings(support=f"{folder}/support.mird"), encoder).current
    rows = [r for r in read_manifest(args.data / "manifest.csv") if r.source == SOURCE and r.label in start.names]
    shots, played = halves(rows, 1)
    samples, segments = sequence(played, args.rounds, 2)
    strange = strangers(args.data)
    threshold = recognizer.card.unknown_threshold
    result: dict[str, Any] = {
        "encoder": recognizer.card.fingerprint,
        "source": SOURCE,
        "classes": sorted(played),
        "competing_names": len(start.names),
        "n_segments": len(segments),
        "sound_s": round(len(samples) / RATE_HZ, 1),
        "strangers_s": round(len(strange) / RATE_HZ, 1),
        "unknown_threshold": threshold,
        "sets": {},
    }
    supports = {"shipped": start, "enrolled": enrolled(start, shots, recognizer)}
    for hop_ms in (100, 50):
        ends, vectors = hear(samples, recognizer, hop_ms)
        strange_ends, strange_vectors = hear(strange, recognizer, hop_ms)
        for name, support in supports.items():
            classes = support.prototypes()
            heard = compared(samples, ends, vectors, recognizer, classes)
            other = compared(strange, strange_ends, strange_vectors, recognizer, classes)
            table = result["sets"].setdefault(name, [])
            for smoothing, hold, release in itertools.product(SMOOTHING_MS, HOLD_MS, RELEASE_MS):
                if hop_ms == 50 and release != 300:
                    continue
                settings = DecisionSettings(
                    threshold, smoothing_s=smoothing / 1000, hold_s=hold / 1000, release_s=release / 1000
                )
                found, false = events(heard, settings), events(other, settings)
                assert not {spell.label for spell in found} & {SILENCE, UNKNOWN}
                row = row_of(found, segments, false, len(strange) / RATE_HZ)
                table.append(
                    {"hop_ms": hop_ms, "smoothing_ms": smoothing, "hold_ms": hold, "release_ms": release, **row}
                )
            print(hop_ms, name, len(table), flush=True)
            RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
