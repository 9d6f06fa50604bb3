"""A suite's rows of which one has too few clips: said before any sound is read, or beside the others' figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from mird.daemon.cli import main
from mird.training.manifest import read_manifest

SUITE = """
[pool]
manifest = "manifest.csv"
[[row]]
section = "Rooms"
name = "three"
queries = "manifest.csv"
classes = ["flute", "horn", "reed"]
shots = [2]
[[row]]
section = "Rooms"
name = "two"
queries = "manifest.csv"
classes = ["bell", "oboe"]
shots = [9, 1]
targets = [99.9, 0.1]
each_window = EACH
"""


def folder_of(orchestra: Path, folder: Path, n_torn: int, *, each: bool = False, n_bells: int = 12) -> Path:
    """The orchestra's manifest with some bells, of which some are damaged, and the suite beside it."""
    folder.mkdir()
    torn = folder / "torn"
    torn.mkdir()
    lines, bells = ["path,class,source"], 0
    for row in read_manifest(orchestra):
        path = row.path
        if row.label == "bell":
            bells += 1
            if bells > n_bells:
                continue
            if bells <= n_torn:
                path = torn / path.with_suffix(f".{bells}.flac").name
                path.write_bytes(b"fLaC and no more")
        lines.append(f"{path},{row.label},{row.source}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    (folder / "rows.toml").write_text(SUITE.replace("EACH", str(each).lower()))
    return folder


def evaluate(folder: Path, trained: Any, *options: str) -> int:
    engine = ["--engine", str(trained.folder / "encoder.onnx"), "--no-live", "--episodes", "3"]
    return main(["evaluate", str(folder), "--suite", str(folder / "rows.toml"), *engine, *options])


def test_a_row_that_damage_left_too_little_is_said_and_the_others_are_measured(
    orchestra: Path, trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nine shots beside a query need ten bells, one shot needs two, and eight are whole."""
    folder, out = folder_of(orchestra, tmp_path / "data", 4), tmp_path / "out"
    assert evaluate(folder, trained, "--json", "--out", str(out)) == 0
    printed = capsys.readouterr()
    *left_out, missed, _ = printed.err.splitlines()
    assert [line.partition(":")[0] for line in left_out] == 4 * ["left out"]
    why = "row 'two': class bell has too few clips for 9 shots beside a query"
    assert missed == f"not measured: {why}"
    three, two = json.loads(printed.out)["rows"]
    assert (len(three["figures"]), three["not_measured"]) == (1, [])
    assert [figures["shot"] for figures in two["figures"]] == [1]
    assert two["not_measured"] == [{"shot": 9, "why": why}]
    report = (out / "report.md").read_text()
    assert f"| two | 9 | not measured: {why} |" in report
    assert "0.1: reached" in report  # the target of one shot, not of nine
    assert "99.9" not in report


def test_where_no_row_is_left(
    orchestra: Path, trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(orchestra, tmp_path / "data", 12)
    text = (folder / "rows.toml").read_text()
    head, _, two = text.split("[[row]]")
    (folder / "rows.toml").write_text(f"{head}[[row]]{two}")
    assert evaluate(folder, trained) == 10
    assert capsys.readouterr().err == (
        "mird: error: no row can be measured, with 12 clips damaged or without sound: row 'two': class bell has no "
        "recording that can be used\n"
    )


@pytest.mark.parametrize(
    ("each", "n_bells", "said"),
    [
        (False, 7, "class bell has too few clips for 9 shots beside a query"),
        (True, 1, "class bell has too few clips for 9 shots beside a query"),
        (True, 0, "class bell has no recording that can be used"),
    ],
)
def test_too_few_clips_in_the_manifest_are_said_before_any_is_read(
    orchestra: Path,
    trained: Any,
    tmp_path: Path,
    each: bool,
    n_bells: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Damaged ones count here, which nothing but reading tells."""
    folder = folder_of(orchestra, tmp_path / "data", n_bells, each=each, n_bells=n_bells)
    assert evaluate(folder, trained) == 10
    assert capsys.readouterr().err == f"mird: error: row 'two': {said}\n"


def test_a_row_with_one_class(
    orchestra: Path, trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(orchestra, tmp_path / "data", 0)
    text = (folder / "rows.toml").read_text()
    (folder / "rows.toml").write_text(text.replace('["bell", "oboe"]', '["bell"]'))
    assert evaluate(folder, trained) == 10
    said = "needs 2 classes with queries and support, there are 1: bell"
    assert capsys.readouterr().err == f"mird: error: row 'two': {said}\n"
