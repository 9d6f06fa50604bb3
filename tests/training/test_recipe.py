"""Recipes: the shipped ones, defaults, and every mistake in a file."""

from dataclasses import replace
from pathlib import Path

import pytest

from mird.kernels.frontend import FrontEnd
from mird.training.augment import AugmentSettings
from mird.training.errors import TrainingError
from mird.training.recipe import FitSettings, OptimiserSettings, Recipe, read_recipe

SHIPPED = sorted((Path(__file__).parents[2] / "configs" / "recipes").glob("[!p]*.toml"))  # not the paper's


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    return tmp_path / "recipe.toml"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_load_and_hold_the_validation_sources_out(path: Path) -> None:
    recipe = read_recipe(path)
    assert set(recipe.data.held_out_sources) >= {"vsco2", "vcsl"}
    assert recipe.front_end == FrontEnd()


def test_default_recipe_is_shipped() -> None:
    assert "default" in {path.stem for path in SHIPPED}


def test_what_is_compared_with_the_default_recipe_differs_in_that_alone() -> None:
    default, full, holdout = (
        read_recipe(SHIPPED[0].parent / f"{name}.toml") for name in ("default", "full", "holdout")
    )
    assert replace(holdout, data=replace(holdout.data, held_out_classes=())) == default
    assert full == replace(
        default,
        network=replace(default.network, width=64),
        optimiser=replace(default.optimiser, n_steps=1500, rate=1e-3, average=0.98),
    )


def test_what_is_left_out_has_its_default(recipe_file: Path) -> None:
    recipe_file.write_text("")
    assert read_recipe(recipe_file) == Recipe()


def test_every_kind_of_value_is_read(recipe_file: Path) -> None:
    recipe_file.write_text(
        "seed = 3\n[front_end]\nn_scales = 96\nrange_db = 70\n[optimiser]\nrate = 1\nbf16 = false\n"
        "[augment]\nnoise_db = [5, 30.5]\n[fit]\nshots = [1, 2]\n[data]\nheld_out_classes = ['viola']\n"
    )
    recipe = read_recipe(recipe_file)
    assert recipe == replace(
        Recipe(),
        seed=3,
        front_end=FrontEnd(n_scales=96, range_db=70.0),
        optimiser=OptimiserSettings(rate=1.0, bf16=False),
        augment=AugmentSettings(noise_db=(5.0, 30.5)),
        fit=FitSettings(shots=(1, 2)),
        data=replace(Recipe().data, held_out_classes=("viola",)),
    )
    # The text is what a checkpoint is known by: whole numbers must not make another recipe of the same.
    assert "rate=1.0" in repr(recipe)
    assert "noise_db=(5.0, 30.5)" in repr(recipe)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sead = 1", r"recipe\.toml: unknown key sead; known are .*seed"),
        ("[optimiser]\nlr = 1.0", r"recipe\.toml: optimiser: unknown key lr"),
        ("seed = 1.5", "seed=1.5 must be of type int"),
        ("seed = true", "seed=True must be of type int"),
        ("seed = [1]", "seed=.1. must be of type int"),
        ("seed = -1", "seed=-1 must be at least 0"),
        ("optimiser = 3", "optimiser must be a table"),
        ("[optimiser]\nrate = 'high'", "rate='high' must be of type float"),
        ("[optimiser]\nbf16 = 1", "bf16=1 must be of type bool"),
        ("[optimiser]\nn_steps = 0", "n_steps=0 must be at least 1"),
        ("[optimiser]\nwarm_up = 1.0", "warm_up=1.0 must be at least 0 and less than 1"),
        ("[optimiser]\nsteady = -0.1", "steady=-0.1 must be at least 0 and less than 1"),
        (
            "[optimiser]\nwarm_up = 0.4\nsteady = 0.6",
            "warm_up=0.4 and steady=0.6 must leave some of the run to fall in",
        ),
        ("[augment]\nnoise_db = 5", "noise_db=5 must be a list of float, 2 of them"),
        ("[augment]\nnoise_db = [5]", "must be a list of float, 2 of them"),
        ("[augment]\nnoise_db = ['a', 'b']", "noise_db='a' must be of type float"),
        ("[augment]\nshare = 1.5", "share=1.5 must be between 0 and 1"),
        ("[data]\nheld_out_sources = 'vsco2'", "held_out_sources='vsco2' must be a list of str"),
        ("[data]\nheld_out_sources = [1]", "held_out_sources=1 must be of type str"),
        ("[fit]\nshots = []", r"shots=\(\) must be at least 1"),
        ("[fit]\nshots = [1, 0]", r"shots=\(1, 0\) must be at least 1"),
        ("[optimiser]\nrate = nan", r"recipe\.toml: optimiser: rate=nan must be a finite number"),
        ("[augment]\nnoise_db = [5, inf]", "augment: noise_db=inf must be a finite number"),
        ("[optimiser]\nrate = -1.0", "rate=-1.0 must be above 0"),
        ("[optimiser]\nscale = 0", "scale=0.0 must be above 0"),
        ("[optimiser]\nclip_norm = 0", "clip_norm=0.0 must be above 0"),
        ("[optimiser]\nweight_decay = -0.1", "weight_decay=-0.1 must be at least 0"),
        ("[optimiser]\nmargin = -0.1", "margin=-0.1 must be between 0 and 1"),
        ("[optimiser]\naverage = 1", "average=1.0 must be at least 0 and less than 1"),
        ("[data]\nrendered_weight = 0", "rendered_weight=0.0 must be above 0"),
        ("[compose]\nreverberation_s = [0, 1]", r"compose: reverberation_s=\(0\.0, 1\.0\) must be above 0"),
        ("[compose]\nreverberation_s = [2, 1]", r"reverberation_s=\(2\.0, 1\.0\) must be a range, the lower number f"),
        ("[compose]\nbackground_db = [20, 10]", r"background_db=\(20\.0, 10\.0\) must be a range"),
        ("[compose]\ndirect_db = [5, -5]", r"direct_db=\(5\.0, -5\.0\) must be a range"),
        ("[augment]\nnoise_db = [40, 5]", r"noise_db=\(40\.0, 5\.0\) must be a range"),
        ("[augment]\neq_db = -1", "eq_db=-1.0 must be at least 0"),
        ("[fit]\ndepth_dims = 0", "fit: depth_dims=0 must be at least 1"),
        ("[fit]\nshrinkage = 0", "shrinkage=0.0 must be above 0 and at most 1"),
        ("[fit]\ndepth_shrinkage = 1.5", "depth_shrinkage=1.5 must be above 0 and at most 1"),
        ("[fit]\ndepth_weights = [1, 1]", "must be a list of float, 3 of them"),
        ("[fit]\ndepth_weights = [1, -1, 1]", r"depth_weights=\(1\.0, -1\.0, 1\.0\) must be at least 0"),
        ("[fit]\ncentring = -1", "centring=-1.0 must be at least 0"),
        ("[fit]\nstiffness = 0", "stiffness=0.0 must be above 0"),
        ("[fit]\nattention = -1", "attention=-1.0 must be at least 0"),
        ("[fit]\nattention = 1001", "attention=1001.0 must be at most 1000"),
        ("[fit]\npower = 3", "power=3 must be at most 2"),
        ("[fit]\nway = 1", "way=1 must be at least 2"),
        ("seed = 9223372036854775808", "seed=9223372036854775808 must be a number of 64 bits"),
        ("[front_end]\ncolour = 'red'", "colour='red' must be one of grey, parula"),
        ("[front_end]\ncolour = 'parula'", "training needs .*colour='grey'"),
        ("[front_end]\nwindow = 0", "window=0"),
        ("seed = ", "is not TOML"),
    ],
)
def test_mistakes_are_named(recipe_file: Path, text: str, said: str) -> None:
    recipe_file.write_text(text)
    with pytest.raises(TrainingError, match=said):
        read_recipe(recipe_file)


def test_missing_and_binary_files(recipe_file: Path) -> None:
    with pytest.raises(TrainingError, match=r"recipe\.toml: cannot read the recipe: No such file"):
        read_recipe(recipe_file)
    recipe_file.write_bytes(b"\xff\xfe")
    with pytest.raises(TrainingError, match="is not TOML"):
        read_recipe(recipe_file)
