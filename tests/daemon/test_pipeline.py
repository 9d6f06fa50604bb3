"""From samples to messages with the shipped encoder: clocks, hops, rates, gaps, channels, and changes meanwhile."""

import itertools
import time
from collections.abc import Iterable

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from mird.daemon.capture import Stream, new_stream
from mird.daemon.heard import Heard
from mird.daemon.message_codec import encode
from mird.daemon.messages import Event, Frame, Level, Message
from mird.daemon.pipeline import Pipeline
from mird.daemon.ring import Chunk, Ring
from mird.daemon.sample_clock import SampleClock
from mird.daemon.settings import Settings
from mird.daemon.support_store import Snapshot, SupportStore
from mird.kernels.recognizer import Recognizer
from mird.kernels.similarity import Prototypes

RATE_HZ = 44_100
Samples = NDArray[np.float32]


def stream_of(rate_hz: int = RATE_HZ, channels: tuple[int, ...] = (1,), clock: SampleClock | None = None) -> Stream:
    ring = Ring(rate_hz, len(channels))
    return new_stream("desk", rate_hz, channels, ring, clock or SampleClock(rate_hz), lossless=False)


def blocks_of(samples: Samples, *sizes: int) -> Iterable[Chunk]:
    """Samples, shape (n,) or (n, n_channels), in blocks of these sizes in turn."""
    columns = samples.reshape(len(samples), -1)
    start = 0
    for size in itertools.cycle(sizes):
        if start >= len(columns):
            return
        yield Chunk(start, columns[start : start + size], 0)
        start += size


def messages_of(
    pipeline: Pipeline, chunks: Iterable[Chunk], snapshot: Snapshot, *, finish: bool = True
) -> list[Message]:
    messages: list[Message] = []
    for chunk in chunks:
        pipeline.push(chunk)
        messages.extend(itertools.chain.from_iterable(pipeline.hops(lambda: snapshot)))
    if finish:
        pipeline.finish()
        messages.extend(itertools.chain.from_iterable(pipeline.hops(lambda: snapshot)))
        messages.extend(pipeline.close())
    for message in messages:
        encode(message)  # the wire format allows it
    return messages


def frames_in(messages: Iterable[Message]) -> list[Frame]:
    return [message for message in messages if isinstance(message, Frame)]


def events_in(messages: Iterable[Message]) -> list[Event]:
    return [message for message in messages if isinstance(message, Event)]


@pytest.mark.parametrize("hop_ms", [20, 33, 100, 377, 1000])
def test_windows_end_at_the_hop_to_the_sample(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples, hop_ms: int
) -> None:
    samples = demonstration[: round(3.5 * RATE_HZ)]
    pipeline = Pipeline(recognizer, stream_of(), Settings(hop_ms=hop_ms))
    messages = messages_of(pipeline, blocks_of(samples, 441, 1_000, 30_000), store.snapshot)
    frames = frames_in(messages)
    hop = round(hop_ms * RATE_HZ / 1000)
    assert [frame.sample_end for frame in frames] == list(range(RATE_HZ, len(samples) + 1, hop))
    assert pipeline.n_hops == len(frames)
    assert all(frame.sample_end - frame.sample_start == RATE_HZ for frame in frames)
    assert {(frame.rate_hz, frame.hop_s, frame.window_s) for frame in frames} == {(RATE_HZ, hop / RATE_HZ, 1.0)}
    levels = [message for message in messages if isinstance(message, Level)]
    assert [level.sample_end for level in levels] == [frame.sample_end for frame in frames]
    newest = samples[RATE_HZ - hop : RATE_HZ]
    assert levels[0].rms_dbfs == pytest.approx(10 * np.log10(np.mean(newest**2)), abs=0.01)
    assert levels[0].peak_dbfs == pytest.approx(20 * np.log10(np.abs(newest).max()), abs=0.01)


@pytest.mark.parametrize("rate_hz", [48_000, 96_000])
def test_another_rate_says_the_same(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples, rate_hz: int
) -> None:
    samples = demonstration[: 14 * RATE_HZ]
    native = messages_of(Pipeline(recognizer, stream_of(), Settings()), blocks_of(samples, 4_410), store.snapshot)
    converted = soxr.resample(samples, RATE_HZ, rate_hz)
    pipeline = Pipeline(recognizer, stream_of(rate_hz), Settings())
    other = messages_of(pipeline, blocks_of(converted, rate_hz // 100), store.snapshot)
    pairs = list(zip(frames_in(native), frames_in(other), strict=True))
    assert [a.sample_end for a, _ in pairs] == [b.sample_end for _, b in pairs]
    same = np.mean([a.label == b.label for a, b in pairs])
    assert same > 0.95
    assert len({a.label for a, _ in pairs}) > 2
    heard, also_heard = ([event.label for event in events_in(messages)] for messages in (native, other))
    assert heard == also_heard


def test_the_size_of_blocks_makes_no_difference(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples
) -> None:
    samples = demonstration[: 3 * RATE_HZ]
    answers = []
    for sizes in ((441,), (RATE_HZ,), (1, 17, 9_999)):
        pipeline = Pipeline(recognizer, stream_of(), Settings())
        frames = frames_in(messages_of(pipeline, blocks_of(samples, *sizes), store.snapshot))
        answers.append([(frame.sample_end, frame.label, frame.top[0].score) for frame in frames])
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 96_000])
def test_a_stream_shorter_than_a_window_is_one_window(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples, rate_hz: int
) -> None:
    samples = soxr.resample(demonstration[: RATE_HZ // 3], RATE_HZ, rate_hz)
    pipeline = Pipeline(recognizer, stream_of(rate_hz), Settings())
    frames = frames_in(messages_of(pipeline, blocks_of(samples, 512), store.snapshot))
    assert [(frame.sample_start, frame.sample_end) for frame in frames] == [(0, RATE_HZ)]


def test_an_empty_stream_says_nothing(recognizer: Recognizer, store: SupportStore) -> None:
    assert messages_of(Pipeline(recognizer, stream_of(), Settings()), (), store.snapshot) == []


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_lost_sound_is_marked_and_the_clock_goes_on(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples, rate_hz: int
) -> None:
    samples = soxr.resample(demonstration[: 6 * RATE_HZ], RATE_HZ, rate_hz)
    first, second = 2 * rate_hz, 2 * rate_hz + rate_hz // 4
    before = list(blocks_of(samples[:first], rate_hz // 10))
    after = [Chunk(second, samples[second : second + rate_hz // 10, None], second - first)]
    after += [
        Chunk(at, samples[at : at + rate_hz // 10, None], 0)
        for at in range(second + rate_hz // 10, len(samples), rate_hz // 10)
    ]
    pipeline = Pipeline(recognizer, stream_of(rate_hz), Settings())
    frames = frames_in(messages_of(pipeline, [*before, *after], store.snapshot))
    assert [frame.sample_end for frame in frames] == list(range(RATE_HZ, 6 * RATE_HZ + 1, 4_410))
    n_lost = RATE_HZ // 4
    for frame in frames:
        shared = min(frame.sample_end, 2 * RATE_HZ + n_lost) - max(frame.sample_start, 2 * RATE_HZ)
        assert frame.n_gap_frames == pytest.approx(max(0, shared), abs=2)
    assert max(frame.n_gap_frames for frame in frames) == pytest.approx(n_lost, abs=2)


def test_a_long_loss_is_not_filled_with_hops(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples
) -> None:
    lost = Chunk(60 * RATE_HZ, demonstration[: 2 * RATE_HZ, None], 59 * RATE_HZ)
    pipeline = Pipeline(recognizer, stream_of(), Settings())
    chunks = [*blocks_of(demonstration[:RATE_HZ], RATE_HZ), lost]
    frames = frames_in(messages_of(pipeline, chunks, store.snapshot))
    assert len(frames) < 30
    assert frames[-1].sample_end > 62 * RATE_HZ - 4_410
    assert frames[-1].n_gap_frames == 0


def test_a_live_source_that_is_too_fast_is_followed_and_says_so(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples
) -> None:
    pipeline = Pipeline(recognizer, stream_of(), Settings())
    for chunk in blocks_of(demonstration[: 2 * RATE_HZ], RATE_HZ):
        pipeline.push(chunk)
    assert pipeline.n_wanted() == 1
    pipeline.catch_up(20)
    assert pipeline.n_hops_skipped == 0
    pipeline.catch_up(2)
    frames = frames_in(itertools.chain.from_iterable(pipeline.hops(lambda: store.snapshot)))
    assert [(frame.sample_end, frame.degraded) for frame in frames] == [(2 * RATE_HZ, True)]
    assert (pipeline.n_hops, pipeline.n_hops_skipped) == (1, 10)
    assert pipeline.n_wanted() == 4_410
    pipeline.push(Chunk(2 * RATE_HZ, demonstration[:4_410, None], 0))
    pipeline.catch_up(2)
    frames = frames_in(itertools.chain.from_iterable(pipeline.hops(lambda: store.snapshot)))
    assert [frame.degraded for frame in frames] == [False]


def test_digital_silence_is_an_answer(recognizer: Recognizer, store: SupportStore) -> None:
    silence = np.zeros(2 * RATE_HZ, np.float32)
    messages = messages_of(Pipeline(recognizer, stream_of(), Settings()), blocks_of(silence, 4_410), store.snapshot)
    frames = frames_in(messages)
    assert {(frame.label, frame.raw_label, frame.confidence) for frame in frames} == {("silence", "silence", 1.0)}
    assert {frame.level_dbfs for frame in frames} == {-200.0}
    assert not events_in(messages)


def test_without_a_class_everything_is_unknown(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples
) -> None:
    n_dims = store.snapshot.prototypes.vectors.shape[1]
    empty = Snapshot(Prototypes((), np.zeros((0, n_dims), np.float32)), 0)
    pipeline = Pipeline(recognizer, stream_of(), Settings())
    frames = frames_in(messages_of(pipeline, blocks_of(demonstration[: 2 * RATE_HZ], 4_410), empty))
    assert {frame.label for frame in frames} == {"unknown"}
    assert {frame.top for frame in frames} == {()}


def test_each_channel_has_its_own_answer(recognizer: Recognizer, store: SupportStore, demonstration: Samples) -> None:
    """The same sound alone and beside others: whatever is on the other channels, the answer is the same."""
    n = 3 * RATE_HZ
    sounds = [demonstration[:n], demonstration[5 * RATE_HZ :][:n], np.zeros(n, np.float32)]
    together = messages_of(
        Pipeline(recognizer, stream_of(channels=(7, 2, 4)), Settings()),
        blocks_of(np.stack(sounds, axis=-1), 4_410),
        store.snapshot,
    )
    for channel, sound in zip((7, 2, 4), sounds, strict=True):
        alone = messages_of(Pipeline(recognizer, stream_of(), Settings()), blocks_of(sound, 4_410), store.snapshot)
        ours = [frame for frame in frames_in(together) if frame.channel == channel]
        assert [frame.label for frame in ours] == [frame.label for frame in frames_in(alone)]
        for mine, its in zip(ours, frames_in(alone), strict=True):
            assert mine.confidence == pytest.approx(its.confidence, abs=1e-3)
    assert len({frame.label for frame in frames_in(together)}) >= 3


def test_a_change_of_the_support_set_counts_from_the_next_hop(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples
) -> None:
    pipeline = Pipeline(recognizer, stream_of(), Settings(top_k=100))
    pipeline.push(Chunk(0, demonstration[: round(1.25 * RATE_HZ), None], 0))
    seen = []
    for messages in pipeline.hops(lambda: store.snapshot):
        (frame,) = frames_in(messages)
        seen.append((frame.revision, "mine" in {score.label for score in frame.top}))
        if len(seen) == 1:
            store.enroll("mine", demonstration[None, :RATE_HZ], "clip.wav")
    revision = seen[0][0]
    assert seen == [(revision, False), (revision + 1, True), (revision + 1, True)]


def test_events_tell_the_same_story_as_frames(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples
) -> None:
    pipeline = Pipeline(recognizer, stream_of(), Settings())
    messages = messages_of(pipeline, blocks_of(demonstration[: 11 * RATE_HZ], 4_410), store.snapshot)
    events = events_in(messages)
    starts = {event.event_id: event for event in events if event.event == "start"}
    ends = {event.event_id: event for event in events if event.event == "end"}
    assert starts.keys() == ends.keys()
    assert len(starts) >= 2
    for event_id, end in ends.items():
        assert end.sample_end is not None
        assert 0 <= end.sample_start < end.sample_end <= 11 * RATE_HZ
        assert end.sample_start == starts[event_id].sample_start
        assert end.label == starts[event_id].label
        assert end.end_utc_ns is not None
        heard_s = (end.sample_end - end.sample_start) / RATE_HZ
        assert (end.end_utc_ns - end.start_utc_ns) / 1e9 == pytest.approx(heard_s, abs=1e-6)
        assert end.start_utc_ns == starts[event_id].start_utc_ns
    for frame in frames_in(messages):
        if frame.label not in ("silence", "unknown"):
            running = [
                event.label
                for event in ends.values()
                if event.sample_start < frame.sample_end <= (event.sample_end or 0) + 35_000
            ]
            assert frame.label in running


def test_latency_counts_from_the_capture_of_the_last_sample(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples
) -> None:
    clock = SampleClock(RATE_HZ)
    began_ns, began_utc_ns = time.monotonic_ns(), time.time_ns()
    clock.mark(0, began_ns)
    stream = stream_of(clock=clock)
    pipeline = Pipeline(recognizer, stream, Settings())
    while time.monotonic_ns() - began_ns < 1_050_000_000:  # the time that a second of sound takes to be captured
        time.sleep(0.01)
    frames = frames_in(
        messages_of(pipeline, [Chunk(0, demonstration[:RATE_HZ, None], 0)], store.snapshot, finish=False)
    )
    passed_ms = (time.monotonic_ns() - began_ns) / 1e6
    (frame,) = frames
    assert 50.0 <= frame.latency_ms <= passed_ms - 1_000.0
    assert (frame.capture_utc_ns - began_utc_ns) / 1e9 == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.0, 1.15])
def test_a_single_note_has_an_event_from_its_first_sound(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples, seconds: float
) -> None:
    n = round(seconds * RATE_HZ)
    first = int(np.flatnonzero(demonstration)[0])
    note = demonstration[first : first + n]
    start, end = events_in(
        messages_of(Pipeline(recognizer, stream_of(), Settings()), blocks_of(note, 1000), store.snapshot)
    )
    assert (start.event, start.sample_start, start.label) == ("start", 0, "piano")
    assert (end.event, end.sample_start, end.sample_end, end.label) == ("end", 0, n, "piano")


def test_the_first_event_begins_where_the_sound_does(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples
) -> None:
    n_silent = round(0.4 * RATE_HZ)
    sound = np.concatenate([np.zeros(n_silent, np.float32), demonstration[RATE_HZ // 2 : 3 * RATE_HZ]])
    events = events_in(
        messages_of(Pipeline(recognizer, stream_of(), Settings()), blocks_of(sound, 4_410), store.snapshot)
    )
    assert abs(events[0].sample_start - n_silent) <= RATE_HZ // 50


def heard_of(stream: Stream, recognizer: Recognizer) -> Heard:
    n_dims = len(recognizer.card.head.gamma)
    return Heard(stream.stream_id, stream.source, stream.channels, RATE_HZ, 1.0, n_dims)


def test_what_is_heard_is_kept_for_whoever_enrols_or_corrects(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples
) -> None:
    stream = stream_of(channels=(3,))
    heard = heard_of(stream, recognizer)
    pipeline = Pipeline(recognizer, stream, Settings(), heard)
    samples = demonstration[: 5 * RATE_HZ]
    messages = messages_of(pipeline, blocks_of(samples, 4_410), store.snapshot)
    assert np.array_equal(heard.sound(3, 5.0), samples)
    last = frames_in(messages)[-1]
    (level,) = heard.levels()
    assert (level.channel, level.label, level.confidence) == (3, last.label, last.confidence)
    for event in (each for each in events_in(messages) if each.event == "end"):
        stretch = heard.stretch(None, event.event_id, 5)
        assert (stretch.label, stretch.channel) == (event.label, 3)
        scores = recognizer.compare(stretch.embeddings, store.snapshot.prototypes)
        assert event.label in {store.snapshot.prototypes.names[best] for best in scores.argmax(axis=1)}
        assert stretch.end_s == pytest.approx((event.sample_end or 0) / RATE_HZ, abs=1e-4)


def test_lost_sound_is_silence_in_what_is_kept_too(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples
) -> None:
    stream = stream_of()
    heard = heard_of(stream, recognizer)
    pipeline = Pipeline(recognizer, stream, Settings(), heard)
    chunks = [
        Chunk(0, demonstration[: 2 * RATE_HZ, None], 0),
        Chunk(3 * RATE_HZ, demonstration[3 * RATE_HZ : 4 * RATE_HZ, None], RATE_HZ),
    ]
    messages_of(pipeline, chunks, store.snapshot, finish=False)
    kept = heard.sound(1, 4.0)
    assert not kept[2 * RATE_HZ : 3 * RATE_HZ].any()
    assert np.array_equal(kept[3 * RATE_HZ :], demonstration[3 * RATE_HZ : 4 * RATE_HZ])


def test_thresholds_and_gates_are_in_force_from_the_next_hop(
    recognizer: Recognizer, store: SupportStore, demonstration: Samples
) -> None:
    settings = Settings(smoothing_ms=0, hold_ms=0, release_ms=0)
    pipeline = Pipeline(recognizer, stream_of(), settings)

    def label(at_s: float, snapshot: Snapshot) -> str:
        first = round(at_s * RATE_HZ)
        pipeline.push(Chunk(first, demonstration[first : first + 4_410, None], 0))
        return [frame.label for messages in pipeline.hops(lambda: snapshot) for frame in frames_in(messages)][-1]

    for tenth in range(20):
        pipeline.push(Chunk(4_410 * tenth, demonstration[4_410 * tenth : 4_410 * (tenth + 1), None], 0))
    assert label(2.0, store.snapshot) == "piano"
    store.set_threshold("piano", 1.0)
    assert label(2.1, store.snapshot) == "unknown"
    store.set_threshold("piano", None)
    assert label(2.2, store.snapshot) == "piano"
    pipeline.tune(settings, {1: -0.5})
    assert label(2.3, store.snapshot) == "silence"
    pipeline.tune(settings, {2: -0.5})
    assert label(2.4, store.snapshot) == "piano"
    pipeline.tune(settings.model_copy(update={"unknown_threshold": 1.0}), {})
    assert label(2.5, store.snapshot) == "unknown"
