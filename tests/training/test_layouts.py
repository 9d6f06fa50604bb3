"""Data sets that are folders, and mixes in IRMAS' manner."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mird.daemon.cli import main
from mird.training.errors import TrainingError
from mird.training.layouts import read_folder, read_recordings
from mird.training.manifest import Recording, read_manifest
from mird.training.mix import mix_excerpts
from mird.training.recipe import read_recipe
from mird.training.run import load_data


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    """As the paper's Kaggle set."""
    folder = touched(tmp_path / "kaggle", "French Horn/a.wav", "French Horn/deep/b.WAV", "Sax_Alto/c.mp3",
                     "Flute/notes.txt",                     "Flute/.hidden.wav", "readme.md", ".git/d.wav")  # fmt: skip
    found = read_recordings(folder)
    assert [(r.path.relative_to(folder).as_posix(), r.label, r.source) for r in found] == [
        ("French Horn/a.wav", "french-horn", "kaggle"),
        ("French Horn/deep/b.WAV", "french-horn", "kaggle"),
        ("Sax_Alto/c.mp3", "sax-alto", "kaggle"),
    ]
    assert len({r.take for r in found}) == 3


def test_irmas_s_codes_and_file_names(tmp_path: Path) -> None:
    folder = touched(tmp_path / "IRMAS", "cel/[cel][cla]0008__1.wav", "cel/[cel][cla]0008__2.wav", "cel/008__1.wav",
                     "gel/[gel][dru][pop_roc]0829__3.wav", "voi/[voi][jaz_blu]2363__1.wav")  # fmt: skip
    found = read_folder(folder)
    assert Counter(r.label for r in found) == {"cello": 3, "guitar-electric": 1, "voice": 1}
    parts = {r.path.name: r.take for r in found}
    assert parts["[cel][cla]0008__1.wav"] == parts["[cel][cla]0008__2.wav"] != parts["008__1.wav"]


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="has no folder with recordings in it; wanted is one folder for each class"):
        read_recordings(touched(tmp_path / "empty", "a.wav", "notes/b.txt"))


@pytest.fixture(scope="module")
def notes(orchestra: Path) -> tuple[Recording, ...]:
    """The orchestra's notes under names that IRMAS knows, and one that it does not."""
    names = {"bell": "piano", "flute": "flute", "horn": "cello", "oboe": "oboe"}
    return tuple(
        Recording(r.path, names[r.label], r.source, r.take, r.original_name)
        for r in read_manifest(orchestra)
        if r.label in names
    )


def test_mixes_are_irmas_like_and_hang_on_their_seed(notes: tuple[Recording, ...], tmp_path: Path) -> None:
    manifest = mix_excerpts(notes, tmp_path / "one", n_each=4, seed=5)
    rows = read_manifest(manifest)
    assert Counter(r.label for r in rows) == {"piano": 4, "flute": 4, "cello": 4}
    assert {r.source for r in rows} <= {"hall", "attic"}
    assert {r.path.name for r in rows if r.label == "flute"} == {
        "[flu][mix]0001__1.flac", "[flu][mix]0001__2.flac", "[flu][mix]0001__3.flac", "[flu][mix]0002__1.flac",
    }  # fmt: skip
    assert len({r.take for r in rows if r.label == "flute"}) == 2
    sounds = [soundfile.read(r.path) for r in rows]
    assert all((len(samples), rate_hz) == (132_300, 44_100) for samples, rate_hz in sounds)
    assert all(np.abs(samples).max() == pytest.approx(0.7, abs=0.01) for samples, _ in sounds)
    # The layout says the same as the manifest.
    assert sorted((r.path, r.label) for r in read_folder(tmp_path / "one")) == sorted((r.path, r.label) for r in rows)
    again = read_manifest(mix_excerpts(notes, tmp_path / "two", n_each=4, seed=5))
    assert [r.path.read_bytes() for r in again] == [r.path.read_bytes() for r in rows]
    other = read_manifest(mix_excerpts(notes, tmp_path / "three", n_each=1, seed=6))
    assert other[0].path.read_bytes() != rows[0].path.read_bytes()


def test_mixes_need_classes(notes: tuple[Recording, ...], tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"mixes need a class of IRMAS .* and two others; there are, with sound: cello, oboe"
    ):
        mix_excerpts([r for r in notes if r.label in ("oboe", "cello")], tmp_path, n_each=1, seed=0)


def test_mix_command(orchestra: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mix", str(orchestra), "--out", str(tmp_path / "mix"), "--each", "1"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/mix/manifest.csv\n"
    assert [r.label for r in read_manifest(tmp_path / "mix" / "manifest.csv")] == ["flute"]
    assert main(["mix", str(orchestra), "--out", str(tmp_path / "mix"), "--each", "0"]) == 10
    assert capsys.readouterr().err == "mird: error: --each 0: must be at least 1\n"


def test_mixes_leave_out_what_is_damaged_or_silent_and_say_so(
    orchestra: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a player's clips the others are played; a class of which none is left is not mixed at all."""
    folder = tmp_path / "set"
    for name in ("cello", "flute"):
        (folder / name).mkdir(parents=True)
    soundfile.write(folder / "cello" / "mute.wav", np.zeros(16_000), 16_000)
    (folder / "flute" / "torn.wav").write_bytes(b"RIFF and no more")
    assert main(["mix", str(orchestra), str(folder), "--out", str(tmp_path / "mix"), "--each", "2"]) == 0
    silent, torn = capsys.readouterr().err.splitlines()
    assert silent == f"left out, without sound: {folder}/cello/mute.wav"
    assert torn.startswith(f"left out: {folder}/flute/torn.wav: cannot read the sound")
    rows = read_manifest(tmp_path / "mix" / "manifest.csv")
    assert [r.label for r in rows] == ["flute", "flute"]
    alone = read_manifest(mix_excerpts(read_manifest(orchestra), tmp_path / "alone", n_each=2, seed=1))
    assert [r.path.read_bytes() for r in rows] == [r.path.read_bytes() for r in alone]

    assert main(["mix", str(folder), "--out", str(tmp_path / "none")]) == 10
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith("mird: error: mixes need a class of IRMAS")
    assert error.endswith("there are, with sound: none")


def test_training_leaves_damaged_clips_out_and_names_them(trained: Any, orchestra: Path, tmp_path: Path) -> None:
    """From a folder for each class, computed and from the cache."""
    folder = tmp_path / "set"
    (folder / "bell").mkdir(parents=True)
    (folder / "bell" / "broken.wav").write_bytes(b"RIFF and no more")
    soundfile.write(folder / "bell" / "silent.wav", np.zeros(8_000), 16_000)
    for _ in range(2):
        data = load_data([orchestra, folder], [], read_recipe(trained.recipe), tmp_path / "cache")
        (line,) = data.damaged
        assert line.startswith(f"{folder}/bell/broken.wav: cannot read the sound")
        assert [r.path.name for r in data.silent] == ["silent.wav"]
        assert not {r.path.name for r in data.material.recordings} & {"broken.wav", "silent.wav"}
