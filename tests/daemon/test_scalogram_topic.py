"""The scalogram's topic: its format, what it shows, who gets it, and that it costs nothing while nobody looks."""

import base64
import dataclasses
import itertools
import json
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import jsonschema
import msgpack
import numpy as np
import pytest
import referencing
import zmq
from numpy.typing import NDArray

from mird.daemon.capture import new_stream
from mird.daemon.message_codec import decode, decode_scalogram, encode, to_map
from mird.daemon.messages import Level, MessageError, Scalogram, scalogram_topic
from mird.daemon.pipeline import Pipeline
from mird.daemon.publisher import Publisher
from mird.daemon.ring import Chunk, Ring
from mird.daemon.sample_clock import SampleClock
from mird.daemon.scalogram_columns import EDGE_S, FLOOR_DB, STEP_DB, to_bytes
from mird.daemon.settings import Settings
from mird.daemon.support_store import SupportStore
from mird.kernels.recognizer import Recognizer

GOLDEN = Path(__file__).parent.parent / "golden"
RATE_HZ = 44_100
COLUMN = RATE_HZ / 112
Samples = NDArray[np.float32]

MESSAGE = Scalogram(
    source="usb-audio",
    channel=2,
    stream_id="5f0c1a2b3c4d5e6f",
    seq=41,
    run_id="00112233445566aa",
    t_mono_ns=86_400_000_000_123,
    t_utc_ns=1_767_225_600_000_000_456,
    sample_start=170_100,
    sample_end=174_825,
    rate_hz=RATE_HZ,
    n_rows=4,
    n_columns=3,
    highest_hz=16_000.0,
    lowest_hz=62.5,
    spacing="log",
    floor_db=-100.0,
    step_db=0.5,
    levels=bytes([0, 10, 200, 30, 0, 12, 201, 28, 1, 15, 199, 25]),
)


def _schema() -> jsonschema.Draft202012Validator:
    schemas = [json.loads(files("mird.configs").joinpath(f"schema/{name}.schema.json").read_text(encoding="utf-8"))
               for name in ("mird-1", "mird-scalogram-1")]  # fmt: skip
    resources = [(each["$id"], referencing.Resource.from_contents(each)) for each in schemas]
    registry: referencing.Registry[dict[str, object]] = referencing.Registry().with_resources(resources)
    validator = jsonschema.Draft202012Validator(schemas[1], registry=registry)
    fields = [field.name for field in dataclasses.fields(Scalogram)]
    assert sorted(schemas[1]["required"]) == sorted(["schema", "kind", *fields])
    return validator


def _json_values(message: Scalogram) -> dict[str, object]:
    return {**to_map(message), "levels": base64.b64encode(message.levels).decode()}


def test_the_golden_message_both_ways() -> None:
    payload = (GOLDEN / "scalogram.msgpack").read_bytes()
    assert encode(MESSAGE) == (b"mird-scalogram/1/usb-audio/2/", payload)
    assert decode_scalogram(payload) == MESSAGE
    values = json.loads((GOLDEN / "scalogram.json").read_text(encoding="utf-8"))
    assert _json_values(MESSAGE) == values
    _schema().validate(values)


def test_each_reader_refuses_the_other_kind() -> None:
    level = Level(source="desk", channel=1, stream_id="s", sample_end=0, rms_dbfs=-20.0, peak_dbfs=-6.0)
    with pytest.raises(MessageError, match="kind: 'scalogram' is not one of frame"):
        decode(encode(MESSAGE)[1])
    with pytest.raises(MessageError, match="kind: 'level' is not one of scalogram"):
        decode_scalogram(encode(level)[1])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("levels", b"abc", "levels: 3 bytes, not 4 x 3"),
        ("levels", "text", "field levels: str 'text' is not bytes"),
        ("n_rows", 0, "n_rows: 0 is not from 1"),
        ("n_columns", 2**40, "n_columns: 1099511627776 is not from 1"),
        ("spacing", "mel", "spacing: str 'mel' is not one of log, linear"),
        ("floor_db", float("nan"), "floor_db: nan is not finite"),
    ],
)
def test_a_bad_field_is_named(name: str, value: object, reason: str) -> None:
    with pytest.raises(MessageError, match=reason):
        decode_scalogram(msgpack.packb({**to_map(MESSAGE), name: value}))


def _pictures(recognizer: Recognizer, store: SupportStore, samples: Samples, hop_ms: int = 100) -> list[Scalogram]:
    """What is published of samples, shape (n,) or (n, n_channels), to somebody who looks at everything."""
    columns = samples.reshape(len(samples), -1)
    channels = tuple(range(1, columns.shape[1] + 1))
    stream = new_stream(
        "desk", RATE_HZ, channels, Ring(RATE_HZ, len(channels)), SampleClock(RATE_HZ), lossless=False
    )  # fmt: skip
    pipeline = Pipeline(recognizer, stream, Settings(hop_ms=hop_ms))
    pictures: list[Scalogram] = []
    for start in range(0, len(columns), 1_000):
        pipeline.push(Chunk(start, columns[start : start + 1_000], 0))
        for _ in pipeline.hops(lambda: store.snapshot):
            pictures.extend(pipeline.scalograms(lambda topic: topic.startswith(b"mird-scalogram/1/desk/")))
    for picture in pictures:
        encode(picture)
    return pictures


@pytest.mark.parametrize("frequency_hz", [110.0, 440.0, 3_520.0])
def test_a_tone_stands_at_its_frequency_and_level(
    recognizer: Recognizer, store: SupportStore, frequency_hz: float
) -> None:
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    pictures = _pictures(recognizer, store, (0.1 * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32))
    assert len(pictures) == 11
    for picture in pictures:
        levels = np.frombuffer(picture.levels, np.uint8).reshape(picture.n_columns, picture.n_rows)
        rows_hz = np.geomspace(picture.highest_hz, picture.lowest_hz, picture.n_rows)
        assert rows_hz[levels.argmax(axis=1)] == pytest.approx(frequency_hz, rel=0.03)
        loudest_db = picture.floor_db + picture.step_db * levels.max(axis=1)
        assert loudest_db == pytest.approx(-20.0, abs=0.6)


def test_the_frequencies_are_evenly_spaced_as_the_message_says(recognizer: Recognizer) -> None:
    rows_hz = recognizer.frequencies_hz
    assert np.geomspace(rows_hz[0], rows_hz[-1], len(rows_hz)) == pytest.approx(rows_hz, rel=1e-6)


@pytest.mark.parametrize("hop_ms", [20, 100, 377, 1000])
def test_columns_follow_one_another_without_a_gap(recognizer: Recognizer, store: SupportStore, hop_ms: int) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 4 * RATE_HZ).astype(np.float32)
    pictures = _pictures(recognizer, store, noise, hop_ms)
    for before, after in itertools.pairwise(pictures):
        assert before.sample_end - COLUMN - 2 < after.sample_start <= before.sample_end + 1
    for picture in pictures:
        assert (picture.sample_end - picture.sample_start) / picture.n_columns == pytest.approx(COLUMN, abs=1)
    edge_s = EDGE_S if hop_ms < 1000 else 0.0
    assert pictures[0].sample_end == pytest.approx(RATE_HZ * (1 - edge_s), abs=COLUMN)


def test_a_click_stands_where_it_was(recognizer: Recognizer, store: SupportStore) -> None:
    samples = np.zeros(2 * RATE_HZ, np.float32)
    samples[60_000] = 0.9
    levels: list[float] = []
    starts: list[float] = []
    for picture in _pictures(recognizer, store, samples):
        part = np.frombuffer(picture.levels, np.uint8).reshape(picture.n_columns, picture.n_rows)
        levels.extend(part[:, :24].mean(axis=1))
        starts.extend(np.linspace(picture.sample_start, picture.sample_end, picture.n_columns, endpoint=False))
    assert starts[int(np.argmax(levels))] == pytest.approx(60_000, abs=COLUMN)


def test_a_silent_channel_is_black_and_no_other_stands_in_its_place(
    recognizer: Recognizer, store: SupportStore
) -> None:
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    samples = np.zeros((len(t), 3), np.float32)
    samples[:, 1] = 0.1 * np.sin(2 * np.pi * 440 * t)
    pictures = _pictures(recognizer, store, samples)
    assert [picture.channel for picture in pictures] == [1, 2, 3] * 11
    assert all(any(picture.levels) == (picture.channel == 2) for picture in pictures)


def test_levels_in_bytes() -> None:
    magnitudes = np.array([0.0, 1e-9, 1e-5, 0.1, 1.0, 100.0], np.float32)
    assert list(to_bytes(magnitudes)) == [0, 0, 0, 200, 250, 255]
    assert FLOOR_DB + STEP_DB * 250 == 0.0


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher("tcp://127.0.0.1:*") as each:
        yield each


def _until(publisher: Publisher, *, wanted: bool) -> None:
    deadline_s = time.monotonic() + 5
    while publisher.has_subscriber(scalogram_topic("desk", 1)) is not wanted:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
        publisher.service()


def test_who_takes_all_messages_neither_gets_pictures_nor_makes_them(publisher: Publisher) -> None:
    picture = dataclasses.replace(MESSAGE, source="desk", channel=1)
    with zmq.Context() as context, context.socket(zmq.SUB) as everything, context.socket(zmq.SUB) as viewer:
        for socket in (everything, viewer):
            socket.linger = 0
            socket.rcvtimeo = 5000
            socket.connect(publisher.endpoint)
        everything.subscribe(b"mird/1/")
        while publisher.n_subscribers < 2 or not publisher.has_subscriber(b"mird/1/"):
            time.sleep(0.005)
            publisher.service()
        assert not publisher.has_subscriber(scalogram_topic("desk", 1))
        viewer.subscribe(b"mird-scalogram/1/")
        _until(publisher, wanted=True)
        publisher.publish(picture)
        assert decode_scalogram(viewer.recv_multipart()[1]).levels == picture.levels
        assert not everything.poll(50)
        viewer.unsubscribe(b"mird-scalogram/1/")
        _until(publisher, wanted=False)
        assert not publisher.has_subscriber(scalogram_topic("desk", 1))


def test_the_pictures_of_a_hop_cost_under_a_twentieth_of_it(
    recognizer: Recognizer, store: SupportStore, publisher: Publisher, demonstration: Samples
) -> None:
    """CPU time of what a subscriber adds to each hop, beside the hop's own; medians, so that a busy machine is none."""
    stream = new_stream("desk", RATE_HZ, (1,), Ring(RATE_HZ, 1), SampleClock(RATE_HZ), lossless=False)
    pipeline = Pipeline(recognizer, stream, Settings())
    hop_s, picture_s = [], []
    with zmq.Context() as context, context.socket(zmq.SUB) as viewer:
        viewer.linger = 0
        viewer.connect(publisher.endpoint)
        viewer.subscribe(b"mird-scalogram/1/")
        _until(publisher, wanted=True)
        for start in range(0, 10 * RATE_HZ, 4_410):
            pipeline.push(Chunk(start, demonstration[start : start + 4_410, None], 0))
            began_s = time.thread_time()
            for messages in pipeline.hops(lambda: store.snapshot):
                for message in messages:
                    publisher.publish(message)
            hop_s.append(time.thread_time() - began_s)
            began_s = time.thread_time()
            for picture in pipeline.scalograms(publisher.has_subscriber):
                publisher.publish(picture)
            picture_s.append(time.thread_time() - began_s)
            while viewer.poll(0):
                viewer.recv_multipart()
    assert np.median(picture_s[20:]) < 0.05 * np.median(hop_s[20:])
    assert np.median(picture_s[20:]) < 0.05 * 0.1
