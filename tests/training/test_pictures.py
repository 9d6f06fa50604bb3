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
from mird.training.pictures import CACHE_RANGE_DB, build_cache


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
    levels, sounding = build_cache(some, front_end, tmp_path, n_composed=2, seed=0)
    assert levels.shape == (len(some), 3, 48, 32)
    assert levels.dtype == np.float16
    assert sounding.all()
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
    levels, sounding = build_cache(some, front_end, tmp_path, n_composed=1, seed=0, progress=first)
    kept, kept_sounding = build_cache(some, front_end, tmp_path, n_composed=1, seed=0, progress=again)
    assert {what for _, _, what in first.calls} == {"reading clips", "computing pictures"}
    assert first.calls[-1][:2] == (len(some), len(some))
    assert not again.calls
    np.testing.assert_array_equal(kept, levels)
    np.testing.assert_array_equal(kept_sounding, sounding)


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
    assert len(list(tmp_path.glob("levels-*.sounding.npy"))) == 2


def test_seed_decides_everything(some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path) -> None:
    one, _ = build_cache(some, front_end, tmp_path / "1", n_composed=2, seed=7)
    two, _ = build_cache(some, front_end, tmp_path / "2", n_composed=2, seed=7)
    np.testing.assert_array_equal(one, two)


def test_partial_file_of_an_interrupted_run_is_written_anew(
    some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path
) -> None:
    wanted, _ = build_cache(some, front_end, tmp_path, n_composed=0, seed=0)
    (target,) = (path for path in tmp_path.glob("levels-*.npy") if "sounding" not in path.name)
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


@pytest.mark.parametrize("which", ["levels", "flags"])
def test_damaged_cache_is_named(some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path, which: str) -> None:
    build_cache(some, front_end, tmp_path, n_composed=0, seed=0)
    for path in tmp_path.glob("levels-*.npy"):
        if ("sounding" in path.name) == (which == "flags"):
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
    levels, sounding = build_cache(rows, front_end, tmp_path, n_composed=2, seed=0)
    assert sounding.tolist() == [False, True]
    assert (levels[0] == -CACHE_RANGE_DB).all()
    assert (levels[1].max(axis=(1, 2)) == 0).all()


def test_sounds_that_are_no_instruments_alone(
    recordings_of_orchestra: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path
) -> None:
    hisses = [r for r in recordings_of_orchestra if not r.is_instrument]
    levels, _ = build_cache(hisses, front_end, tmp_path, n_composed=3, seed=0)
    assert levels.shape[:2] == (8, 4)


def test_clips_of_other_lengths_and_rates(play: Callable[..., np.ndarray], front_end: FrontEnd, tmp_path: Path) -> None:
    for name, seconds, rate_hz in (("short.wav", 0.1, 16_000), ("long.wav", 2.0, 48_000)):
        soundfile.write(tmp_path / name, play("flute", 0, "hall", seconds, rate_hz), rate_hz)
    rows = [Recording(tmp_path / name, "flute", "hall", name) for name in ("short.wav", "long.wav")]
    levels, sounding = build_cache(rows, front_end, tmp_path, n_composed=1, seed=0)
    assert levels.shape == (2, 2, 48, 32)
    assert sounding.all()


def test_unreadable_clip_does_not_sound(some: tuple[Recording, ...], front_end: FrontEnd, tmp_path: Path) -> None:
    (tmp_path / "bad.flac").write_bytes(b"no sound")
    rows = [*some, Recording(tmp_path / "bad.flac", "horn", "hall", "bad")]
    levels, sounding = build_cache(rows, front_end, tmp_path, n_composed=1, seed=0)
    assert sounding.tolist() == [True] * len(some) + [False]
    assert (levels[-1] == -CACHE_RANGE_DB).all()
