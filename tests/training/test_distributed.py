"""Two processes that train one encoder, by torchrun on this machine's CPU, and TensorBoard's log."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mird.training.distributed import World, join_world

PROGRAM = Path(sys.executable).with_name("mird")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

SCRIPT = """
import sys
from pathlib import Path

import torch
from torch import distributed

from mird.training.distributed import join_world, leave_world
from mird.training.recipe import read_recipe
from mird.training.run import load_data
from mird.training.trainer import Trainer

torch.set_num_threads(1)
manifest, recipe_file, cache, out = map(Path, sys.argv[1:])
world, device = join_world("cpu")
recipe = read_recipe(recipe_file)
data = world.first_then_others(lambda: load_data([manifest], [], recipe, cache))
trainer = Trainer(recipe, data.material, out / "run", device, world)
draws = torch.from_numpy(trainer._sampler.draw()[0])
trainer.run(lambda _: None, stop=lambda: trainer.step == 4 and not world.is_first)
weights = torch.cat([p.detach().flatten() for p in (*trainer.encoder.parameters(), *trainer.classifier.parameters())])
gathered = [[torch.zeros_like(each) for _ in range(2)] for each in (weights, draws)]
for into, each in zip(gathered, (weights, draws)):
    distributed.all_gather(into, each)
if world.is_first:
    torch.save({"weights": gathered[0], "draws": gathered[1], "step": trainer.step}, out / "found.pt")
leave_world(world)
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, check=False, timeout=500, env=environment
    )


@pytest.mark.system
def test_processes_draw_apart_and_stay_together(trained: Any, orchestra: Path, tmp_path: Path) -> None:
    """One of two is told to stop: both do, at the same step, with the same weights."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = run(*TORCHRUN, script, orchestra, trained.recipe, trained.cache, tmp_path)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found["step"] == 4
    assert torch.equal(*found["weights"])
    assert not torch.equal(*found["draws"])
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 4


@pytest.mark.system
def test_command_trains_goes_on_and_exports_once(trained: Any, orchestra: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(trained.recipe.read_text().replace("n_steps = 240", "n_steps = 20"))
    options = (
        "--recipe",
        recipe,
        "--out",
        tmp_path / "run",
        "--cache",
        trained.cache,
        "--tensorboard",
        tmp_path / "log",
    )
    done = run(*TORCHRUN, "--no-python", PROGRAM, "train", orchestra, *options)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "run.json").read_text())
    assert report["steps"] == 20
    assert done.stderr.count(report["fingerprint"]) == 1
    assert (tmp_path / "run" / "encoder-int8.onnx").exists()

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "accuracy", "rate"}
    losses = events.Scalars("loss")
    assert [each.step for each in losses] == [10, 20]
    assert losses[1].value < losses[0].value


def test_one_process_is_a_world_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert join_world("cuda") == (World(0, 1), "cuda")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    world, device = join_world("cpu")
    assert (world, device) == (World(0, 1), "cpu")
    assert world.any(here=True) is True
    assert world.any(here=False) is False
    assert world.first_then_others(lambda: 7) == 7
