"""Going on from an exported encoder: the weights that it holds, what it computes, and what does not fit it."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mird.daemon.cli import main
from mird.kernels.encoder import open_encoder
from mird.kernels.recognizer import Recognizer
from mird.training.audio import read_mono
from mird.training.errors import TrainingError
from mird.training.manifest import Recording
from mird.training.networks import ResidualEncoder
from mird.training.recipe import Recipe, read_recipe
from mird.training.start import start_from

pytestmark = pytest.mark.system


@pytest.fixture
def recipe(trained: Any) -> Recipe:
    return read_recipe(trained.recipe)


@pytest.fixture
def pictures(recipe: Recipe) -> Tensor:
    shape = (96, 1, recipe.front_end.n_scales, recipe.front_end.n_columns)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) ** 3


def network(recipe: Recipe) -> ResidualEncoder:
    return ResidualEncoder(recipe.network.width, 1, "pooled", recipe.network.n_dims)


@pytest.mark.parametrize(("file", "least"), [("encoder.onnx", 0.99999), ("encoder-int8.onnx", 0.995)])
def test_the_network_computes_what_the_exported_one_did(
    trained: Any, recipe: Recipe, pictures: Tensor, file: str, least: float
) -> None:
    state = torch.load(trained.folder / "checkpoint.pt", weights_only=True)["averaged"]
    old, new = network(recipe), network(recipe)
    old.load_state_dict({name.removeprefix("module."): value for name, value in state.items() if name != "n_averaged"})
    start_from(trained.folder / file, new, recipe.front_end, pictures[:64])
    with torch.no_grad():
        for was, found in zip(old.eval().depths(pictures), new.eval().depths(pictures), strict=True):
            assert float(torch.nn.functional.cosine_similarity(was, found).mean()) > least


def test_training_goes_on_from_what_the_file_computes(trained: Any, recipe: Recipe, pictures: Tensor) -> None:
    """With the statistics of a batch in the place of what is kept, as a training step computes."""
    encoder = network(recipe)
    start_from(trained.folder / "encoder.onnx", encoder, recipe.front_end, pictures[:64])
    assert encoder.training
    with torch.no_grad():
        kept, batch = encoder.eval()(pictures[64:]), encoder.train()(pictures[64:])
        fresh = network(recipe).train()(pictures[64:])
    assert torch.nn.functional.cosine_similarity(kept, batch).mean() > 0.95
    assert abs(torch.nn.functional.cosine_similarity(kept, fresh).mean()) < 0.5


def test_no_steps_fit_the_file_anew(
    mird: Callable[..., subprocess.CompletedProcess[str]],
    trained: Any,
    orchestra: Path,
    recordings_of_orchestra: Sequence[Recording],
    tmp_path: Path,
) -> None:
    start, folder = trained.folder / "encoder.onnx", tmp_path / "run"
    options = ("--recipe", trained.recipe, "--cache", trained.cache, "--out", folder, "--start", start, "--steps", "0")
    done = mird("train", orchestra, *options)
    assert done.returncode == 0, done.stderr
    windows = np.stack([read_mono(r.path, 16_000) for r in recordings_of_orchestra])
    was, found = (Recognizer(open_encoder(each)).embed(windows) for each in (start, folder / "encoder.onnx"))
    # The axes may be others, what is near to what is not.
    assert np.corrcoef((was @ was.T).ravel(), (found @ found.T).ravel())[0, 1] > 0.95


def test_what_does_not_fit_the_recipe_is_refused(trained: Any, recipe: Recipe, pictures: Tensor) -> None:
    file = trained.folder / "encoder.onnx"
    with pytest.raises(TrainingError, match=r"other pictures than the recipe's; give it the same \[front_end\]"):
        start_from(file, network(recipe), replace(recipe.front_end, range_db=50.0), pictures)
    wider = replace(recipe, network=replace(recipe.network, width=recipe.network.width * 2))
    with pytest.raises(TrainingError, match=r"stem\.0\.weight: shape \(\d+, 1, 7, 7\) where the recipe's network has"):
        start_from(file, network(wider), recipe.front_end, pictures)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "0"], "--steps 0: must be at least 1"),
        (["--start", "no.onnx", "--steps", "-1"], "--steps -1: must be at least 0"),
        (["--start", "no.onnx"], "--start no.onnx: no such file"),
        (["--start", "no.onnx", "--reproduce", "table3"], "leave it out with --reproduce"),
    ],
)
def test_mistakes_are_one_line(
    trained: Any, orchestra: Path, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", orchestra, "--recipe", trained.recipe, "--cache", trained.cache, "--out", tmp_path / "run"]
    assert main([*map(str, command), *arguments]) == 10
    assert said in capsys.readouterr().err.splitlines()[-1]
