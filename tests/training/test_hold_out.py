"""`mird train --hold-out`: sources in the place of the recipe's, none, and those that are not there."""

import csv
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mird.daemon.cli import main
from mird.training.manifest import Recording

pytestmark = pytest.mark.system


def test_others_take_the_place_of_the_recipes(trained: Any, orchestra: Path, tmp_path: Path) -> None:
    """As far as the split: the damaged checkpoint comes after it."""
    (tmp_path / "checkpoint.pt").touch()
    command = ["train", orchestra, "--recipe", trained.recipe, "--cache", trained.cache, "--out", tmp_path, "--resume"]
    assert main([*map(str, command), "--hold-out", "hall, noise"]) == 10
    with (tmp_path / "split.csv").open(newline="") as file:
        sources = {(row["part"], row["source"]) for row in csv.DictReader(file)}
    assert sources == {("training", "attic"), ("calibration", "hall"), ("calibration", "noise")}


def test_a_folder_of_one_source_is_trained_on_with_none_held_out(
    mird: Callable[..., subprocess.CompletedProcess[str]],
    trained: Any,
    recordings_of_orchestra: Sequence[Recording],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for recording in recordings_of_orchestra:
        if recording.source == "hall":
            (tmp_path / "set" / recording.label).mkdir(parents=True, exist_ok=True)
            shutil.copy(recording.path, tmp_path / "set" / recording.label)
    command = ["train", tmp_path / "set", "--recipe", trained.recipe, "--out", tmp_path / "run", "--steps", "2"]
    assert main([*map(str, command)]) == 10
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert line == (
        "mird: error: held-out source attic does not occur in the manifest; there are: set; choose among them with "
        "--hold-out, or hold out none with --hold-out none"
    )
    done = mird(*command, "--hold-out", "none")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["recipe"]["data"]["held_out_sources"] == []
    assert (tmp_path / "run" / "encoder-int8.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hold-out", "hall,"], "--hold-out 'hall,': must be names of sources with commas between, or 'none'"),
        (["--hold-out", ""], "--hold-out '': must be names of sources"),
        (["--hold-out", "none,hall"], "held-out source none does not occur in the manifest"),
        (["--hold-out", "hall", "--reproduce", "table3"], "split by class; leave it out with --reproduce"),
    ],
)
def test_mistakes_are_one_line(
    trained: Any, orchestra: Path, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", orchestra, "--recipe", trained.recipe, "--cache", trained.cache, "--out", tmp_path / "run"]
    assert main([*map(str, command), *arguments]) == 10
    assert said in capsys.readouterr().err.splitlines()[-1]
