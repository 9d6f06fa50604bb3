"""The bytes of a support set file, version 2.

One msgpack map: ``magic``, ``version``, ``sha256`` and ``body``. The body is the msgpack of a map of the set's fields,
embeddings as raw little-endian float32; the digest covers magic, version and body. Nothing is taken from the body
before the digest fits, and nothing at all that is larger than the limits say. Version 1, which is read too, had no
thresholds, no corrections and no mark of what was given.
"""

import hashlib
from typing import Any, Final, get_args

import msgpack
import numpy as np

from mird.daemon.errors import ClipError, SupportDamagedError, SupportError
from mird.daemon.shot import Shot
from mird.daemon.support_set import (
    MAX_CLASSES,
    MAX_FINGERPRINT,
    MAX_HISTORY,
    MAX_NAME,
    MAX_SHOTS,
    Edit,
    SupportClass,
    SupportSet,
    Verb,
    check_class_name,
)

MAGIC: Final = "mird-support"
VERSION: Final = 2
READABLE: Final = (1, VERSION)
MAX_FILE_BYTES: Final = 512 << 20
REMEDY: Final = "restore a copy of it, or move it away to begin with the default set"


def encode(support: SupportSet) -> bytes:
    """Bytes of a file.

    Raises
    ------
    SupportError
        They would be more than a file may have, 512 MiB.
    """
    body = _packed(
        {
            "fingerprint": support.fingerprint,
            "n_dims": support.n_dims,
            "revision": support.revision,
            "classes": [
                {"name": known.name, "threshold": known.threshold, **_shots_map(known.shots)}
                for known in support.classes
            ],
            "history": [
                {
                    "verb": edit.verb,
                    "name": edit.name,
                    "old_name": edit.old_name,
                    "n_shots": edit.n_shots,
                    "position": edit.position,
                    "threshold": edit.threshold,
                    **_shots_map(edit.shots),
                }
                for edit in support.history
            ],
        }
    )
    data = _packed({"magic": MAGIC, "version": VERSION, "sha256": _digest(VERSION, body), "body": body})
    if len(data) > MAX_FILE_BYTES:
        raise SupportError(
            f"support set of {len(data) >> 20} MiB: a file holds {MAX_FILE_BYTES >> 20} MiB; forget some classes"
        )
    return data


def decode(data: bytes) -> SupportSet:
    """Support set out of the bytes of a file.

    Raises
    ------
    SupportDamagedError
        They are not a whole support set of a version that is known here; the message says what is wrong and what to
        do, and leaves the path to the caller.
    """
    outer = _unpacked(data)
    if outer.get("magic") != MAGIC:
        raise SupportDamagedError(f"is no support set of mird; {REMEDY}")
    version, digest, body = outer.get("version"), outer.get("sha256"), outer.get("body")
    if type(version) is not int or type(body) is not bytes or digest != _digest(version, body) or len(outer) != 4:
        raise SupportDamagedError(f"is damaged: its checksum does not fit; {REMEDY}")
    if version not in READABLE:
        raise SupportDamagedError(f"has version {version}, this mird reads version {VERSION}; install a newer mird")
    try:
        return _support_set(_unpacked(body))
    except (KeyError, TypeError, ValueError, OverflowError, ClipError, SupportError) as error:
        raise SupportDamagedError(f"is damaged: {type(error).__name__}: {error}; {REMEDY}") from error


def _packed(content: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(content, use_bin_type=True)
    return packed


def _unpacked(data: bytes) -> dict[str, Any]:
    try:
        content = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_bin_len=MAX_FILE_BYTES,
            max_str_len=1024,
            max_array_len=max(MAX_CLASSES, MAX_SHOTS),
            max_map_len=16,
            max_ext_len=0,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        reason = str(error).split("\n", maxsplit=1)[0][:80] or type(error).__name__
        raise SupportDamagedError(f"is damaged or no support set: {reason}; {REMEDY}") from error
    if not isinstance(content, dict):
        raise SupportDamagedError(f"is no support set of mird; {REMEDY}")
    return content


def _digest(version: int, body: bytes) -> bytes:
    digest = hashlib.sha256(f"{MAGIC} {version} ".encode())
    digest.update(body)
    return digest.digest()


def _shots_map(shots: tuple[Shot, ...]) -> dict[str, Any]:
    return {
        "origins": [shot.origin for shot in shots],
        "added_utc_ns": [shot.added_utc_ns for shot in shots],
        "given": [shot.given for shot in shots],
        "embeddings": b"".join(shot.embedding.astype("<f4", copy=False).tobytes() for shot in shots),
    }


def _support_set(body: dict[str, Any]) -> SupportSet:
    n_dims = _integer(body["n_dims"])
    classes = tuple(
        SupportClass(_name(entry["name"]), _shots(entry, n_dims), _threshold(entry))
        for entry in _entries(body["classes"], MAX_CLASSES)
    )
    history = tuple(_edit(entry, n_dims) for entry in _entries(body["history"], MAX_HISTORY))
    return SupportSet(_text(body["fingerprint"], MAX_FINGERPRINT), n_dims, classes, _integer(body["revision"]), history)


def _edit(entry: dict[str, Any], n_dims: int) -> Edit:
    verb: Verb = entry["verb"]
    if verb not in get_args(Verb):
        raise ValueError(f"verb {str(verb)[:20]!r} in the history")
    old_name = _name(entry["old_name"]) if verb == "rename" else ""
    return Edit(
        verb,
        _name(entry["name"]),
        old_name,
        _integer(entry["n_shots"]),
        _integer(entry["position"]),
        _shots(entry, n_dims) if verb in ("forget", "correct") else (),
        _threshold(entry),
    )


def _shots(entry: dict[str, Any], n_dims: int) -> tuple[Shot, ...]:
    origins, times, raw = entry["origins"], entry["added_utc_ns"], entry["embeddings"]
    if not (isinstance(origins, list) and isinstance(times, list) and isinstance(raw, bytes)):
        raise TypeError("shots of a class have another type")
    if not len(origins) == len(times) <= MAX_SHOTS:
        raise ValueError(f"{len(origins)} origins and {len(times)} times of a class's shots")
    if len(raw) != 4 * n_dims * len(origins):
        raise ValueError(f"{len(raw)} bytes of embeddings for {len(origins)} shots of {n_dims} values")
    given = entry.get("given", [False] * len(origins))
    if not isinstance(given, list) or len(given) != len(origins) or not all(type(each) is bool for each in given):
        raise TypeError("marks of a class's shots have another type or number")
    vectors = np.frombuffer(raw, dtype="<f4").reshape(len(origins), n_dims)
    return tuple(
        Shot(vector, _text(origin), _integer(time_ns), each)
        for vector, origin, time_ns, each in zip(vectors, origins, times, given, strict=True)
    )


def _threshold(entry: dict[str, Any]) -> float | None:
    value = entry.get("threshold")
    if value is None:
        return None
    if type(value) is not float or not 0.0 <= value <= 1.0:
        raise TypeError(f"{str(value)[:40]!r} where a threshold is expected")
    return value


def _entries(value: Any, most: int) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > most or not all(isinstance(entry, dict) for entry in value):
        raise TypeError(f"a list of at most {most} maps is expected")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise TypeError(f"{str(value)[:40]!r} where a count is expected")
    return value


def _name(value: Any) -> str:
    name = _text(value, MAX_NAME)
    if check_class_name(name) != name:
        raise ValueError(f"class name {name!r} is not in its one form")
    return name


def _text(value: Any, most: int = 1024) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise TypeError(f"a text of at most {most} characters is expected")
    return value
