"""Tables of TOML to frozen dataclasses: every key known, of its type and in its range."""

from __future__ import annotations

import math
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from mird.kernels.errors import ParameterError
from mird.training.errors import TrainingError

SHARES = {
    "composed_share",
    "margin",
    "phrase",
    "chord",
    "room",
    "background",
    "share",
    "cut",
    "noise",
    "mask",
}
"""Keys whose value lies in [0, 1]."""

LESS_THAN_ALL = {"warm_up", "steady", "average", "dropout"}
"""Keys whose value lies in [0, 1)."""

SOME = {"shrinkage", "depth_shrinkage"}
"""Keys whose value lies in (0, 1]."""

ABOVE_ZERO = {"rate", "scale", "clip_norm", "rendered_weight", "stiffness", "reverberation_s"}
"""Keys of a number, or of several, above 0."""

RANGES = {"reverberation_s", "direct_db", "background_db", "noise_db"}
"""Keys of two numbers, the lower one first."""

LEAST = {
    "seed": 0,
    "width": 1,
    "n_dims": 1,
    "n_composed": 0,
    "n_composed_rendered": 0,
    "n_steps": 1,
    "n_classes": 2,
    "n_per_class": 1,
    "transpose": 0,
    "delay": 0,
    "advance": 0,
    "way": 2,
    "shots": 1,
    "n_pairs": 2,
    "depth_dims": 1,
    "depth_weights": 0,
    "centring": 0,
    "attention": 0,
    "power": 1,
    "weight_decay": 0,
    "eq_db": 0,
    "l2_convolution": 0,
    "l2_dense": 0,
}
"""Least value, or least of several, by key."""

MOST = {"power": 2, "attention": 1000}
"""Greatest value by key."""


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The values of a TOML file; TrainingError, which calls the file ``what``, if it cannot be read or is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path}: cannot read the {what}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: is not TOML: {error}") from None


def from_table(kind: type[Any], values: dict[str, Any], where: str) -> Any:
    """Build a dataclass, and those that it holds, from a table; what the table leaves out has the default.

    Parameters
    ----------
    kind : type
        A dataclass whose fields are numbers, truth values, texts, tuples of them or dataclasses.
    values : dict
    where : str
        Begins every message: the file and the table.

    Raises
    ------
    TrainingError
        If a key is unknown, missing, of the wrong type or out of range.
    """
    names = {f.name for f in fields(kind)}
    unknown = set(values) - names
    if unknown:
        raise TrainingError(f"{where}: unknown key {', '.join(sorted(unknown))}; known are {', '.join(sorted(names))}")
    hints = get_type_hints(kind)
    built = {}
    for name, value in values.items():
        hint = hints[name]
        if isinstance(hint, type) and is_dataclass(hint):
            if not isinstance(value, dict):
                raise TrainingError(f"{where}: {name} must be a table")
            built[name] = from_table(hint, value, f"{where}: {name}")
        elif get_origin(hint) is tuple:
            kinds = get_args(hint)
            wanted = f"a list of {kinds[0].__name__}" + ("" if kinds[-1] is Ellipsis else f", {len(kinds)} of them")
            if not isinstance(value, list) or (kinds[-1] is not Ellipsis and len(value) != len(kinds)):
                raise TrainingError(f"{where}: {name}={value!r} must be {wanted}")
            built[name] = tuple(_plain(kinds[0], each, f"{where}: {name}") for each in value)
        else:
            built[name] = _plain(hint, value, f"{where}: {name}")
        _check_range(name, built[name], where)
    try:
        return kind(**built)
    except (ParameterError, TypeError) as error:
        raise TrainingError(f"{where}: {error}") from None


def _check_range(name: str, value: Any, where: str) -> None:
    values = value if isinstance(value, tuple) else (value,)
    wanted = ""
    if name in SHARES and not 0 <= value <= 1:
        wanted = "between 0 and 1"
    elif name in LESS_THAN_ALL and not 0 <= value < 1:
        wanted = "at least 0 and less than 1"
    elif name in SOME and not 0 < value <= 1:
        wanted = "above 0 and at most 1"
    elif name in ABOVE_ZERO and min(values) <= 0:
        wanted = "above 0"
    elif name in LEAST and (not values or min(values) < LEAST[name]):
        wanted = f"at least {LEAST[name]}"
    elif name in MOST and value > MOST[name]:
        wanted = f"at most {MOST[name]}"
    elif name in RANGES and values[0] > values[1]:
        wanted = "a range, the lower number first"
    if wanted:
        raise TrainingError(f"{where}: {name}={value!r} must be {wanted}")


def _plain(kind: Any, value: Any, where: str) -> Any:
    """A number, truth value or text of the kind that the dataclass names; whole numbers do for float."""
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise TrainingError(f"{where}={value!r} must be a number of 64 bits")
    if kind is float and type(value) is int:
        return float(value)
    wanted = kind if kind in (int, float, bool) else str
    if type(value) is not wanted:
        raise TrainingError(f"{where}={value!r} must be of type {wanted.__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise TrainingError(f"{where}={value!r} must be a finite number")
    return value
