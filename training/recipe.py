"""Recipes: everything that decides what a training run gives, in one TOML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mird.kernels.frontend import FrontEnd
from mird.training.augment import AugmentSettings
from mird.training.compose import ComposeSettings
from mird.training.errors import TrainingError
from mird.training.tables import from_table, read_toml


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
    """AdamW with a cosine schedule; ``average`` is the decay of the averaged weights that are shipped.

    ``warm_up`` and ``steady`` are shares of the run: the rate rises, then stays, then falls. While it stays, a run can
    still be made longer or shorter: change ``n_steps`` and resume.
    """

    n_steps: int = 10_000
    n_classes: int = 16
    n_per_class: int = 4
    rate: float = 2e-3
    weight_decay: float = 0.03
    warm_up: float = 0.05
    steady: float = 0.0
    scale: float = 14.0
    margin: float = 0.1
    clip_norm: float = 5.0
    average: float = 0.99
    bf16: bool = True


@dataclass(frozen=True)
class FitSettings:
    """What is fitted on the finished network.

    Attributes
    ----------
    depth_dims : numbers that each of four depths has in the embedding that is shipped
    shrinkage, depth_shrinkage : range [0, 1]
        Of the whitening, towards the identity: of the embedding that the loss saw, and of the stages before it.
    depth_weights : of the last, the third and the second stage, beside 1 for the embedding that the loss saw
    centring : >= 0
        How much of their mean is taken off the embeddings; 1 is all of it.
    stiffness : of the comparison's weights, towards one common weight
        Those of squares, which are small numbers, it makes all but even, as the cosine's are.
    power : 1, the paper's weighted L1, or 2, the cosine where the weights are even
    attention : >= 0
        How much more a shot counts the more it is like the query, where the best class is looked at once more.
    way, shots : of the episodes that comparison and threshold are fitted on
    """

    depth_dims: int = 96
    shrinkage: float = 0.3
    depth_shrinkage: float = 0.6
    depth_weights: tuple[float, float, float] = (1.0, 0.7, 0.7)
    centring: float = 1.0
    stiffness: float = 0.01
    power: int = 2
    attention: float = 4.0
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
    values = read_toml(path, "recipe")
    if "pairs" in values:
        raise TrainingError(f"{path}: is a recipe of the paper; train it with --reproduce table3 or table4")
    recipe: Recipe = from_table(Recipe, values, str(path))
    front_end = recipe.front_end
    if (front_end.magnitude, front_end.colour, front_end.n_rows) != ("db", "grey", 0):
        raise TrainingError(
            f"{path}: front_end: training needs magnitude='db', colour='grey' and n_rows=0, not "
            f"{front_end.magnitude!r}, {front_end.colour!r} and {front_end.n_rows}"
        )
    options = recipe.optimiser
    if options.warm_up + options.steady >= 1:
        raise TrainingError(
            f"{path}: optimiser: warm_up={options.warm_up} and steady={options.steady} must leave some of the run to "
            "fall in"
        )
    return recipe
