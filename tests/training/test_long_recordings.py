"""Recordings that are longer than a window, or silent at first, from the manifest to the report and the tables."""

import csv
import json
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mird.kernels.frontend import FrontEnd
from mird.training.contenders import OwnContender
from mird.training.manifest import Recording, read_manifest
from mird.training.paper import draw_pictures
from mird.training.recipe import read_recipe

Wave = np.ndarray


@pytest.fixture
def long_and_late(
    recordings_of_orchestra: Sequence[Recording], play: Callable[..., Wave], front_end: FrontEnd, tmp_path: Path
) -> Path:
    """The orchestra, and of a sixth instrument a take of three windows and one that begins with two silent ones."""
    note = play("horn", 1, "hall", front_end.window / front_end.rate_hz, front_end.rate_hz)
    silence = np.zeros(2 * front_end.window, np.float32)
    for name, samples in (("long", np.tile(note, 3)), ("late", np.concatenate([silence, note]))):
        soundfile.write(tmp_path / f"{name}.wav", samples, front_end.rate_hz, subtype="FLOAT")
    lines = [f"{r.path},{r.label},{r.source},{r.original_name}" for r in recordings_of_orchestra]
    lines += ["long.wav,tuba,hall,long", "late.wav,tuba,attic,late"]
    (tmp_path / "m.csv").write_text("\n".join(["path,class,source,original_name", *lines]) + "\n")
    return tmp_path / "m.csv"


@pytest.mark.system
def test_a_run_counts_clips_and_windows_and_lists_each_clip_once(
    mird: Callable[..., subprocess.CompletedProcess[str]], trained: Any, long_and_late: Path, tmp_path: Path
) -> None:
    done = mird("train", long_and_late, "--recipe", trained.recipe, "--steps", "2", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "run.json").read_text())
    assert report["n_clips"] == 45
    assert 47 <= report["n_windows"] <= 50
    assert report["n_silent_left_out"] == 0
    with (tmp_path / "run" / "split.csv").open(newline="") as file:
        parts = {(Path(row["path"]).name, row["part"]) for row in csv.DictReader(file)}
    assert {("long.wav", "training"), ("late.wav", "calibration")} <= parts
    with (tmp_path / "run" / "split.csv").open(newline="") as file:
        assert max(Counter(row["path"] for row in csv.DictReader(file)).values()) == 1
    assert "only one clip: tuba (training); tuba (held out)" in done.stderr


def test_tables_know_each_recording_once_and_by_its_first_window_that_sounds(
    trained: Any, long_and_late: Path, tmp_path: Path, front_end: FrontEnd
) -> None:
    recipe = read_recipe(trained.recipe)
    ours = OwnContender(recipe, [long_and_late], [], ["tuba", "horn"], tmp_path, tmp_path / "cache", "cpu", "tiny")
    recordings, pixels, left_out = ours.recordings("scalogram")
    assert Counter(r.label for r in recordings) == {"horn": 12, "tuba": 2}
    assert not left_out
    late = next(i for i, r in enumerate(recordings) if r.path.name == "late.wav")
    played = next(i for i, r in enumerate(recordings) if r.path.name == "long.wav")
    apart = np.abs(pixels.astype(np.float32)[:, None] - pixels.astype(np.float32)[None]).mean(2)
    np.fill_diagonal(apart, np.inf)
    assert apart[late].argmin() == played

    rows = [r for r in read_manifest(long_and_late) if r.label == "tuba"]
    pictures, _ = draw_pictures(rows, front_end, tmp_path / "colours")
    first, second = (entries.astype(np.float32) for entries in pictures.entries)
    assert pictures.recordings == tuple(rows)
    assert np.abs(first - second).mean() < 0.1 * first.max()
