"""`mird train` from a manifest to encoder files, interrupted and gone on with, and every way of starting it wrongly."""

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile
import torch

from mird.daemon.cli import main
from mird.kernels.encoder import open_encoder
from mird.kernels.recognizer import Recognizer
from mird.training.audio import read_mono
from mird.training.errors import TrainingError
from mird.training.manifest import Recording, read_manifest
from mird.training.recipe import read_recipe
from mird.training.run import check_machine, check_start, load_data, train

PROGRAM = Path(sys.executable).with_name("mird")

pytestmark = pytest.mark.system


def test_run_leaves_both_encoders_and_a_report(trained: Any) -> None:
    assert {path.name for path in trained.folder.iterdir()} == {
        "checkpoint.pt",
        "encoder.onnx",
        "encoder-int8.onnx",
        "run.json",
        "split.csv",
    }
    report = json.loads((trained.folder / "run.json").read_text())
    assert (report["name"], report["steps"]) == ("tiny", 240)
    assert (report["n_clips"], report["n_windows"], report["n_classes"], report["n_sources"]) == (44, 44, 7, 2)
    assert report["recipe"]["data"]["held_out_sources"] == ["attic"]
    assert report["fingerprint"] in trained.printed


def test_split_says_what_each_clip_was_for(trained: Any, orchestra: Path) -> None:
    with (trained.folder / "split.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    parts = {part: [row for row in rows if row["part"] == part] for part in ("training", "calibration")}
    assert len(parts["training"]) == 44
    assert {row["source"] for row in parts["calibration"]} == {"attic"}
    assert "attic" not in {row["source"] for row in parts["training"]}
    assert {row["path"]: row["class"] for row in rows} == {str(r.path): r.label for r in read_manifest(orchestra)}


def test_other_clips_than_before_are_told_of(
    trained: Any, orchestra: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = read_recipe(edited(trained.recipe, tmp_path, "n_steps = 240", "n_steps = 1"))
    fewer = tmp_path / "fewer.csv"
    rows = [f"{r.path},{r.label},{r.source}" for r in read_manifest(orchestra)[1:]]
    fewer.write_text("\n".join(["path,class,source", *rows]) + "\n")
    for manifests, told in (([orchestra], 0), ([orchestra], 0), ([fewer], 1)):
        caplog.clear()
        data = load_data(manifests, [], recipe, trained.cache)
        train(recipe, data, tmp_path / "run", resume=True)
        assert [record.message for record in caplog.records].count(
            f"{tmp_path}/run/split.csv: goes on with other clips than before"
        ) == told  # fmt: skip


@pytest.mark.parametrize(("file", "precision"), [("encoder.onnx", "float32"), ("encoder-int8.onnx", "int8")])
def test_metadata_are_complete(trained: Any, file: str, precision: str) -> None:
    card = open_encoder(trained.folder / file).card
    report = json.loads((trained.folder / "run.json").read_text())
    assert card.name == f"tiny {precision}"
    assert card.front_end == read_recipe(trained.recipe).front_end
    assert card.fingerprint == report["fingerprint"]
    assert card.unknown_threshold == report["unknown_threshold"]
    assert 0 < card.unknown_threshold < 1
    assert card.head.gamma.shape == (80,), "20 numbers of each of four depths"
    assert card.head.gamma.mean() < 0
    assert card.background.shape[1] == 80
    np.testing.assert_allclose(np.linalg.norm(card.background, axis=1), 1.0, rtol=1e-5)
    onnx.checker.check_model(onnx.load(trained.folder / file))


def test_int8_is_close_to_float32(trained: Any, recordings_of_orchestra: tuple[Recording, ...]) -> None:
    windows = np.stack([read_mono(r.path, 16_000) for r in recordings_of_orchestra])
    wide, narrow = (
        Recognizer(open_encoder(trained.folder / name)).embed(windows) for name in ("encoder.onnx", "encoder-int8.onnx")
    )
    np.testing.assert_allclose(np.linalg.norm(narrow, axis=1), 1.0, rtol=1e-4)
    cosines = (wide * narrow).sum(axis=1)
    assert cosines.mean() > 0.98
    assert cosines.min() > 0.88


def test_int8_leaves_out_where_it_loses_most(trained: Any) -> None:
    graph = onnx.load(trained.folder / "encoder-int8.onnx").graph
    makers = {node.output[0]: node.op_type for node in graph.node}
    weights = [makers.get(node.input[1]) for node in graph.node if node.op_type == "Conv"]
    assert weights[:11] == [None] * 11  # stem and first stage
    assert weights[11:-10] == ["DequantizeLinear"] * 32
    assert weights[-10:].count(None) == 5  # three that widen, two that narrow, of the last stage


def test_classes_cluster_in_a_room_that_was_not_trained_on(
    trained: Any, recordings_of_orchestra: tuple[Recording, ...]
) -> None:
    rows = [r for r in recordings_of_orchestra if r.source == "attic"]
    windows = np.stack([read_mono(r.path, 16_000) for r in rows])
    embeddings = Recognizer(open_encoder(trained.folder / "encoder.onnx")).embed(windows)
    cosines = embeddings @ embeddings.T
    same = np.array([[a.label == b.label for b in rows] for a in rows])
    apart = ~np.eye(len(rows), dtype=bool)
    assert cosines[same & apart].mean() > cosines[~same].mean() + 0.3


def test_interrupted_run_goes_on_to_the_same_weights(trained: Any, orchestra: Path, tmp_path: Path) -> None:
    """Ctrl-C at the progress bar; what is resumed ends with the weights of the run that was left alone, bit for bit."""
    folder = tmp_path / "run"
    command = [PROGRAM, "train", orchestra, "--recipe", trained.recipe, "--out", folder, "--cache", trained.cache]
    screen, terminal = pty.openpty()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        try:
            while not re.search(rb"loss \d", shown):
                shown += os.read(screen, 4096)
            process.send_signal(signal.SIGINT)
            while True:
                shown += os.read(screen, 4096)
        except OSError:  # the process has closed its terminal
            pass
        finally:
            os.close(screen)
        assert process.wait(500) == 130, shown.decode()
    stopped = re.search(rb"stopped at step (\d+); go on with --resume", shown)
    assert stopped, shown.decode()
    step = int(stopped.group(1))
    assert 0 < step < 240
    assert {path.name for path in folder.iterdir()} == {"checkpoint.pt", "split.csv"}

    whole, part = (torch.load(each / "checkpoint.pt", weights_only=True) for each in (trained.folder, folder))
    assert (whole["step"], part["step"]) == (240, step)
    recipe = read_recipe(trained.recipe)
    data = load_data([orchestra], [], recipe, trained.cache)
    check_machine("cpu", 1)
    assert train(recipe, data, folder, resume=True).step == 240
    resumed = torch.load(folder / "checkpoint.pt", weights_only=True)
    for module in ("encoder", "classifier", "averaged"):
        differing = [key for key, value in whole[module].items() if not torch.equal(value, resumed[module][key])]
        assert differing == []


@pytest.mark.parametrize(
    ("seed", "said"), [("1", "is of another recipe or other data"), ("-1", "--seed -1: must be at least 0")]
)
def test_a_seed_of_its_own_makes_another_run(
    trained: Any, orchestra: Path, seed: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(orchestra), "--recipe", str(trained.recipe), "--out", str(trained.folder), "--resume"]
    assert main([*command, "--cache", str(trained.cache), f"--seed={seed}"]) == 10
    assert said in capsys.readouterr().err


def test_folder_with_a_checkpoint_is_not_started_anew(
    trained: Any, orchestra: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (trained.folder / "checkpoint.pt").read_bytes()
    assert main(["train", str(orchestra), "--recipe", str(trained.recipe), "--out", str(trained.folder)]) == 10
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        f"mird: error: {trained.folder}/checkpoint.pt exists; go on with --resume, or choose another --out folder"
    ]
    assert (trained.folder / "checkpoint.pt").read_bytes() == before
    check_start(trained.folder, resume=True)


def test_wrong_manifest_and_recipe_are_named_in_one_line(
    trained: Any, orchestra: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", str(tmp_path / "gone.csv"), "--recipe", str(trained.recipe), *out]) == 10
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"mird: error: {tmp_path}/gone.csv: cannot read the manifest")
    assert main(["train", str(orchestra), "--recipe", "best", *out]) == 10
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"mird: error: .*recipes/best\.toml: cannot read the recipe: No such file or directory", line)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("device", "threads", "said"),
    [
        ("cpu", 0, "--threads 0: must be at least 1"),
        ("piano", 1, "--device piano: cannot be used here"),
        pytest.param("cuda:99", 1, "--device cuda:99: cannot be used here"),
    ],
)
def test_machine_that_is_not_here(device: str, threads: int, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        check_machine(device, threads)


def edited(recipe: Path, folder: Path, old: str, new: str) -> Path:
    path = folder / "edited.toml"
    text = recipe.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"attic"', '"atic"', "held-out source atic does not occur"),
        ('["attic"]', '["attic"]\nheld_out_classes = ["viola"]', "held-out class viola does not occur"),
        ('["attic"]', '["attic", "hall", "noise"]', "nothing is left to train on"),
        ('["attic"]', '["attic", "hall"]', "two instruments need 2 training clips.*there are 0: none"),
        ('["attic"]', '["noise"]', "two instruments need 2 held-out clips"),
        ("shots = [1, 2]", "shots = [1, 9]", "two instruments need 9 training clips"),
    ],
)
def test_what_could_not_be_fitted_is_refused_before_training(
    trained: Any, orchestra: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    recipe = read_recipe(edited(trained.recipe, tmp_path, old, new))
    with pytest.raises(TrainingError, match=said):
        load_data([orchestra], [], recipe, tmp_path / "cache")


def test_held_out_class_is_in_no_part(trained: Any, orchestra: Path, tmp_path: Path) -> None:
    path = edited(trained.recipe, tmp_path, '["attic"]', '["attic"]\nheld_out_classes = ["bell"]')
    data = load_data([orchestra], [orchestra], read_recipe(path), tmp_path / "cache")
    labels = {r.label for r in data.material.recordings}
    assert labels == {"flute", "horn", "oboe", "pluck", "reed", "_hiss"}
    assert {r.source for r in data.held_out.recordings} == {"attic"}
    weights = dict(zip([id(r) for r in data.material.recordings], data.material.weights, strict=True))
    assert set(weights.values()) == {1.0, 0.25}  # rendered clips count for less


def test_silent_clips_are_left_out_and_named(trained: Any, orchestra: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(8_000), 16_000)
    manifest = tmp_path / "more.csv"
    manifest.write_text("path,class,source\nsilent.wav,bell,hall\n")
    data = load_data([orchestra, manifest], [], read_recipe(trained.recipe), tmp_path / "cache")
    assert [r.path for r in data.silent] == [tmp_path / "silent.wav"]
    assert tmp_path / "silent.wav" not in {r.path for r in data.material.recordings}


def test_classes_of_one_clip_are_named(
    trained: Any, orchestra: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first step: here a damaged checkpoint comes after it."""
    rows = [f"{orchestra.parent}/hall/bell-{take}.flac,{label},{source}" for take, label, source in (
        (0, "gong", "hall"), (1, "zither", "hall"), (2, "anvil", "attic"), (3, "zither", "attic"),
    )]  # fmt: skip
    manifest = tmp_path / "more.csv"
    manifest.write_text("\n".join(["path,class,source", *rows]))
    (tmp_path / "checkpoint.pt").touch()
    command = ["train", orchestra, manifest, "--recipe", trained.recipe, "--out", tmp_path, "--resume"]
    assert main([*map(str, command)]) == 10
    found = [line for line in capsys.readouterr().err.splitlines() if "only one clip" in line]
    assert found == ["only one clip: gong, zither (training); anvil, zither (held out)"]
    data = load_data([orchestra], [], read_recipe(trained.recipe), trained.cache)
    assert data.single() == ""
