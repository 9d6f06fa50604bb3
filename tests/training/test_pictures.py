"""The picture cache: computed once, keyed by all that decides a picture, and safe against what happens to files."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mird.kernels.frontend import FrontEnd
from mird.kernels.image import decibels
from mird.kernels.scalogram import open_scalogram
from mird.training.audio import read_mono
from mird.training.compose import ComposeSettings
from mird.training.errors import TrainingError
from mird.training.manifest import Recording
from mird.training.pictures import CACHE_RANGE_DB, MOST_WINDOWS, build_cache


class Count:
    """Counts calls of a progress callback by what they tell."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, str]] = []

    def __call__(self, done: int, total: int, what: str) -> None:
        self.calls.append((done, total, what))


@pytest.fixture
def some(recordings_of_orchestra: tuple[Recording, ...]) -> tuple[Recording, ...]:
    return tuple(r for r in recordings_of_orchestra if r.label in ("horn", "oboe", "_hiss"))[:28:3]


def test_levels_are_the_recognizer_s(some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path) -> None:
    levels, numbers = build_cache(some, front_end, tmp_path, n_composed=2, seed=0)
    assert levels.shape == (len(some), 3, 48, 32)
    assert levels.dtype == np.float16
    assert numbers.tolist() == list(range(len(some)))
    clips = np.stack([read_mono(r.path, front_end.rate_hz) for r in some])
    wanted = decibels(open_scalogram(front_end)(clips), CACHE_RANGE_DB)
    np.testing.assert_allclose(levels[:, 0], wanted, atol=0.04)
    assert levels.max() == 0
    assert levels.min() >= -CACHE_RANGE_DB
    assert not any(np.array_equal(levels[i, 0], levels[i, v]) for i in range(len(some)) for v in (1, 2))


def test_second_call_reads_what_the_first_computed(
    some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path
) -> None:
    first, again = Count(), Count()
    levels, numbers = build_cache(some, front_end, tmp_path, n_composed=1, seed=0, progress=first)
    kept, kept_numbers = build_cache(some, front_end, tmp_path, n_composed=1, seed=0, progress=again)
    assert {what for _, _, what in first.calls} == {"reading clips", "computing pictures"}
    assert first.calls[-1][:2] == (len(some), len(some))
    assert not again.calls
    np.testing.assert_array_equal(kept, levels)
    np.testing.assert_array_equal(kept_numbers, numbers)


@pytest.mark.parametrize("change", ["front end", "seed", "settings", "composed", "clips"])
def test_all_that_decides_a_picture_is_in_the_key(
    some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path, change: str
) -> None:
    build_cache(some, front_end, tmp_path, n_composed=1, seed=0)
    count = Count()
    build_cache(
        some[1:] if change == "clips" else some,
        replace(front_end, n_scales=47) if change == "front end" else front_end,
        tmp_path,
        n_composed=2 if change == "composed" else 1,
        seed=1 if change == "seed" else 0,
        settings=ComposeSettings(room=0.0) if change == "settings" else None,
        progress=count,
    )
    assert count.calls
    assert len(list(tmp_path.glob("levels-*.windows.npy"))) == 2


def test_seed_decides_everything(some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path) -> None:
    one, _ = build_cache(some, front_end, tmp_path / "1", n_composed=2, seed=7)
    two, _ = build_cache(some, front_end, tmp_path / "2", n_composed=2, seed=7)
    np.testing.assert_array_equal(one, two)


def test_partial_file_of_an_interrupted_run_is_written_anew(
    some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path
) -> None:
    wanted, _ = build_cache(some, front_end, tmp_path, n_composed=0, seed=0)
    (target,) = (path for path in tmp_path.glob("levels-*.npy") if "windows" not in path.name)
    wanted = np.array(wanted)
    target.with_suffix(".partial").write_bytes(b"half of it")
    target.unlink()
    levels, _ = build_cache(some, front_end, tmp_path, n_composed=0, seed=0)
    np.testing.assert_array_equal(levels, wanted)
    assert not list(tmp_path.glob("*.partial"))


def test_interrupt_leaves_nothing_that_counts(some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if what == "computing pictures" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(some, front_end, tmp_path, n_composed=0, seed=0, progress=interrupt)
    assert not list(tmp_path.glob("*.npy"))
    levels, _ = build_cache(some, front_end, tmp_path, n_composed=0, seed=0)
    assert (levels.max(axis=(1, 2, 3)) == 0).all()


@pytest.mark.parametrize("which", ["levels", "numbers"])
def test_damaged_cache_is_named(some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path, which: str) -> None:
    build_cache(some, front_end, tmp_path, n_composed=0, seed=0)
    for path in tmp_path.glob("levels-*.npy"):
        if ("windows" in path.name) == (which == "numbers"):
            path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(TrainingError, match=r"levels-.*: damaged picture cache: .*; remove it"):
        build_cache(some, front_end, tmp_path, n_composed=0, seed=0)


def test_cache_that_cannot_be_written(some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"cannot write the picture cache: .*; choose another folder with --cache"):
        build_cache(some, front_end, tmp_path / "file" / "cache", n_composed=0, seed=0)


def test_silent_clips_are_told_apart(some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(4000), 16_000)
    shutil.copy(some[0].path, tmp_path / "loud.flac")
    rows = [Recording(tmp_path / name, "horn", "hall", name) for name in ("silent.wav", "loud.flac")]
    levels, numbers = build_cache(rows, front_end, tmp_path, n_composed=2, seed=0)
    assert numbers.tolist() == [1]
    assert (levels.max(axis=(2, 3)) == 0).all()


def test_sounds_that_are_no_instruments_alone(
    recordings_of_orchestra: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path
) -> None:
    hisses = [r for r in recordings_of_orchestra if not r.is_instrument]
    levels, _ = build_cache(hisses, front_end, tmp_path, n_composed=3, seed=0)
    assert levels.shape[:2] == (8, 4)


def test_clips_of_other_lengths_and_rates(play: Callable[..., np.ndarray], front_end: FrontEnd, tmp_path: Path) -> None:
    second = front_end.window / front_end.rate_hz
    for name, n_windows, rate_hz in (("short.wav", 0.1, 16_000), ("long.wav", 3.0, 48_000)):
        soundfile.write(tmp_path / name, play("flute", 0, "hall", n_windows * second, rate_hz), rate_hz)
    rows = [Recording(tmp_path / name, "flute", "hall", name) for name in ("short.wav", "long.wav")]
    levels, numbers = build_cache(rows, front_end, tmp_path, n_composed=1, seed=0)
    assert numbers[0] == 0
    assert set(numbers[1:]) == {1}
    assert 3 <= len(numbers) - 1 <= 6
    assert levels.shape == (len(numbers), 2, 48, 32)
    assert len(np.unique(np.array(levels[:, 0]).reshape(len(numbers), -1), axis=0)) == len(numbers)


def test_sound_after_a_silent_second_is_found(
    play: Callable[..., np.ndarray], front_end: FrontEnd, tmp_path: Path
) -> None:
    note = play("flute", 0, "hall", front_end.window / front_end.rate_hz, front_end.rate_hz)
    late = np.concatenate([np.zeros(3 * front_end.window, np.float32), note, np.zeros(front_end.window, np.float32)])
    for name, samples in (("late.wav", late), ("note.wav", note)):
        soundfile.write(tmp_path / name, samples, front_end.rate_hz, subtype="FLOAT")
    rows = [Recording(tmp_path / name, "flute", "hall", name) for name in ("late.wav", "note.wav")]
    levels, numbers = build_cache(rows, front_end, tmp_path, n_composed=0, seed=0)
    assert set(numbers) == {0, 1}
    assert (levels.max(axis=(1, 2, 3)) == 0).all()
    assert np.abs(levels[0, 0].astype(np.float32) - levels[-1, 0]).mean() < 3


def test_long_recording_has_no_more_windows_than_are_useful(
    play: Callable[..., np.ndarray], front_end: FrontEnd, tmp_path: Path
) -> None:
    note = play("flute", 0, "hall", front_end.window / front_end.rate_hz, front_end.rate_hz)
    soundfile.write(tmp_path / "long.wav", np.tile(note, 80), front_end.rate_hz)
    rows = [Recording(tmp_path / "long.wav", "flute", "hall", "long")]
    _, numbers = build_cache(rows, front_end, tmp_path, n_composed=0, seed=0)
    assert numbers.tolist() == [0] * MOST_WINDOWS


def test_nothing_that_sounds(front_end: FrontEnd, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(4000), 16_000)
    (tmp_path / "bad.flac").write_bytes(b"no sound")
    rows = [Recording(tmp_path / name, "horn", "hall", name) for name in ("silent.wav", "bad.flac")]
    with pytest.raises(TrainingError, match=r"no recording can be used: .*, as .*silent\.wav is"):
        build_cache(rows, front_end, tmp_path, n_composed=0, seed=0)


def test_unreadable_clip_does_not_sound(some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path) -> None:
    (tmp_path / "bad.flac").write_bytes(b"no sound")
    rows = [*some, Recording(tmp_path / "bad.flac", "horn", "hall", "bad")]
    levels, numbers = build_cache(rows, front_end, tmp_path, n_composed=1, seed=0)
    assert numbers.tolist() == list(range(len(some)))
    assert levels.shape[0] == len(some)
