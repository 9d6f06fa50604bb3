"""The bytes of a support set's file: what is written is read, and what is damaged or made by others is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.conftest import viola_and_tuba

from mird.daemon.errors import ClipError, SupportDamagedError
from mird.daemon.support import Shot, SupportSet, check_class_name
from mird.daemon.support_codec import decode, encode
from mird.daemon.support_set import MAX_CLASSES, MAX_SHOTS

names = st.text(min_size=1, max_size=20).filter(lambda text: acceptable(text))  # noqa: PLW0108 - defined below


def acceptable(name: str) -> bool:
    try:
        return check_class_name(name) == name
    except ClipError:
        return False


@st.composite
def support_sets(draw: st.DrawFn) -> SupportSet:
    n_dims = draw(st.integers(1, 6))
    values = st.floats(width=32, allow_nan=False, allow_infinity=False)
    some_shots = st.lists(
        st.builds(
            Shot,
            st.lists(values, min_size=n_dims, max_size=n_dims).map(lambda row: np.array(row, dtype=np.float32)),
            st.text(max_size=250),
            st.integers(0, 2**63 - 1),
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    ).map(tuple)
    support = SupportSet(draw(st.text(min_size=1, max_size=20).filter(str.isprintable)), n_dims)
    for _ in range(draw(st.integers(0, 6))):
        add = draw(st.sampled_from([support.with_shots, support.corrected]))
        support = add(draw(names), draw(some_shots))
        if draw(st.booleans()):
            threshold = draw(st.none() | st.floats(0.0, 1.0))
            support = support.with_threshold(draw(st.sampled_from(support.names)), threshold)
        if draw(st.booleans()):
            support = support.forgotten(draw(st.sampled_from(support.names)))
        elif (new := draw(names)) not in support.names:
            support = support.renamed(draw(st.sampled_from(support.names)), new)
    return support


@settings(max_examples=100, deadline=None)
@given(support_sets())
def test_what_is_written_is_read(support: SupportSet) -> None:
    assert decode(encode(support)) == support


def test_every_flipped_byte_is_noticed() -> None:
    data = encode(viola_and_tuba().forgotten("tuba"))
    for position in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]
            with pytest.raises(SupportDamagedError):
                decode(damaged)


def test_every_truncation_is_noticed() -> None:
    data = encode(viola_and_tuba())
    for n in range(len(data)):
        with pytest.raises(SupportDamagedError):
            decode(data[:n])
    with pytest.raises(SupportDamagedError):
        decode(data + b"\x00")


@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_the_reader(data: bytes) -> None:
    with pytest.raises(SupportDamagedError):
        decode(data)


def body_of(support: SupportSet) -> dict[str, Any]:
    body: dict[str, Any] = msgpack.unpackb(msgpack.unpackb(encode(support))["body"])
    return body


def sealed(body: object, magic: str = "mird-support", version: int = 2) -> bytes:
    """A file whose checksum fits, whatever its body is."""
    packed = msgpack.packb(body)
    digest = hashlib.sha256(f"mird-support {version} ".encode() + packed).digest()
    data: bytes = msgpack.packb({"magic": magic, "version": version, "sha256": digest, "body": packed})
    return data


def test_the_tests_own_seal_is_the_codecs() -> None:
    assert sealed(body_of(viola_and_tuba())) == encode(viola_and_tuba())


def test_another_magic_and_a_newer_version_are_told_apart() -> None:
    body = body_of(viola_and_tuba())
    with pytest.raises(SupportDamagedError, match="no support set of mird"):
        decode(sealed(body, magic="else"))
    with pytest.raises(SupportDamagedError, match="has version 3, this mird reads version 2; install a newer mird"):
        decode(sealed(body, version=3))


def test_a_file_of_version_1_is_read() -> None:
    """It has neither thresholds nor marks of what was given."""
    body = body_of(viola_and_tuba().forgotten("tuba"))
    for entry in (*body["classes"], *body["history"]):
        del entry["given"], entry["threshold"]
    support = decode(sealed(body, version=1))
    assert support == viola_and_tuba().forgotten("tuba")
    assert support.undone().classes == viola_and_tuba().classes


@pytest.mark.parametrize(
    "change",
    [
        {"n_dims": 0},
        {"n_dims": 1 << 40},
        {"n_dims": "4"},
        {"n_dims": True},
        {"n_dims": 5},
        {"revision": -1},
        {"fingerprint": b"bytes"},
        {"fingerprint": "x" * 300},
        {"classes": {}},
        {"classes": [1]},
        {"classes": [{}]},
        {"classes": [{}] * (MAX_CLASSES + 1)},
        {"history": [{}] * 33},
        {"history": [{"verb": "pickle"}]},
        {"history": None},
    ],
)
def test_a_body_that_is_no_support_set_is_damaged(change: dict[str, Any]) -> None:
    with pytest.raises(SupportDamagedError, match="is damaged"):
        decode(sealed(body_of(viola_and_tuba()) | change))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a/b"},
        {"name": " viola"},
        {"name": "tuba"},
        {"name": 1},
        {"origins": ["one"]},
        {"origins": [1, 2]},
        {"origins": [], "added_utc_ns": [], "embeddings": b""},
        {"added_utc_ns": [0, -1]},
        {"added_utc_ns": [0, 1 << 63]},
        {"embeddings": b"\x00" * 31},
        {"embeddings": b"\x00" * 28 + np.float32(np.nan).tobytes()},
        {"embeddings": "text"},
        {"given": [True]},
        {"given": [1, 0]},
        {"threshold": 1.5},
        {"threshold": float("nan")},
        {"threshold": "high"},
        {"origins": [""] * (MAX_SHOTS + 1), "added_utc_ns": [0] * (MAX_SHOTS + 1), "embeddings": b""},
    ],
)
def test_a_class_that_cannot_be_is_damaged(change: dict[str, Any]) -> None:
    body = body_of(viola_and_tuba())
    body["classes"][0] |= change
    with pytest.raises(SupportDamagedError, match="is damaged"):
        decode(sealed(body))
