"""The best few classes alone, as a GPU gives them, tell the same story as the scores of all 200 of a support set."""

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.daemon.capture import new_stream
from mird.daemon.messages import Event, Frame, Message
from mird.daemon.pipeline import Pipeline
from mird.daemon.ring import Chunk, Ring
from mird.daemon.sample_clock import SampleClock
from mird.daemon.settings import Settings
from mird.daemon.support_store import Snapshot, SupportStore
from mird.kernels.best import N_BEST, best_pairs, found_classes, spread
from mird.kernels.encoder import Encoder
from mird.kernels.recognizer import Recognizer
from mird.kernels.similarity import Prototypes, judge, prototypes
from mird.training.audio import fit_length, read_mono

Samples = NDArray[np.float32]
N_CLASSES, BLOCK = 200, 4410


class BestAlone(Recognizer):
    """Scores as a device gives them: zero for all but the best."""

    def __init__(self, encoder: Encoder, n_best: int) -> None:
        super().__init__(encoder)
        self._n_best = n_best

    def compare(self, embeddings: Samples, support: Prototypes) -> Samples:
        odds = judge(embeddings, support, self.card.head, self.card.background)
        n = len(support.names)
        return spread(*found_classes(best_pairs(odds, self._n_best), n), n)


def told(
    recognizer: Recognizer, samples: Samples, snapshot: Snapshot, settings: Settings
) -> tuple[list[Frame], list[Event]]:
    """Frames and events of one channel."""
    rate_hz = recognizer.card.front_end.rate_hz
    stream = new_stream("desk", rate_hz, (1,), Ring(rate_hz, 1), SampleClock(rate_hz), lossless=False)
    pipeline = Pipeline(recognizer, stream, settings)
    messages: list[Message] = []
    for start in range(0, len(samples), BLOCK):
        pipeline.push(Chunk(start, samples[start : start + BLOCK, None], 0))
        messages.extend(itertools.chain.from_iterable(pipeline.hops(lambda: snapshot)))
    pipeline.finish()
    messages.extend(itertools.chain.from_iterable(pipeline.hops(lambda: snapshot)))
    messages.extend(pipeline.close())
    return [each for each in messages if isinstance(each, Frame)], [
        each for each in messages if isinstance(each, Event)
    ]


def check_same_story(encoder: Encoder, samples: Samples, snapshot: Snapshot, settings: Settings) -> int:
    """Compare; returns how many events there were.

    Classes and times are the same to the sample. With 32 classes the score of one that rises from behind them, or has
    fallen there, is lower by what the last of the best has.
    """
    frames, events = told(Recognizer(encoder), samples, snapshot, settings)
    for n_best, most in ((32, 0.1), (N_BEST, 1e-3)):
        few_frames, few_events = told(BestAlone(encoder, n_best), samples, snapshot, settings)
        for few, whole in zip(few_events, events, strict=True):
            assert (few.event, few.label, few.sample_start, few.sample_end) == (
                whole.event, whole.label, whole.sample_start, whole.sample_end,
            )  # fmt: skip
            assert (few.score, few.peak_score) == pytest.approx((whole.score, whole.peak_score), abs=most / 10)
        for frame, wanted in zip(few_frames, frames, strict=True):
            assert (frame.label, frame.raw_label) == (wanted.label, wanted.raw_label)
            assert frame.confidence == pytest.approx(wanted.confidence, abs=most)
            assert [each.score for each in frame.top[:3]] == pytest.approx(
                [each.score for each in wanted.top[:3]], abs=most
            )
    return len(events)


def thresholds(support: Prototypes) -> dict[str, float]:
    """A few classes that are heard easily, and a few hardly ever."""
    return {name: (0.2, 0.97)[number % 2] for number, name in enumerate(support.names[::7])}


def test_the_demonstration_among_two_hundred_classes(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples, encoder: Encoder
) -> None:
    shipped = store.snapshot.prototypes
    rng = np.random.default_rng(4)
    between = shipped.vectors[rng.integers(0, len(shipped.names), (N_CLASSES - len(shipped.names), 2))].sum(axis=1)
    vectors = np.concatenate([shipped.vectors, between / np.linalg.norm(between, axis=1, keepdims=True)])
    names = (*shipped.names, *(f"between {k}" for k in range(len(between))))
    support = Prototypes(names, vectors.astype(np.float32))
    snapshot = replace(store.snapshot, prototypes=support, thresholds=thresholds(support))
    assert check_same_story(encoder, demonstration, snapshot, Settings()) >= 8


@pytest.mark.recordings
def test_phrases_among_two_hundred_classes_of_clips(recordings: Path, encoder: Encoder) -> None:
    """Each class is three clips of one instrument of one collection, so that many are alike."""
    rate_hz, window = encoder.card.front_end.rate_hz, encoder.card.front_end.window
    with (recordings / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["class"], row["source"], row["path"]))
    groups = itertools.groupby(rows, key=lambda row: f"{row['class']} of {row['source']}")
    parts = {}
    for name, group in groups:
        rest = list(group)
        parts.update({f"{name} {n}": rest[3 * n : 3 * n + 3] for n in range(-(-len(rest) // 3))})
    names = tuple(sorted(parts, key=lambda name: (int(name.rpartition(" ")[2]), name))[:N_CLASSES])
    clips = [
        (k, fit_length(read_mono(recordings / row["path"], rate_hz), window))
        for k, name in enumerate(names)
        for row in parts[name]
    ]
    owner, windows = zip(*clips, strict=True)
    recognizer = Recognizer(encoder)
    embeddings = np.concatenate([recognizer.embed(np.stack(windows[n : n + 32])) for n in range(0, len(windows), 32)])
    support = prototypes(names, embeddings, np.array(owner))
    assert len(names) == N_CLASSES
    snapshot = Snapshot(support, 1, thresholds(support))
    files = sorted((recordings / "solo").glob("*.flac"))[::3]
    n_events = sum(
        check_same_story(
            encoder, read_mono(path, rate_hz)[: 8 * rate_hz], snapshot, Settings(hop_ms=hop_ms, unknown_threshold=0.6)
        )
        for hop_ms, path in zip(itertools.cycle((100, 50)), files)
    )
    assert n_events >= 10
