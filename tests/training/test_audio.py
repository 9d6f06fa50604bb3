"""Reading clips: any rate, any number of channels, and every way in which a file can be bad."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mird.training.audio import fit_length, read_mono
from mird.training.errors import TrainingError

RATE_HZ = 16_000


def tone(rate_hz: int, seconds: float = 0.5) -> NDArray[np.float64]:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    swell: NDArray[np.float64] = 0.4 * np.sin(2 * np.pi * 440 * t) * np.sin(np.pi * t / seconds) ** 2
    return swell


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_every_rate_becomes_the_wanted_one(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(rate_hz), rate_hz, subtype="FLOAT")
    found = read_mono(path, RATE_HZ)
    assert found.dtype == np.float32
    assert abs(len(found) - RATE_HZ / 2) <= 1
    n = min(len(found), RATE_HZ // 2)
    np.testing.assert_allclose(found[:n], tone(RATE_HZ)[:n], atol=2e-3)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.stack([tone(RATE_HZ), np.zeros(8_000), -tone(RATE_HZ) / 2], axis=1), RATE_HZ)
    np.testing.assert_allclose(read_mono(path, RATE_HZ), tone(RATE_HZ) / 6, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_sample_that_is_no_number(tmp_path: Path, bad: float) -> None:
    samples = tone(RATE_HZ)
    samples[100] = bad
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ, subtype="FLOAT")
    with pytest.raises(TrainingError, match=r"a\.wav: holds a NaN or infinite sample"):
        read_mono(tmp_path / "a.wav", RATE_HZ)


def test_empty_recording(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE_HZ)
    with pytest.raises(TrainingError, match=r"a\.wav: holds no samples"):
        read_mono(tmp_path / "a.wav", RATE_HZ)


@pytest.mark.parametrize(
    ("name", "content"), [("a.wav", b""), ("a.flac", b"no sound"), ("a.raw", b"\0\0"), ("a", b"x")]
)
def test_file_without_sound(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError, match=f"{name}: cannot read the sound"):
        read_mono(tmp_path / name, RATE_HZ)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.wav", tmp_path):
        with pytest.raises(TrainingError, match=f"{path}: cannot read the sound"):
            read_mono(path, RATE_HZ)


@pytest.mark.parametrize("n", [0, 3, 5, 9])
def test_fit_length(n: int) -> None:
    samples = np.arange(1, 6, dtype=np.float32)
    found = fit_length(samples, n)
    assert len(found) == n
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:5], samples[:n])
    assert not found[5:].any()
