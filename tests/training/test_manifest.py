"""Manifests: what is read, what is refused, splits by source."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mird.training.errors import TrainingError
from mird.training.manifest import Recording, choose_by_source, read_manifest, split_by_source

Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.wav").touch()
    (tmp_path / "clips" / "b.wav").touch()
    return tmp_path


def test_paths_are_relative_to_the_manifest_and_other_columns_are_ignored(
    folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    rows = [
        ("remark", "source", "class", "path", "original_name"),
        ("loud", "hall", "viola", "clips/a.wav", "take 1"),
        ("", "hall", "_rain", folder / "clips" / "b.wav", ""),
    ]
    viola, rain = read_manifest(write(folder / "m.csv", rows))
    assert (viola.path, viola.label, viola.source) == (folder / "clips" / "a.wav", "viola", "hall")
    assert (viola.take, viola.original_name, viola.is_instrument) == ("hall/take 1", "take 1", True)
    assert rain.path == folder / "clips" / "b.wav"
    assert (rain.original_name, rain.is_instrument) == ("", False)


def test_byte_order_mark_and_quotes_are_read(folder: Path) -> None:
    text = '\ufeffpath,class,source\r\nclips/a.wav,"alto, saxophone",hall\r\n'
    (folder / "m.csv").write_text(text, encoding="utf-8")
    assert [r.label for r in read_manifest(folder / "m.csv")] == ["alto, saxophone"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "column path, class, source missing"),
        (b"path,class\nclips/a.wav,viola\n", "column source missing"),
        (b"path;class;source\nclips/a.wav;viola;hall\n", "column path, class, source missing"),
        (b"path,class,source\n", "has no rows"),
        (b"path,class,source\nclips/a.wav,,hall\n", r"m\.csv:2: a row needs path, class, source"),
        (b"path,class,source\nclips/a.wav,viola\n", r"m\.csv:2: a row needs"),
        (b"path,class,source\nclips/a.wav,viola,hall\nclips/c.wav,viola,hall\n", r"m\.csv:3: .*c\.wav does not exist"),
        (b"path,class,source\nclips,viola,hall\n", r"clips does not exist"),
        (b"path,class,source\nclips/a.wav,fl\xfbte,hall\n", "not a CSV file in UTF-8"),
    ],
)
def test_bad_manifests(folder: Path, content: bytes, said: str) -> None:
    (folder / "m.csv").write_bytes(content)
    with pytest.raises(TrainingError, match=said):
        read_manifest(folder / "m.csv")


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"gone\.csv: cannot read the manifest: No such file"):
        read_manifest(tmp_path / "gone.csv")
    with pytest.raises(TrainingError, match="Is a directory"):
        read_manifest(tmp_path)


def test_files_need_not_be_looked_for(folder: Path, write: Write) -> None:
    path = write(folder / "m.csv", [("path", "class", "source"), ("gone.wav", "viola", "hall")])
    assert len(read_manifest(path, check_files=False)) == 1


def test_split_by_source(recordings_of_orchestra: tuple[Recording, ...]) -> None:
    kept, away = split_by_source(recordings_of_orchestra, ["attic"])
    assert {r.source for r in kept} == {"hall", "noise"}
    assert {r.source for r in away} == {"attic"}
    assert len(kept) + len(away) == len(recordings_of_orchestra)
    assert split_by_source(recordings_of_orchestra, []) == (recordings_of_orchestra, ())


def test_held_out_source_that_does_not_occur(recordings_of_orchestra: tuple[Recording, ...]) -> None:
    said = r"source atic, cellar does not occur in the manifest; there are: attic, hall, noise; .* with --hold-out none"
    with pytest.raises(TrainingError, match=said):
        split_by_source(recordings_of_orchestra, ["hall", "cellar", "atic"])


def test_of_many_sources_a_few_are_named() -> None:
    rows = [Recording(Path(f"{n}.wav"), "bell", f"room{n}", f"{n}") for n in range(9)]
    with pytest.raises(TrainingError, match=r"there are: room0, room1, room2, room3, room4 and 4 more; "):
        split_by_source(rows, ["hall"])


def test_sources_take_turns_in_a_choice(recordings_of_orchestra: tuple[Recording, ...]) -> None:
    bells = [r for r in recordings_of_orchestra if r.label == "bell"]
    chosen = choose_by_source(bells, 5, 0)
    assert sorted(Counter(r.source for r in chosen).values()) == [2, 3]
    assert len(set(chosen)) == 5
    assert chosen == choose_by_source(bells, 5, 0)
    assert any(chosen != choose_by_source(bells, 5, seed) for seed in range(1, 6))
    assert set(choose_by_source(bells, 100, 0)) == set(bells)
