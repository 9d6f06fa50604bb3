"""Recipes: everything that decides what a training run gives, in one TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.training.augment import AugmentSettings
from mird.training.compose import ComposeSettings
from mird.training.errors import TrainingError

SHARES = {
    "composed_share",
    "average",
    "shrinkage",
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
}
"""Least value, or least of several, by key."""


@dataclass(frozen=True)
class NetworkSettings:
    """The encoder: ``width`` 64 is the paper's body, 16 the light sibling; ``n_dims`` numbers come out."""

    width: int = 16
    n_dims: int = 256


@dataclass(frozen=True)
class DataSettings:
    """What is trained on.

    Attributes
    ----------
    held_out_sources, held_out_classes : never seen in training; the sources are what the engine is calibrated on
    n_composed, n_composed_rendered : composed windows per clip in the cache, of recordings and of rendered clips
    composed_share : share of draws that take a composed window rather than the clean clip
    rendered_weight : how often a rendered source is drawn beside a recorded one of the same class
    """

    held_out_sources: tuple[str, ...] = ()
    held_out_classes: tuple[str, ...] = ()
    n_composed: int = 8
    n_composed_rendered: int = 2
    composed_share: float = 0.5
    rendered_weight: float = 0.25


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW with a cosine schedule; ``average`` is the decay of the averaged weights that are shipped."""

    n_steps: int = 10_000
    n_classes: int = 16
    n_per_class: int = 4
    rate: float = 2e-3
    weight_decay: float = 0.03
    warm_up: float = 0.05
    scale: float = 14.0
    margin: float = 0.1
    clip_norm: float = 5.0
    average: float = 0.99
    bf16: bool = True


@dataclass(frozen=True)
class FitSettings:
    """What is fitted on the finished embeddings.

    Attributes
    ----------
    shrinkage : range [0, 1]: of the whitening, towards the identity
    stiffness : of the comparison's weights, towards one common weight
    way, shots : of the episodes that comparison and threshold are fitted on
    """

    shrinkage: float = 0.3
    stiffness: float = 0.01
    way: int = 8
    shots: tuple[int, ...] = (1, 2, 3, 5)


@dataclass(frozen=True)
class Recipe:
    """One training run, but for the data's place and the machine."""

    seed: int = 0
    front_end: FrontEnd = field(default_factory=FrontEnd)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    data: DataSettings = field(default_factory=DataSettings)
    compose: ComposeSettings = field(default_factory=ComposeSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    fit: FitSettings = field(default_factory=FitSettings)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file; what it leaves out has the default.

    Raises
    ------
    TrainingError
        If the file is missing, is no TOML, or a key is unknown, of the wrong type or out of range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path}: is not TOML: {error}") from None
    recipe: Recipe = _build(Recipe, values, str(path))
    front_end = recipe.front_end
    if (front_end.magnitude, front_end.colour, front_end.n_rows) != ("db", "grey", 0):
        raise TrainingError(
            f"{path}: front_end: training needs magnitude='db', colour='grey' and n_rows=0, not "
            f"{front_end.magnitude!r}, {front_end.colour!r} and {front_end.n_rows}"
        )
    return recipe


def _build(kind: type[Any], values: dict[str, Any], where: str) -> Any:
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
            built[name] = _build(hint, value, f"{where}: {name}")
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
    if name in SHARES and not 0 <= value <= 1:
        raise TrainingError(f"{where}: {name}={value!r} must be between 0 and 1")
    values = value if isinstance(value, tuple) else (value,)
    if name in LEAST and (not values or min(values) < LEAST[name]):
        raise TrainingError(f"{where}: {name}={value!r} must be at least {LEAST[name]}")
    if name == "warm_up" and not 0 <= value < 1:
        raise TrainingError(f"{where}: {name}={value!r} must be at least 0 and less than 1")


def _plain(kind: Any, value: Any, where: str) -> Any:
    """A number, truth value or text of the kind that the recipe's class names; whole numbers do for float."""
    if kind is float and type(value) is int:
        return float(value)
    wanted = kind if kind in (int, float, bool) else str
    if type(value) is not wanted:
        raise TrainingError(f"{where}={value!r} must be of type {wanted.__name__}")
    return value
