"""The training loop: the same draws after a resume, checkpoints that survive, a stop before the weights are spoilt."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mird.kernels.frontend import FrontEnd
from mird.training.errors import TrainingError
from mird.training.manifest import Recording
from mird.training.material import Material, Part
from mird.training.pictures import build_cache
from mird.training.recipe import FitSettings, NetworkSettings, OptimiserSettings, Recipe
from mird.training.trainer import StepReport, Trainer

Make = Callable[..., Trainer]


@pytest.fixture(scope="module")
def recipe(front_end: FrontEnd) -> Recipe:
    options = OptimiserSettings(n_steps=8, n_classes=4, n_per_class=2, rate=5e-3, average=0.5, bf16=False)
    return replace(Recipe(), front_end=front_end, network=NetworkSettings(4, 16), optimiser=options)


@pytest.fixture(scope="module")
def material(
    recordings_of_orchestra: tuple[Recording, ...], front_end: FrontEnd, tmp_path_factory: pytest.TempPathFactory
) -> Material:
    folder = tmp_path_factory.mktemp("cache")
    parts = []
    for source, n_composed in (("hall", 2), ("attic", 0), ("noise", 1)):
        rows = tuple(r for r in recordings_of_orchestra if r.source == source)
        levels, _ = build_cache(rows, front_end, folder, n_composed=n_composed, seed=0)
        parts.append(Part(rows, levels, 0.5 if source == "attic" else 1.0))
    return Material(parts)


@pytest.fixture
def make(recipe: Recipe, material: Material, tmp_path: Path) -> Make:
    def trainer(name: str = "run", **options: Any) -> Trainer:
        return Trainer(replace(recipe, optimiser=replace(recipe.optimiser, **options)), material, tmp_path / name)

    return trainer


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    modules = {"encoder": trainer.encoder, "classifier": trainer.classifier, "averaged": trainer.averaged}
    return {f"{name}.{key}": value for name, m in modules.items() for key, value in m.state_dict().items()}


def assert_equal(one: Trainer, other: Trainer) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_material_numbers_clips_through_all_parts(
    material: Material, recordings_of_orchestra: tuple[Recording, ...]
) -> None:
    assert sorted(r.path for r in material.recordings) == sorted(r.path for r in recordings_of_orchestra)
    assert set(zip([r.source for r in material.recordings], material.weights, strict=True)) == {
        ("hall", 1.0),
        ("attic", 0.5),
        ("noise", 1.0),
    }
    rng = np.random.default_rng(0)
    hall, attic = np.arange(36), np.arange(36, 72)
    clean = material.clean(range(80))
    np.testing.assert_array_equal(material.draw(np.arange(80), 0.0, rng), clean)
    composed = material.draw(np.arange(80), 1.0, rng)
    assert not (composed[hall] == clean[hall]).all(axis=(1, 2)).any()
    np.testing.assert_array_equal(composed[attic], clean[attic])


def test_seed_decides_everything(make: Make) -> None:
    runs = [make("one"), make("two")]
    reports: list[list[StepReport]] = [[], []]
    for run, seen in zip(runs, reports, strict=True):
        run.run(seen.append)
    assert_equal(*runs)
    assert reports[0] == reports[1]
    assert [report.step for report in reports[0]] == list(range(1, 9))


def test_orchestra_is_learnt(recipe: Recipe, material: Material, tmp_path: Path) -> None:
    options = replace(recipe.optimiser, n_steps=80, n_classes=7, n_per_class=3, margin=0.0, scale=6.0)
    clean = replace(recipe, optimiser=options, augment=replace(recipe.augment, share=0.0))
    trainer = Trainer(replace(clean, network=NetworkSettings(8, 32)), material, tmp_path)
    seen: list[StepReport] = []
    trainer.run(seen.append)
    assert seen[-1].loss < 0.6 * seen[5].loss
    assert seen[-1].accuracy > 0.5
    assert all(0 <= report.accuracy <= 1 for report in seen)


def test_rate_rises_and_falls(make: Make) -> None:
    seen: list[StepReport] = []
    make(n_steps=20, warm_up=0.25).run(seen.append)
    rates = [report.rate for report in seen]
    assert int(np.argmax(rates)) == 5
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert max(rates) == pytest.approx(5e-3)
    assert rates[-1] < 0.02 * max(rates)


def test_resumed_run_ends_with_the_same_weights_to_the_last_bit(make: Make) -> None:
    whole, begun = make("whole"), make("part")
    whole.run(lambda _: None)
    begun.run(lambda _: None, stop=lambda: begun.step == 3)
    assert begun.step == 3
    torch.manual_seed(99)  # another process has drawn what it likes
    resumed = make("part")
    assert resumed.resume()
    assert_equal(resumed, begun)
    resumed.run(lambda _: None)
    assert resumed.step == 8
    assert_equal(resumed, whole)


def test_checkpoints_come_at_their_steps_and_at_the_end(make: Make) -> None:
    trainer = make()
    saved: list[tuple[int, int]] = []

    def look(report: StepReport) -> None:
        step = torch.load(trainer.checkpoint, weights_only=True)["step"] if trainer.checkpoint.exists() else 0
        saved.append((report.step, step))

    trainer.run(look, checkpoint_every=3)
    assert saved == [(1, 0), (2, 0), (3, 0), (4, 3), (5, 3), (6, 3), (7, 6), (8, 6)]
    assert torch.load(trainer.checkpoint, weights_only=True)["step"] == 8
    assert [path.name for path in trainer.folder.iterdir()] == ["checkpoint.pt"]


def test_what_watches_a_step_may_fail_and_costs_no_step(make: Make) -> None:
    def watch(report: StepReport) -> None:
        if report.step == 3:
            raise OSError(28, "No space left on device")

    whole, trainer = make("whole"), make()
    with pytest.raises(OSError, match="No space left"):
        trainer.run(watch)
    again = make()
    assert again.resume()
    assert again.step == 3
    again.run(lambda _: None)
    whole.run(lambda _: None)
    assert_equal(again, whole)


def test_nothing_to_resume(make: Make) -> None:
    assert not make().resume()


@pytest.mark.parametrize("options", [{"margin": 0.5}, {"scale": 10.0}])
def test_checkpoint_of_another_recipe_is_refused(make: Make, options: dict[str, Any]) -> None:
    make().save()
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: is of another recipe or other data"):
        make(**options).resume()


def test_checkpoint_of_other_classes_is_refused(recipe: Recipe, material: Material, make: Make) -> None:
    trainer = make()
    trainer.save()
    bells = [i for i, r in enumerate(material.recordings) if r.label != "bell"]
    fewer = Material(
        [Part(tuple(material.recordings[i] for i in bells), np.zeros((len(bells), 1, 48, 32), np.float16))]
    )
    with pytest.raises(TrainingError, match="is of another recipe or other data"):
        Trainer(recipe, fewer, trainer.folder).resume()


def test_a_run_may_be_made_longer_while_its_rate_is_steady(recipe: Recipe, material: Material, make: Make) -> None:
    seen: list[StepReport] = []
    trainer = make(n_steps=20, warm_up=0.1, steady=0.6)
    trainer.run(seen.append, stop=lambda: len(seen) == 10)
    assert [report.rate for report in seen[2:]] == [recipe.optimiser.rate] * 8
    longer = replace(recipe, optimiser=replace(recipe.optimiser, n_steps=40, warm_up=0.1, steady=0.5))
    resumed = Trainer(longer, material, trainer.folder)
    assert resumed.resume()
    resumed.run(seen.append)
    assert [report.step for report in seen] == list(range(1, 41))
    rates = [report.rate for report in seen]
    assert rates[10:25] == [recipe.optimiser.rate] * 15
    assert all(later < earlier for earlier, later in pairwise(rates[25:]))


def test_rate_and_fit_may_change_on_resume(recipe: Recipe, material: Material, make: Make) -> None:
    trainer = make()
    trainer.save()
    slower = replace(recipe, optimiser=replace(recipe.optimiser, rate=1e-3), fit=FitSettings(shrinkage=0.9))
    assert Trainer(slower, material, trainer.folder).resume()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half of a zip file"])
def test_damaged_checkpoint(make: Make, content: bytes) -> None:
    trainer = make()
    trainer.folder.mkdir()
    trainer.checkpoint.write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: damaged checkpoint: .*; remove it to start again"):
        trainer.resume()


def test_truncated_and_foreign_checkpoints(make: Make) -> None:
    trainer = make()
    trainer.save()
    whole = trainer.checkpoint.read_bytes()
    trainer.checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match="damaged checkpoint"):
        trainer.resume()
    torch.save({"step": 3}, trainer.checkpoint)
    with pytest.raises(TrainingError, match="damaged checkpoint"):
        trainer.resume()


def test_folder_that_cannot_be_written(make: Make, tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: cannot write the checkpoint"):
        make().save()


def test_spoilt_clip_stops_the_run_before_the_weights_are(make: Make, recipe: Recipe, material: Material) -> None:
    """A level that is no number gives a loss that is none: the run says so and can go on from its checkpoint."""
    good = make("run")
    good.run(lambda _: None, stop=lambda: good.step == 2)
    before = {key: value.clone() for key, value in weights(good).items()}
    levels = np.full((len(material.recordings), 1, 48, 32), np.nan, np.float16)
    bad = Trainer(recipe, Material([Part(material.recordings, levels)]), good.folder)
    assert bad.resume()
    with pytest.raises(TrainingError, match=r"loss is nan at step 2; lower optimiser\.rate=0\.005 and go on from .*pt"):
        bad.run(lambda _: None)
    again = make("run")
    assert again.resume()
    assert again.step == 2
    assert all(torch.equal(value, before[key]) for key, value in weights(again).items())


def test_rate_that_is_far_too_high_stops_the_run(make: Make) -> None:
    trainer = make(n_steps=200, rate=1e30, warm_up=0.0)
    with pytest.raises(
        TrainingError, match=r"(loss|length of the gradient) is (nan|inf) at step \d+, before the first"
    ):
        trainer.run(lambda _: None)
    assert not trainer.checkpoint.exists()
