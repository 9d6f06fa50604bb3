"""The clip store on a real file system: what is kept, the quota, a disk that is full, and what it costs the caller."""

import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mird.daemon.clip_store import LEAD_S, MOST_S, N_WAITING, ClipStore
from mird.daemon.errors import SettingsError
from mird.daemon.heard import Heard

RATE_HZ = 44_100
UTC_NS = 1_767_225_600_250_000_000
NAME = "20260101T000000.250Z-2-viola_d_amore-e1.flac"


@pytest.fixture
def heard() -> Heard:
    """Twenty seconds of two channels: a ramp, and noise."""
    one = Heard("s1", "desk", (1, 2), RATE_HZ, 1.0, 4)
    ramp = np.linspace(-1, 1, 20 * RATE_HZ, dtype=np.float32)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, len(ramp)).astype(np.float32)
    one.push(np.stack([ramp, noise], axis=1))
    return one


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ClipStore]:
    one = ClipStore(tmp_path / "clips", 500)
    yield one
    one.close()


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def offered(store: ClipStore, heard: Heard, began_s: float, ended_s: float, number: int = 1) -> str:
    """Offer what sounded from so many seconds ago to so many."""
    ago = (round(began_s * RATE_HZ), round(ended_s * RATE_HZ))
    return store.offer(heard, 2, "viola d'amore", f"e{number}", ago, UTC_NS + number * 1_000_000_000 - 10**9)


def test_the_sound_of_an_event_and_a_little_before_it(store: ClipStore, heard: Heard) -> None:
    assert offered(store, heard, 5.0, 2.0) == NAME
    heard.push(np.zeros((RATE_HZ, 2), np.float32))  # later sound does not matter
    until(lambda: store.n_clips == 1)
    path = store.folder / NAME
    samples, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == RATE_HZ
    assert soundfile.info(path).subtype == "PCM_16"
    noise = heard.span(2, round((15.0 - LEAD_S) * RATE_HZ), 18 * RATE_HZ)
    assert samples.shape == noise.shape == (round((3.0 + LEAD_S) * RATE_HZ),)
    np.testing.assert_allclose(samples, noise, atol=1 / 2**15)
    with soundfile.SoundFile(path) as file:
        assert (file.title, file.comment) == ("viola d'amore", "mird, channel 2")
    assert (path.stat().st_mode & 0o777, store.folder.stat().st_mode & 0o777) == (0o600, 0o700)
    assert (store.n_files, store.n_bytes) == (1, path.stat().st_size)


def test_a_label_of_the_longest_letters_makes_a_name_that_a_file_may_have(store: ClipStore, heard: Heard) -> None:
    name = store.offer(heard, 2, "\N{CUNEIFORM SIGN A}" * 64, "0123456789abcdef", (RATE_HZ, 0), UTC_NS)
    until(lambda: store.n_clips + store.n_clips_dropped == 1)
    assert (store.folder / name).stat().st_size > 0


def test_of_a_long_event_the_beginning_is_kept_and_of_one_at_the_start_what_there_is(
    store: ClipStore, heard: Heard
) -> None:
    long, early = offered(store, heard, 18.0, 1.0, 1), offered(store, heard, 20.0, 19.0, 2)
    until(lambda: store.n_clips == 2)
    assert soundfile.info(store.folder / long).duration == pytest.approx(MOST_S + LEAD_S, abs=1e-3)
    assert soundfile.info(store.folder / early).duration == pytest.approx(1.0, abs=1e-3)


def test_sound_that_is_forgotten_is_dropped_counted_and_logged(
    store: ClipStore, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    heard.push(np.zeros((40 * RATE_HZ, 2), np.float32))
    with caplog.at_level(logging.WARNING):
        offered(store, heard, 55.0, 50.0)
        until(lambda: store.n_clips_dropped == 1)
    assert "clip dropped (1 so far): " in caplog.text
    assert "its sound is gone" in caplog.text
    assert list(store.folder.iterdir()) == []


def test_the_oldest_are_removed_to_keep_to_the_quota_over_restarts_too(tmp_path: Path, heard: Heard) -> None:
    store = ClipStore(tmp_path, 2)
    (tmp_path / "not mine.txt").touch()
    names = [offered(store, heard, 6.0, 1.0, number) for number in range(1, 11)]
    until(lambda: store.n_clips == 10)
    store.close()
    left = sorted(path.name for path in tmp_path.glob("*.flac"))
    assert 2 <= len(left) < 10
    assert left == names[-len(left) :], "the newest are left"
    assert store.n_clips_removed == 10 - len(left)
    size = sum((tmp_path / name).stat().st_size for name in left)
    assert (store.n_bytes, store.n_files) == (size, len(left))
    assert size <= 2_000_000
    (tmp_path / ".half.flac.partial").touch()
    again = ClipStore(tmp_path, 1)
    assert (again.n_bytes, again.n_files) == (size, len(left))
    newest = offered(again, heard, 6.0, 1.0, 11)
    until(lambda: again.n_clips == 1)
    again.close()
    assert sum(path.stat().st_size for path in tmp_path.glob("*.flac")) <= 1_000_000
    assert (tmp_path / newest).exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".flac") == ["not mine.txt"]


def test_a_full_disk_drops_and_later_goes_on(tmp_path: Path, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("needs to be root, to mount a disk of 600 kB")
    try:
        store = ClipStore(disk / "clips", 500)
        with caplog.at_level(logging.WARNING):
            offered(store, heard, 6.0, 1.0, 1)
            offered(store, heard, 6.0, 1.0, 2)
            until(lambda: store.n_clips + store.n_clips_dropped == 2)
        assert store.n_clips_dropped >= 1
        assert len(list((disk / "clips").iterdir())) == store.n_clips, "nothing half-written is left"
        for path in (disk / "clips").iterdir():
            path.unlink()
        n_clips = store.n_clips
        offered(store, heard, 1.0, 0.5, 3)
        until(lambda: store.n_clips == n_clips + 1)
        store.close()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_offers_never_wait_for_a_disk_that_hangs(tmp_path: Path, heard: Heard) -> None:
    store = ClipStore(tmp_path, 500)
    os.mkfifo(tmp_path / f".{NAME}.partial")  # opening it for writing waits for a reader
    began_s = time.monotonic()
    names = [offered(store, heard, 2.0, 1.0, number) for number in range(1, N_WAITING + 4)]
    assert time.monotonic() - began_s < 1.0
    assert names[0] == NAME
    assert all(names[:N_WAITING])
    assert not names[-1]
    assert store.n_clips_dropped >= 2
    began_s = time.monotonic()
    store.close()
    assert time.monotonic() - began_s < 10.0
    with (tmp_path / f".{NAME}.partial").open("rb") as reader:  # let the thread go
        reader.read()
    until(lambda: not store._thread.is_alive() or store._queue.empty())


@pytest.mark.parametrize("place", ["file/clips", "/proc/clips"])
def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        SettingsError, match=r"clip folder .*; choose one that mird may write to .setting clips, --clips"
    ):
        ClipStore(tmp_path / place, 500)
