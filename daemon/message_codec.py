"""Messages as bytes and back: msgpack maps whose every field is checked, when it is written and when it is read.

What a message may say is in :mod:`mird.daemon.messages`. Whoever sent it, nothing of it is taken before its size, its
version, its kind and all of its fields are right.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgpack

from mird.daemon.fields import Record
from mird.daemon.messages import (
    KINDS,
    MAX_LABELS,
    MAX_PAYLOAD_BYTES,
    SCHEMA,
    Event,
    Frame,
    Heartbeat,
    Level,
    Message,
    MessageError,
    Published,
    Scalogram,
    State,
)

_TYPES: tuple[type[Any], ...] = (Frame, Event, Level, State, Heartbeat, Scalogram)
_RECORDS = MappingProxyType({each.kind: Record.of(each) for each in _TYPES})


def to_map(message: Published) -> dict[str, Any]:
    """The message as a map of plain Python values, as it is written to msgpack and, but for a scalogram's, to JSON.

    Raises
    ------
    MessageError
        A field has a value that the format does not allow, such as NaN.
    """
    try:
        return {"schema": SCHEMA, "kind": message.kind, **_RECORDS[message.kind].to_wire(message)}
    except ValueError as error:
        raise MessageError(f"{message.kind} message, field {error}") from error


def encode(message: Published) -> tuple[bytes, bytes]:
    """Both ZeroMQ frames of a message: topic and payload.

    Raises
    ------
    MessageError
        As :func:`to_map`; or the payload is larger than `MAX_PAYLOAD_BYTES`.
    """
    return message.topic(), pack(to_map(message))


def pack(values: Mapping[str, Any]) -> bytes:
    """The payload of a message's map."""
    payload: bytes = msgpack.packb(values)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MessageError(f"{values['kind']} message: {len(payload)} bytes, more than {MAX_PAYLOAD_BYTES}")
    return payload


def decode(payload: bytes) -> Message:
    """Read the payload of a message, whoever sent it.

    Raises
    ------
    MessageError
        It is no message of this version, or not a well-formed one; the text names the field.
    """
    return from_map(_unpack(payload))


def decode_scalogram(payload: bytes) -> Scalogram:
    """Read the payload of a scalogram, whoever sent it; MessageError as :func:`decode`."""
    message: Scalogram = _read(_unpack(payload), (Scalogram.kind,))
    return message


def from_map(values: Any) -> Message:
    """Read a message's map, out of msgpack or JSON.

    Raises
    ------
    MessageError
        As :func:`decode`.
    """
    message: Message = _read(values, KINDS)
    return message


def _unpack(payload: bytes) -> Any:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MessageError(f"message: {len(payload)} bytes, more than {MAX_PAYLOAD_BYTES}")
    try:
        return msgpack.unpackb(payload, max_array_len=MAX_LABELS, max_map_len=256, max_ext_len=0)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise MessageError(f"message: not msgpack: {str(error) or type(error).__name__}") from error


def _read(values: Any, kinds: tuple[str, ...]) -> Any:
    """The message of a map, of one of some kinds."""
    if type(values) is not dict:
        raise MessageError(f"message: {type(values).__name__}, not a map")
    schema, kind = values.get("schema"), values.get("kind")
    if type(schema) is not int or schema != SCHEMA:
        raise MessageError(f"message, field schema: {str(schema)[:40]!r}, this reader knows {SCHEMA}")
    if type(kind) is not str or kind not in kinds:
        raise MessageError(f"message, field kind: {str(kind)[:40]!r} is not one of {', '.join(kinds)}")
    try:
        return _RECORDS[kind].from_wire(values)
    except ValueError as error:
        raise MessageError(f"{kind} message, field {error}") from error
