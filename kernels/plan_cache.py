"""Compiled engines on disk: which plan belongs to which network, library and GPU, and whether it is whole.

A plan runs on the very version of TensorRT and the kind of GPU that it was compiled for. Its key says all of that; the
manifest beside it repeats the key, so that a plan is never taken for another, and says what was measured.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mird.kernels.errors import EngineError

DEFINITION = 3
"""Raised when the same encoder would be rewritten or compiled to another plan."""

BUCKETS = (1, 8, 32, 64)
"""Pictures in a call; a plan has a profile for each, and what lies between is filled up."""


@dataclass(frozen=True)
class PlanKey:
    """All that a plan depends on.

    Attributes
    ----------
    library : {"tensorrt", "tensorrt_rtx"}
    version : str
        The library's.
    capability : str
        Compute capability of the GPU, such as "8.9".
    model : str
        Sixteen hexadecimal digits of the encoder's file.
    precision : {"float32", "float16", "int8"}
    """

    library: str
    version: str
    capability: str
    model: str
    precision: str

    @property
    def stem(self) -> str:
        """Name of the plan's files, without a suffix."""
        return f"{self.model}-{self.precision}-{self.library}-{self.version}-sm{self.capability.replace('.', '')}"


@dataclass(frozen=True)
class Plan:
    """A whole plan and its manifest."""

    content: bytes
    manifest: Mapping[str, Any]


def model_hash(path: Path) -> str:
    """Sixteen hexadecimal digits of a file; EngineError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {error.strerror}") from None


def plan_file(folder: Path, key: PlanKey) -> Path:
    """Where a plan lies; its manifest has the suffix ``.json``."""
    return folder / f"{key.stem}.plan"


def timing_file(folder: Path, key: PlanKey) -> Path:
    """Where the timings of a library on a kind of GPU lie: they serve every encoder."""
    return folder / f"{key.library}-{key.version}-sm{key.capability.replace('.', '')}.timing"


def read_plan(folder: Path, key: PlanKey) -> Plan:
    """A plan from the cache.

    Raises
    ------
    EngineError
        There is none, it is not whole, or its manifest is of another key; the message says which.
    """
    path = plan_file(folder, key)
    try:
        content = path.read_bytes()
        manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EngineError(f"no plan was compiled yet; `mird compile` makes {path}") from None
    except (OSError, ValueError) as error:
        raise EngineError(f"{path}: cannot be read ({error}); `mird compile` makes it anew") from None
    if not isinstance(manifest, dict) or manifest.get("definition") != DEFINITION or manifest.get("key") != asdict(key):
        raise EngineError(f"{path}: its manifest is of another plan; `mird compile` makes it anew")
    if len(content) != manifest.get("plan_bytes"):
        raise EngineError(
            f"{path}: is cut short: {len(content)} bytes of {manifest.get('plan_bytes')}; `mird compile` makes it anew"
        )
    if hashlib.sha256(content).hexdigest() != manifest.get("plan_sha256"):
        raise EngineError(f"{path}: is damaged; `mird compile` makes it anew")
    return Plan(content, manifest)


def write_plan(folder: Path, key: PlanKey, content: bytes, measured: Mapping[str, Any]) -> Path:
    """Put a plan into the cache, whole or not at all: the manifest comes last.

    Parameters
    ----------
    measured : Mapping[str, Any]
        What the manifest says besides the key and the plan's size and hash.

    Returns
    -------
    Path
        The manifest.

    Raises
    ------
    EngineError
        It cannot be written.
    """
    path = plan_file(folder, key)
    manifest = {
        "definition": DEFINITION,
        "key": asdict(key),
        "plan_bytes": len(content),
        "plan_sha256": hashlib.sha256(content).hexdigest(),
        **measured,
    }
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        write_whole(path.with_suffix(".json"), text.encode())
    except OSError as error:
        raise EngineError(f"{path}: cannot be written: {error.strerror}; name another folder") from None
    return path.with_suffix(".json")


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file by another, or leave it as it is."""
    partial = path.with_suffix(f"{path.suffix}.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
