"""The paper's training: recipes, pictures, pairs and regularisation."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from mird.daemon.cli import main
from mird.daemon.paths import shipped
from mird.kernels.frontend import FrontEnd
from mird.kernels.image import picture
from mird.kernels.scalogram import open_scalogram
from mird.training.errors import TrainingError
from mird.training.manifest import Recording, read_manifest
from mird.training.paper import PairTrainer, PaperRecipe, Pictures, draw_pictures, read_paper_recipe
from mird.training.paper_tables import TABLES

PROGRAM = Path(sys.executable).with_name("mird")


@pytest.fixture(scope="module")
def pictures(orchestra: Path, tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    front_end = replace(FrontEnd.paper(), rate_hz=16_000, window=8_000)
    found, left_out = draw_pictures(read_manifest(orchestra), front_end, tmp_path_factory.mktemp("pictures"))
    assert left_out == ()
    return found


@pytest.mark.parametrize(
    ("name", "kind", "width", "rate"),
    [
        ("paper-residual", "residual", 64, 5e-4),
        ("paper-convolutional", "convolutional", 64, 6e-4),
        ("paper-light", "residual", 16, 5e-4),
    ],
)
def test_shipped_recipes_are_the_paper_s(name: str, kind: str, width: int, rate: float) -> None:
    recipe = read_paper_recipe(shipped(f"recipes/{name}.toml"))
    assert recipe.front_end == FrontEnd.paper()
    pairs = recipe.pairs
    assert (pairs.kind, pairs.width, pairs.rate) == (kind, width, rate)
    assert (pairs.n_pairs, pairs.n_steps, pairs.dropout) == (5, 4000, 0.2)
    assert (pairs.l2_convolution, pairs.l2_dense) == (2e-4, 1e-3)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("width = 2", 'kind = "resnet"', "kind='resnet' must be one of residual, convolutional"),
        ("width = 2", "wide = 2", "unknown key wide"),
        ("window = 8000", 'colour = "grey"', "need square pictures with colour='parula'"),
    ],
)
def test_mistakes_of_a_recipe(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("[front_end]\nrate_hz = 16000\nwindow = 8000\n[pairs]\nwidth = 2\n".replace(old, new))
    with pytest.raises(TrainingError, match=said):
        read_paper_recipe(path)


def test_recipe_of_the_paper_without_its_table(orchestra: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(orchestra), "--recipe", "paper-light", "--out", "nowhere"]) == 10
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("paper-light.toml: is a recipe of the paper; train it with --reproduce table3 or table4")


def test_colours_are_those_of_the_front_end(pictures: Pictures) -> None:
    front_end = replace(FrontEnd.paper(), rate_hz=16_000, window=8_000)
    samples, _ = soundfile.read(pictures.recordings[7].path, dtype="float32")
    wanted = picture(open_scalogram(front_end)(samples[None]), front_end)
    np.testing.assert_array_equal(pictures.colours([7]).numpy(), wanted)


def test_a_picture_shows_the_whole_of_a_longer_clip(paper_recipe: PaperRecipe, tmp_path: Path) -> None:
    """Three windows for the table of clips of three seconds: what comes after the first counts."""
    rng = np.random.default_rng(0)
    first = 0.1 * rng.standard_normal(8_000)
    rows = []
    for name in ("one", "other"):
        soundfile.write(tmp_path / f"{name}.wav", np.r_[first, 0.1 * rng.standard_normal(16_000)], 16_000)
        rows.append(Recording(tmp_path / f"{name}.wav", "bell", "hall", name))
    assert (TABLES["table3"].n_windows, TABLES["table4"].n_windows) == (1, 3)
    for n, same in ((1, True), (3, False)):
        found, _ = draw_pictures(rows, paper_recipe.of_windows(n).front_end, tmp_path / "cache")
        assert np.array_equal(*found.entries) is same


def test_damaged_and_silent_recordings_are_left_out_and_named(orchestra: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(8_000), 16_000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF and no more")
    rows = list(read_manifest(orchestra)[:2])
    rows += [Recording(tmp_path / f"{name}.wav", "bell", "hall", name) for name in ("silent", "broken")]
    front_end = replace(FrontEnd.paper(), rate_hz=16_000, window=8_000)
    for _ in range(2):  # computed, and from the cache
        found, left_out = draw_pictures(rows, front_end, tmp_path / "cache")
        assert found.recordings == tuple(rows[:2])
        assert [line.split(": ")[0] for line in left_out] == [f"{tmp_path}/silent.wav", f"{tmp_path}/broken.wav"]
    with pytest.raises(TrainingError, match="no recording can be used"):
        draw_pictures(rows[2:], front_end, tmp_path / "other")


def test_half_of_the_pairs_are_of_one_class_and_anchors_differ(paper_recipe: PaperRecipe, pictures: Pictures) -> None:
    trainer = PairTrainer(paper_recipe, pictures, ["bell", "flute", "horn", "oboe", "pluck"], "cpu")
    labels = np.array([r.label for r in pictures.recordings])
    n_same = []
    for _ in range(200):
        a, b, same = trainer.draw()
        assert len(set(labels[a])) == 5
        np.testing.assert_array_equal(labels[a] == labels[b], same == 1)
        assert (a != b).all()
        n_same.append(int(same.sum()))
    assert set(n_same) == {2, 3}
    assert np.mean(n_same) == pytest.approx(2.5, abs=0.15)


def test_regularisation_is_the_gradient_of_the_squares(paper_recipe: PaperRecipe, pictures: Pictures) -> None:
    trainer = PairTrainer(paper_recipe, pictures, ["bell", "flute"], "cpu")
    groups = {group["weight_decay"]: group["params"] for group in trainer._optimiser.param_groups if group["params"]}
    assert set(groups) == {4e-4, 0.0}  # no dense layer in the residual body
    convolutions = [m.weight for m in trainer.network.modules() if isinstance(m, nn.Conv2d)]
    assert {id(p) for p in groups[4e-4]} == {id(p) for p in convolutions}
    weight = torch.tensor([0.3, -2.0], requires_grad=True)
    (2e-4 * (weight**2).sum()).backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, 4e-4 * weight.detach())


def test_training_tells_classes_apart(pictures: Pictures, paper_recipe: PaperRecipe) -> None:
    """A tone and a hiss, by a network that starts at a loss of ln 2."""
    longer = replace(paper_recipe, pairs=replace(paper_recipe.pairs, n_steps=40, rate=3e-3, width=4))
    trainer = PairTrainer(longer, pictures, ["flute", "_hiss"], "cpu")
    losses: list[float] = []
    assert trainer.run(lambda _, loss: losses.append(loss))
    assert losses[0] == pytest.approx(np.log(2), abs=0.3)
    assert np.mean(losses[-10:]) < 0.5


def test_weights_stay_as_they_were_where_a_gradient_is_not_finite(
    pictures: Pictures, paper_recipe: PaperRecipe
) -> None:
    trainer = PairTrainer(
        replace(paper_recipe, pairs=replace(paper_recipe.pairs, n_steps=40)), pictures, ["bell", "flute"], "cpu"
    )
    head = trainer.network.head.compare.weight

    def spoil(step: int, loss: float) -> None:
        if step == 3:
            head.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]

    with pytest.raises(TrainingError, match=r"gradient is (nan|inf) at step 3; lower pairs.rate=.* an --out folder of"):
        trainer.run(spoil)
    assert trainer.step == 3
    assert all(torch.isfinite(parameter).all() for parameter in trainer.network.parameters())
