"""The wire format against its golden messages and its JSON Schema, and against whatever else may come."""

import dataclasses
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mird.daemon.message_codec import decode, encode, from_map, to_map
from mird.daemon.messages import (
    FLOOR_DBFS,
    KINDS,
    MAX_PAYLOAD_BYTES,
    Event,
    Frame,
    Heartbeat,
    Level,
    Message,
    MessageError,
    Score,
    State,
)

GOLDEN = Path(__file__).parent.parent / "golden"

HEADER: dict[str, Any] = {
    "source": "usb-audio",
    "stream_id": "5f0c1a2b3c4d5e6f",
    "run_id": "00112233445566aa",
    "t_mono_ns": 86_400_000_000_123,
    "t_utc_ns": 1_767_225_600_000_000_456,
}

FRAME = Frame(
    **HEADER,
    channel=2,
    seq=41,
    sample_start=132_300,
    sample_end=176_400,
    rate_hz=44_100,
    capture_utc_ns=1_767_225_599_990_000_000,
    latency_ms=10.25,
    hop_s=0.1,
    window_s=1.0,
    label="cor anglais",
    confidence=0.875,
    raw_label="unknown",
    raw_confidence=0.5,
    top=(Score("cor anglais", 0.875), Score("Flöte", 0.25), Score("琵琶", 0.0)),
    level_dbfs=-18.5,
    engine="onnxruntime:light",
    revision=3,
    degraded=False,
    n_gap_frames=0,
)

START = Event(
    **HEADER,
    channel=2,
    event="start",
    event_id="a1b2c3",
    label="cor anglais",
    sample_start=132_300,
    sample_end=None,
    start_utc_ns=1_767_225_599_000_000_000,
    end_utc_ns=None,
    score=0.75,
    peak_score=0.75,
    rate_hz=44_100,
)

MESSAGES: dict[str, Message] = {
    "frame": FRAME,
    "frame-silence": dataclasses.replace(
        FRAME, label="silence", confidence=1.0, raw_label="silence", top=(), level_dbfs=FLOOR_DBFS, degraded=True, seq=0
    ),
    "event-start": START,
    "event-start-replay": dataclasses.replace(START, replay=True),
    "event-end": dataclasses.replace(
        START,
        event="end",
        seq=1,
        sample_end=220_500,
        end_utc_ns=1_767_225_601_000_000_000,
        peak_score=0.9375,
        clip="20260101T000000.000Z-2-cor_anglais-a1b2c3.flac",
    ),
    "level": Level(**HEADER, channel=1, seq=7, sample_end=176_400, rms_dbfs=-23.0, peak_dbfs=-12.5),
    "state-live": State(
        **HEADER,
        channel=0,
        seq=2,
        state="LIVE",
        detail="Scarlett 2i2, 48000 Hz, channels 1 and 2",
        version="0.1.0",
        engine="onnxruntime:light",
        fingerprint="sha256:0123456789abcdef",
        classes=("cor anglais", "Flöte", "琵琶"),
        revision=3,
        channels=(1, 2),
        hop_s=0.1,
        window_s=1.0,
        counters={"n_hops": 41, "n_overflows": 0},
    ),
    "state-waiting": State(
        **{**HEADER, "stream_id": ""},
        channel=0,
        state="WAITING",
        detail="no input device matches 'Scarlett'; trying again in 2 s",
        version="0.1.0",
        engine="onnxruntime:light",
        fingerprint="sha256:0123456789abcdef",
        classes=(),
        revision=0,
        channels=(),
        hop_s=0.1,
        window_s=1.0,
        counters={},
    ),
    "hb": Heartbeat(
        **HEADER,
        channel=0,
        seq=60,
        uptime_s=60.5,
        counters={"n_hops": 41, "n_hops_skipped": 0, "n_overflows": 0, "n_gaps": 0, "n_lost_frames": 0, "n_opens": 1},
        latency_p50_ms=11.5,
        latency_p99_ms=19.25,
    ),
    "hb-first": Heartbeat(**HEADER, channel=0, uptime_s=0.0, counters={}, latency_p50_ms=None, latency_p99_ms=None),
}

ADDED: dict[type[Any], tuple[str, ...]] = {Event: ("clip",), State: ("degraded",), Heartbeat: ("degraded",)}
"""Fields that came after the first messages of version 1."""

SCHEMA = json.loads(files("mird.configs").joinpath("schema/mird-1.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_golden_folder_has_these_messages_and_every_kind() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        f"{name}.{form}" for name in (*MESSAGES, "scalogram") for form in ("json", "msgpack")
    }
    assert {message.kind for message in MESSAGES.values()} == set(KINDS)


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_messages_both_ways(name: str) -> None:
    message = MESSAGES[name]
    payload = (GOLDEN / f"{name}.msgpack").read_bytes()
    values = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert encode(message) == (message.topic(), payload)
    assert to_map(message) == values
    assert list(to_map(message)) == list(values)
    assert decode(payload) == message
    assert from_map(values) == message
    VALIDATOR.validate(values)


def test_the_schema_is_one_and_requires_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for message_type in (Frame, Event, Level, State, Heartbeat):
        required = SCHEMA["required"] + SCHEMA["$defs"][message_type.kind]["required"]
        fields = [field.name for field in dataclasses.fields(message_type)]
        assert sorted([*required, *ADDED.get(message_type, ())]) == sorted(["schema", "kind", *fields])


@pytest.mark.parametrize("name", ["event-start", "state-live", "hb"])
def test_what_was_added_later_may_be_missing(name: str) -> None:
    values = to_map(MESSAGES[name])
    added = ADDED[type(MESSAGES[name])]
    without = {key: value for key, value in values.items() if key not in added}
    assert len(without) < len(values)
    assert from_map(without) == MESSAGES[name]
    VALIDATOR.validate(without)


def test_topics() -> None:
    assert FRAME.topic() == b"mird/1/usb-audio/2/frame/"
    assert MESSAGES["state-live"].topic() == b"mird/1/usb-audio/0/state/"
    assert MESSAGES["hb"].topic() == b"mird/1/usb-audio/0/hb/"


def test_unknown_keys_are_ignored() -> None:
    values = {**to_map(FRAME), "clip_id": "later", "more": {"than": ["we", "know"]}}
    values["top"] = [{**row, "rank": 1} for row in values["top"]]
    VALIDATOR.validate(values)
    assert decode(msgpack.packb(values)) == FRAME


def test_a_whole_number_may_stand_for_a_float() -> None:
    values = {**to_map(FRAME), "confidence": 1, "window_s": 1}
    assert decode(msgpack.packb(values)) == dataclasses.replace(FRAME, confidence=1.0)


def test_numpy_numbers_are_written_as_plain_ones() -> None:
    message = dataclasses.replace(
        FRAME,
        confidence=np.float32(0.5),  # type: ignore[arg-type]
        level_dbfs=np.float64(-18.5),
        sample_end=np.int64(176_400),  # type: ignore[arg-type]
    )
    assert decode(encode(message)[1]) == dataclasses.replace(FRAME, confidence=0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["confidence", "raw_confidence", "latency_ms", "hop_s", "window_s"])
def test_what_is_not_finite_is_never_written(name: str, value: float) -> None:
    with pytest.raises(MessageError, match=f"^frame message, field {name}: "):
        encode(dataclasses.replace(FRAME, **{name: value}))  # type: ignore[arg-type]
    with pytest.raises(MessageError, match=f"^frame message, field {name}: "):
        decode(msgpack.packb({**to_map(FRAME), name: value}))


def test_levels_and_scores_at_their_limits() -> None:
    with pytest.raises(MessageError, match="level_dbfs: nan is not finite"):
        encode(dataclasses.replace(FRAME, level_dbfs=math.nan))
    assert to_map(dataclasses.replace(FRAME, level_dbfs=-math.inf))["level_dbfs"] == FLOOR_DBFS
    assert to_map(dataclasses.replace(FRAME, confidence=1.0 + 1e-7))["confidence"] == 1.0
    with pytest.raises(MessageError, match=r"top: score: 1.5 is not from 0 to 1"):
        encode(dataclasses.replace(FRAME, top=(Score("viola", 1.5),)))


def test_a_detail_becomes_one_line() -> None:
    state = MESSAGES["state-live"]
    assert isinstance(state, State)
    detail = to_map(dataclasses.replace(state, detail="two\nlines\x1b[31m" + "x" * 600))["detail"]
    assert detail.startswith("two lines [31mxxx")
    assert len(detail) == 500
    assert detail.endswith("…")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("schema", 2, "field schema: '2', this reader knows 1"),
        ("schema", True, "field schema: 'True'"),
        ("kind", "columns", "field kind: 'columns' is not one of frame, event, level, state, hb"),
        ("kind", ["frame"], "field kind: "),
        ("source", "a/b", "frame message, field source: str 'a/b' has characters that cannot be here"),
        ("source", "", "field source: 0 characters, not 1 to 128"),
        ("label", "x" * 65, "field label: 65 characters, not 1 to 64"),
        ("label", "a\nb", "field label: str 'a\\\\nb' has characters that cannot be here"),
        ("label", b"viola", "field label: bytes … is not text"),
        ("channel", -1, "field channel: -1 is not from 0 to 65535"),
        ("channel", True, "field channel: bool True is not a whole number"),
        ("seq", 1.5, "field seq: float 1.5 is not a whole number"),
        ("seq", 2**63, "field seq: 9223372036854775808 is not from 0 to"),
        ("replay", 1, "field replay: int 1 is neither true nor false"),
        ("confidence", "high", "field confidence: str 'high' is not a number"),
        ("confidence", 1.0001, r"field confidence: 1.0001 is not from 0 to 1"),
        ("top", {}, "field top: dict … is not a list"),
        ("top", [["viola", 0.5]], "field top: list … is not a map"),
        ("top", [{"label": "viola"}], "field top: score: is missing"),
    ],
)
def test_a_bad_field_is_named(name: str, value: object, reason: str) -> None:
    values = {**to_map(FRAME), name: value}
    with pytest.raises(MessageError, match=reason):
        decode(msgpack.packb(values))
    assert not VALIDATOR.is_valid(values)


@pytest.mark.parametrize("name", ["schema", "kind", "source", "seq", "label", "top"])
def test_a_missing_field_is_named(name: str) -> None:
    values = to_map(FRAME)
    del values[name]
    assert not VALIDATOR.is_valid(values)
    with pytest.raises(MessageError, match=f"field {name}: "):
        decode(msgpack.packb(values))


def test_an_end_has_its_time_and_a_start_has_none() -> None:
    end = to_map(MESSAGES["event-end"])
    for values in ({**end, "sample_end": None}, {**end, "end_utc_ns": None}, {**end, "event": "start"}):
        assert not VALIDATOR.is_valid(values)
        with pytest.raises(MessageError, match="sample_end"):
            from_map(values)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"\x80\x80",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\xdd\x00\x00\x0f\xff" * 200_000,
        b"\x81\x91\x00\x00",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xc7\xff\x05" + bytes(255),
        b"\xd9\x02\xff\xff",
        b"\xc0",
        b"\x01",
        bytes(MAX_PAYLOAD_BYTES + 1),
        msgpack.packb(list(to_map(FRAME).items())),
    ],
)
def test_hostile_payloads(payload: bytes) -> None:
    with pytest.raises(MessageError):
        decode(payload)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused(payload: bytes) -> None:
    with pytest.raises(MessageError):
        decode(payload)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=70)
    | st.sampled_from(["start", "end", "LIVE", "a/b", "\x7f", "\n", "", "frame", "hb"])
    | st.sampled_from([-1, 0, 1, 200, 65_535, 65_536, 10_000_000, 10_000_001, 2**63 - 1, 2**63, 0.0, 1.0, 1.5, -200.5])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def _has_whole_float(value: Any) -> bool:
    """Whether there is a 1.0, which JSON Schema takes for an integer and msgpack does not."""
    if isinstance(value, dict):
        return any(_has_whole_float(each) for each in value.values())
    if isinstance(value, list):
        return any(_has_whole_float(each) for each in value)
    return isinstance(value, float) and value.is_integer()


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(sorted(MESSAGES)), data=st.data())
def test_decode_accepts_what_the_schema_accepts(name: str, data: st.DataObject) -> None:
    values = to_map(MESSAGES[name])
    field = data.draw(st.sampled_from(sorted(values)))
    if data.draw(st.integers(0, 9)) == 0:
        del values[field]
    else:
        value = data.draw(VALUES.filter(lambda each: not _has_whole_float(each)))
        if isinstance(values[field], list) and data.draw(st.booleans()):
            value = [*values[field], value]
        if isinstance(values[field], dict) and data.draw(st.booleans()):
            value = {**values[field], data.draw(st.text(max_size=66)): value}
        values[field] = value
    payload = msgpack.packb(values)
    try:
        decode(payload)
    except MessageError as error:
        reason = str(error)
        accepted = False
    else:
        reason = ""
        accepted = True
    assert VALIDATOR.is_valid(values) == accepted, reason
    if accepted:
        message = decode(payload)
        assert decode(encode(message)[1]) == message


@settings(max_examples=400)
@given(name=st.sampled_from(sorted(MESSAGES)), data=st.data())
def test_a_damaged_payload_is_a_message_or_an_error(name: str, data: st.DataObject) -> None:
    payload = bytearray(encode(MESSAGES[name])[1])
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    for damaged in (bytes(payload), bytes(payload[:cut])):
        try:
            message = decode(damaged)
        except MessageError:
            continue
        VALIDATOR.validate(to_map(message))
