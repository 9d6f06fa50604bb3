"""The paper's tables, cell by cell: tasks, splits, what is gone on with, and the command."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.daemon.cli import main
from mird.training import contenders
from mird.training.baselines import read_peers
from mird.training.contenders import TRANSFORMS, OwnContender, PairContender
from mird.training.errors import TrainingError
from mird.training.manifest import Recording, read_manifest
from mird.training.material import Material
from mird.training.paper import PaperRecipe
from mird.training.paper_tables import TABLES, Table, list_cells, list_splits, split_classes
from mird.training.protocol import cosine_score, distance_score, draw_tasks, run_rounds
from mird.training.recipe import Recipe, read_recipe
from mird.training.reproduce import reproduce
from mird.training.table_peers import TablePeers
from mird.training.trainer import Trainer

PROGRAM = Path(sys.executable).with_name("mird")


def test_tasks_and_rounds() -> None:
    labels = ["a"] * 6 + ["b"] * 6 + ["c"] * 6
    takes = [str(i // 2) for i in range(18)]
    tasks = draw_tasks(np.random.default_rng(0), labels, takes, ["a", "c"], 1000)
    of, take = np.array(labels), np.array(takes)
    assert set(of[tasks.ravel()]) == {"a", "c"}
    assert (of[tasks[:, 0]] == of[tasks[:, 1]]).all()
    assert (of[tasks[:, 0]] != of[tasks[:, 2]]).all()
    assert (take[tasks[:, 0]] != take[tasks[:, 1]]).all()
    truth: NDArray[np.float32] = np.eye(3, dtype=np.float32)[[0] * 6 + [1] * 6 + [2] * 6]
    for score in (cosine_score(truth), distance_score(truth)):
        outcome = run_rounds(tasks, score, 20)
        assert (outcome.mean, outcome.best) == (1.0, 1.0)
    assert run_rounds(tasks, lambda pairs: np.zeros(len(pairs)), 20).mean == 0.5
    noise = np.random.default_rng(1)
    chance = run_rounds(tasks, lambda pairs: noise.standard_normal(len(pairs)), 20)
    assert chance.mean == pytest.approx(0.5, abs=0.06)
    assert chance.best > chance.mean + 0.05
    with pytest.raises(TrainingError, match="two takes each; too few: a"):
        draw_tasks(np.random.default_rng(0), ["a", "a", "b", "b"], ["1", "1", "1", "2"], ["a", "b"], 5)


def test_splits_leave_no_class_out_and_share_none() -> None:
    for name, table in TABLES.items():
        for n in table.n_training:
            for split in range(5):
                training, testing = split_classes(table.classes, n, split)
                assert (len(training), set(training) | set(testing)) == (n, set(table.classes)), name
                assert not set(training) & set(testing)
            splits = list_splits(table.classes, n, 20)
            assert len({split_classes(table.classes, n, split) for split in splits}) == 20
            assert splits[0] == 0
    with pytest.raises(TrainingError, match=r"7 splits: 4 classes can be split in 6 ways only"):
        list_splits(("a", "b", "c", "d"), 2, 7)
    assert [len(table.classes) for table in TABLES.values()] == [14, 11]


@pytest.fixture
def small_table(monkeypatch: pytest.MonkeyPatch) -> Table:
    """A table of the orchestra's six instruments."""
    paper = {(kind, what): ((90, 70), (95, 80)) for kind in ("residual", "convolutional") for what in TRANSFORMS}
    table = Table(("bell", "flute", "horn", "oboe", "pluck", "reed"), (2, 4), paper)
    monkeypatch.setitem(TABLES, "table3", table)
    return table


def test_table_is_filled_cell_by_cell_and_gone_on_with(
    small_table: Table, paper_recipe: PaperRecipe, orchestra: Path, tmp_path: Path
) -> None:
    rows, folder = read_manifest(orchestra), tmp_path / "out"
    begun: list[str] = []

    def run(stop_at: int | None, recipe: PaperRecipe = paper_recipe) -> Path:
        def stop() -> bool:
            return stop_at is not None and len(begun) > stop_at

        def progress(done: int, total: int, what: str) -> None:
            if ": step" not in what:
                begun.append(what)

        options: dict[str, Any] = {"n_splits": 2, "device": "cpu", "progress": progress, "stop": stop, "n_rounds": 9}
        contender = PairContender(recipe, rows, folder / "cache", "cpu")
        return reproduce("table3", {"paper-tiny": contender}, folder, **options)

    report = run(3).read_text()
    assert begun == ["paper-tiny-scalogram-2-0", "paper-tiny-scalogram-4-0", "paper-tiny-spectrogram-2-0",
                     "paper-tiny-spectrogram-4-0"]  # fmt: skip
    assert len(list((folder / "cells").iterdir())) == 3
    assert [path.name for path in folder.glob("*.pt")] == ["paper-tiny-spectrogram-4-0.pt"]
    assert "not run" in report
    assert "too few pairs of cells" in report

    first = (folder / "cells" / "paper-tiny-scalogram-2-0.json").read_bytes()
    begun.clear()
    report = run(None).read_text()
    assert begun[0] == "paper-tiny-spectrogram-4-0"
    assert len(begun) == 5
    assert (folder / "cells" / "paper-tiny-scalogram-2-0.json").read_bytes() == first
    cell = json.loads(first)
    assert (cell["n_training"], cell["device"], len(cell["testing"])) == (2, "cpu", 4)
    assert 0 < cell["network"]["mean"] < cell["network"]["best"] <= 1  # after four steps: chance, or worse
    assert cell["pixels"]["mean"] > 0.6
    assert cell["mfcc"]["mean"] > 0.6
    assert "| 2 + 4 | 2/2 |" in report
    assert "70 (90)" in report
    assert "Scalogram less spectrogram, over 4 pairs of cells" in report
    assert not list(folder.glob("*.pt"))

    for other in (
        replace(paper_recipe, pairs=replace(paper_recipe.pairs, rate=1e-3)),
        replace(paper_recipe, seed=paper_recipe.seed + 1),
    ):
        with pytest.raises(TrainingError, match="is of another recipe"):
            run(None, other)
    rows = rows[:-1]
    with pytest.raises(TrainingError, match="is of another recipe or other recordings"):
        run(None)
    (folder / "cells" / "paper-tiny-scalogram-2-0.json").write_text("{")
    with pytest.raises(TrainingError, match="damaged cell"):
        run(None)


def test_peers_answer_the_tasks_of_cells_that_are_done(
    small_table: Table, paper_recipe: PaperRecipe, orchestra: Path, tmp_path: Path
) -> None:
    rows, folder = read_manifest(orchestra), tmp_path / "out"
    options: dict[str, Any] = {"n_splits": 1, "rows": [4], "device": "cpu", "progress": lambda *_: None, "n_rounds": 9}
    contender = {"paper-tiny": PairContender(paper_recipe, rows, folder / "cache", "cpu")}
    reproduce("table3", contender, folder, **options)
    cells = sorted((folder / "cells").iterdir())
    before = [json.loads(path.read_text()) for path in cells]

    paths = [path.relative_to(orchestra.parent).as_posix() for path in (row.path for row in rows)]
    labels = sorted({row.label for row in rows})
    rng = np.random.default_rng(0)
    knows = np.eye(len(labels), 8)[[labels.index(row.label) for row in rows]] + 0.05 * rng.standard_normal(
        (len(rows), 8)
    )
    np.savez(tmp_path / "p.npz", path=paths, ear=knows, deaf=rng.standard_normal((len(rows), 8)), mfcc=knows)
    peers = TablePeers(read_peers([tmp_path / "p.npz"]), orchestra.parent, rows)
    report = reproduce("table3", contender, folder, peers=peers, **options).read_text()
    assert "| MFCC | ear | ear, whitened | deaf | deaf, whitened | ran on |" in report
    for path, old in zip(cells, before, strict=True):
        new = json.loads(path.read_text())
        found = new.pop("peers")
        assert new.pop("peer_digests") == peers.digests
        assert set(found) == {"ear", "ear, whitened", "deaf", "deaf, whitened"}
        assert new == old
        assert found["ear"]["mean"] > 0.97
        assert found["ear, whitened"]["mean"] > 0.97
        assert found["deaf"]["mean"] == pytest.approx(0.5, abs=0.1)

    rows_of_report = [line for line in report.splitlines() if line.startswith("| 4 + 2 | 1/1 |")]
    assert len(rows_of_report) == 1
    assert rows_of_report[0].count("not run") == 0

    np.savez(tmp_path / "p.npz", path=paths, ear=rng.standard_normal((len(rows), 8)))
    others = TablePeers(read_peers([tmp_path / "p.npz"]), orchestra.parent, rows)
    reproduce("table3", contender, folder, peers=others, pictures=["spectrogram"], **options)
    means = {path.stem: json.loads(path.read_text())["peers"]["ear"]["mean"] for path in cells}
    assert means["paper-tiny-scalogram-4-0"] > 0.97
    assert means["paper-tiny-spectrogram-4-0"] == pytest.approx(0.5, abs=0.1)
    np.savez(tmp_path / "mfcc.npz", path=paths, mfcc=knows)
    with pytest.raises(TrainingError, match="--peers: no network in it; there is mfcc alone"):
        TablePeers(read_peers([tmp_path / "mfcc.npz"]), orchestra.parent, rows)

    np.savez(tmp_path / "few.npz", path=paths[:40], few=knows[:40])
    few = TablePeers(read_peers([tmp_path / "few.npz"]), orchestra.parent, rows)
    with pytest.raises(TrainingError, match=r"peer few: has no vector of .*; leave out --peers"):
        reproduce("table3", contender, folder, peers=few, **options)


def test_clips_that_are_left_out_are_told_of_once(
    small_table: Table, paper_recipe: PaperRecipe, orchestra: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.flac").write_bytes(b"no sound")
    rows = [*read_manifest(orchestra), Recording(tmp_path / "bad.flac", "horn", "hall", "bad")]
    told: list[str] = []
    options: dict[str, Any] = {"n_splits": 1, "rows": [4], "device": "cpu", "progress": lambda *_: None, "n_rounds": 9}
    contender = {"paper-tiny": PairContender(paper_recipe, rows, tmp_path / "cache", "cpu")}
    report = reproduce("table3", contender, tmp_path, report_left_out=told.append, **options)
    (line,) = told
    assert line.startswith(f"{tmp_path}/bad.flac: ")
    assert f"- {line}" in report.read_text()


@pytest.mark.parametrize(
    ("blocked", "said"),
    [
        ("cache", "cannot write the picture cache: File exists"),
        ("cells", r"paper-tiny-scalogram-4-0\.json: cannot be written: .*; what is done is kept"),
    ],
)
def test_folders_that_cannot_be_written(
    small_table: Table, paper_recipe: PaperRecipe, orchestra: Path, tmp_path: Path, blocked: str, said: str
) -> None:
    (tmp_path / blocked).touch()
    contender = {"paper-tiny": PairContender(paper_recipe, read_manifest(orchestra), tmp_path / "cache", "cpu")}
    options: dict[str, Any] = {"n_splits": 1, "rows": [4], "device": "cpu", "progress": lambda *_: None, "n_rounds": 2}
    with pytest.raises(TrainingError, match=said):
        reproduce("table3", contender, tmp_path, **options)


def test_a_class_of_one_take_is_named_before_any_training(
    small_table: Table, orchestra: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [r for r in read_manifest(orchestra) if r.label != "horn" or r.path.stem in ("horn-0", "horn-1")]
    lines = [f"{r.path},{r.label},here,{'horn' if r.label == 'horn' else r.path.stem}" for r in rows]
    (tmp_path / "one.csv").write_text("\n".join(["path,class,source,original_name", *lines]) + "\n")
    command = ["train", str(tmp_path / "one.csv"), "--reproduce", "table3", "--out", str(tmp_path / "out")]
    assert main(command) == 10
    assert "table3 needs recordings of two takes of each class; of one alone: horn" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_interrupt_while_pictures_are_computed(
    small_table: Table, paper_recipe: PaperRecipe, orchestra: Path, tmp_path: Path
) -> None:
    heard: list[int] = []

    def hear(done: int, total: int, what: str) -> None:
        heard.append(done)
        if done == 3:
            raise KeyboardInterrupt

    contender = PairContender(paper_recipe, read_manifest(orchestra), tmp_path / "cache", "cpu", hear)
    options: dict[str, Any] = {"n_splits": 1, "device": "cpu", "progress": lambda *_: None}
    with pytest.raises(KeyboardInterrupt):
        reproduce("table3", {"paper-tiny": contender}, tmp_path, **options)
    assert heard == [1, 2, 3]
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--rows", "2"], "--rows"),
        (["--splits", "2", "--picture", "scalogram"], "--splits, --picture"),
        (["--peers", "p.npz"], "--peers"),
    ],
)
def test_options_of_the_tables_want_a_table(
    orchestra: Path, tmp_path: Path, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(orchestra), "--out", str(tmp_path / "out"), *arguments]) == 10
    assert f"{named}: of the paper's tables; leave it out, or give --reproduce too" in capsys.readouterr().err


def test_a_command_fills_the_part_of_the_table_that_it_was_asked_for(
    small_table: Table, paper_recipe: PaperRecipe, tmp_path: Path
) -> None:
    shown = {name: PairContender(paper_recipe, [], tmp_path, "cpu") for name in ("one", "other")}
    names = [cell.name for cell in list_cells(small_table, shown, 2, pictures=["spectrogram"], rows=[4])]
    assert names == ["one-spectrogram-4-0", "other-spectrogram-4-0", "one-spectrogram-4-1", "other-spectrogram-4-1"]
    assert len(list_cells(small_table, shown, 2)) == 2 * 2 * 2 * 2
    with pytest.raises(TrainingError, match="row 3: the table trains on 2, 4 classes"):
        list_cells(small_table, shown, 2, rows=[2, 3])


def test_our_recipe_learns_from_the_instruments_outside_the_table_and_never_from_its_test_classes(
    monkeypatch: pytest.MonkeyPatch, trained: Any, orchestra: Path, tmp_path: Path
) -> None:
    """Four of the six instruments are the table; the encoder starts on the other two."""
    table = Table(("bell", "flute", "oboe", "reed"), (2,), {("residual", what): ((90, 70),) for what in TRANSFORMS})
    monkeypatch.setitem(TABLES, "table3", table)
    recipe = read_recipe(trained.recipe)
    recipe = replace(recipe, optimiser=replace(recipe.optimiser, n_steps=6))
    monkeypatch.setattr(contenders, "CELL_STEPS", 5)
    met: list[tuple[str, ...]] = []

    class Watched(Trainer):
        def __init__(self, recipe: Recipe, material: Material, *rest: Any) -> None:
            met.append(tuple(sorted({row.label for row in material.recordings})))
            super().__init__(recipe, material, *rest)

    monkeypatch.setattr(contenders, "Trainer", Watched)
    ours = OwnContender(recipe, [orchestra], [], table.classes, tmp_path, tmp_path / "cache", "cpu", "tiny")
    options: dict[str, Any] = {"n_splits": 2, "device": "cpu", "n_rounds": 9}
    stopped = reproduce("table3", {"tiny": ours}, tmp_path, progress=lambda *_: None, stop=lambda: True, **options)
    assert "| 2 + 2 | 0/0 | not run" in stopped.read_text()
    assert (tmp_path / "start-tiny-scalogram" / "checkpoint.pt").exists()
    met.clear()
    report = reproduce("table3", {"tiny": ours}, tmp_path, progress=lambda *_: None, **options).read_text()
    assert "| 2 + 2 | 2/2 |" in report
    others = ("_hiss", "horn", "pluck")
    assert met.count(others) == 2
    cells = [labels for labels in met if labels != others]
    assert len(cells) == 4
    for split in list_splits(table.classes, 2, 2):
        training, testing = split_classes(table.classes, 2, split)
        assert cells.count(tuple(sorted((*others, *training)))) == 2
        cell = json.loads((tmp_path / "cells" / f"tiny-scalogram-2-{split}.json").read_text())
        assert (cell["training"], cell["testing"]) == (list(training), list(testing))
        assert 0.4 < cell["network"]["mean"] <= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cache", "cells", "report.md", "start-tiny-scalogram", "start-tiny-spectrogram",
    ]  # fmt: skip


@pytest.mark.system
def test_command_is_interrupted_and_says_so(orchestra: Path, tmp_path: Path) -> None:
    """The paper's fourteen classes, of the orchestra's notes."""
    recipe, manifest = tmp_path / "paper-tiny.toml", tmp_path / "fourteen.csv"
    recipe.write_text("[front_end]\nrate_hz = 16000\nwindow = 8000\n[pairs]\nwidth = 2\nn_steps = 100000\n")
    rows = [r for r in read_manifest(orchestra) if r.is_instrument]
    lines = [f"{r.path},{label},here" for i, label in enumerate(TABLES["table3"].classes) for r in rows[i::14]]
    manifest.write_text("\n".join(["path,class,source", *lines]) + "\n")
    command: list[str | Path] = [
        PROGRAM,
        "train",
        manifest,
        "--reproduce",
        "table3",
        "--recipe",
        recipe,
        "--out",
        tmp_path / "out",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not list((tmp_path / "out").glob("cache/*.npz")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=500)
    assert process.returncode == 130, said
    assert printed == f"{tmp_path}/out/report.md\n"
    first, *_, last = said.splitlines()
    assert first.startswith("0 of 30 cells done; paper-tiny-scalogram-2-0")
    assert last == "stopped; the same command goes on from here"
    assert (tmp_path / "out" / "paper-tiny-scalogram-2-0.pt").exists()
    assert "not run" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--splits", "0"], "--splits 0: must be at least 1"),
        (["--seed", "-1"], "--seed -1: must be at least 0"),
        (["--name", "mine"], "--name: a table has no use for it; leave it out with --reproduce"),
        (["--tensorboard", "log"], "--tensorboard: a table has no use for it; leave it out with --reproduce"),
        (["--recipe", "paper-huge"], "recipes/paper-huge.toml: cannot read the recipe"),
        ([], "table3 needs 14 classes; without recordings: cello, clarinet"),
    ],
)
def test_mistakes_are_one_line(
    orchestra: Path, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(orchestra), "--reproduce", "table3", "--out", str(tmp_path / "out"), *arguments]
    assert main(command) == 10
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_rendered_clips_and_torchrun_are_nothing_for_the_papers_recipes(
    small_table: Table,
    orchestra: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["train", str(orchestra), "--reproduce", "table3", "--out", str(tmp_path / "out")]
    assert main([*command, "--rendered", "rendered.csv"]) == 10
    assert "--rendered: the paper's recipes train on the table's recordings alone" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(command) == 10
    assert "start a command for each --picture, not torchrun" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
