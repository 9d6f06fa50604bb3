"""From a clip to the windows that are enrolled."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mird.daemon.enroll import KEPT_S, Clip, EnrolReport, read_clip, report_of, windows_of
from mird.daemon.errors import ClipError, SourceError

RATE_HZ = 44_100


def tone(
    duration_s: float, amplitude: float = 0.3, rate_hz: int = RATE_HZ, pitch_hz: float = 440.0
) -> NDArray[np.float32]:
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (amplitude * np.sin(2 * np.pi * pitch_hz * time_s)).astype(np.float32)


def silence(duration_s: float, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    return np.zeros(round(duration_s * rate_hz), dtype=np.float32)


def written(path: Path, samples: NDArray[np.float32], rate_hz: int = RATE_HZ, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


# --- reading


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "aiff", "w64", "mp3"])
def test_formats_that_libsndfile_reads(tmp_path: Path, suffix: str) -> None:
    clip = read_clip(written(tmp_path / f"clip.{suffix}", tone(1.5)))
    assert clip.samples.dtype == np.float32
    assert clip.samples.size == pytest.approx(1.5 * RATE_HZ, rel=0.01)
    assert float(np.sqrt(np.mean(clip.samples**2))) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    assert clip.name == f"clip.{suffix}"


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_any_rate_comes_out_at_the_front_ends(tmp_path: Path, rate_hz: int) -> None:
    clip = read_clip(written(tmp_path / "clip.wav", tone(2.0, rate_hz=rate_hz), rate_hz, "FLOAT"))
    (window,) = windows_of(clip, RATE_HZ, RATE_HZ, 1)
    spectrum = np.abs(np.fft.rfft(window * np.hanning(RATE_HZ)))
    assert int(np.argmax(spectrum)) == 440  # 1 Hz a bin
    assert float(np.abs(window[1_000:-1_000]).max()) == pytest.approx(0.3, rel=0.01)


def test_the_loudest_channel_is_taken_and_named(tmp_path: Path) -> None:
    channels = np.stack([tone(1.0, 0.1), tone(1.0, 0.3, pitch_hz=660.0), silence(1.0)], axis=1)
    clip = read_clip(written(tmp_path / "clip.wav", channels))
    np.testing.assert_allclose(clip.samples, channels[:, 1], atol=1e-4)
    assert "channel 2 of 3, the loudest" in str(report_of("viola", clip, 1))


def test_an_asked_channel_is_taken(tmp_path: Path) -> None:
    channels = np.stack([tone(1.0, 0.1), tone(1.0, 0.3)], axis=1)
    clip = read_clip(written(tmp_path / "clip.wav", channels), channel=1)
    np.testing.assert_allclose(clip.samples, channels[:, 0], atol=1e-4)
    assert "channel 1 of 2" in str(report_of("viola", clip, 1))
    assert "loudest" not in str(report_of("viola", clip, 1))


@pytest.mark.parametrize("channel", [0, 3, -1])
def test_a_channel_that_is_not_there_is_refused(tmp_path: Path, channel: int) -> None:
    path = written(tmp_path / "clip.wav", np.stack([tone(1.0), tone(1.0)], axis=1))
    with pytest.raises(ClipError, match=rf"channel {channel} of {path}: it has channels 1 to 2"):
        read_clip(path, channel=channel)


def test_opposite_phases_do_not_cancel(tmp_path: Path) -> None:
    clip = read_clip(written(tmp_path / "clip.wav", np.stack([tone(1.0), -tone(1.0)], axis=1)))
    assert float(np.abs(clip.samples).max()) == pytest.approx(0.3, rel=0.01)


# --- windows


def test_windows_begin_where_sound_does(tmp_path: Path) -> None:
    rate_hz = 48_000
    samples = np.concatenate([silence(1.0, rate_hz), tone(3.0, rate_hz=rate_hz), silence(2.0, rate_hz)])
    clip = read_clip(written(tmp_path / "clip.wav", samples, rate_hz))
    windows = windows_of(clip, RATE_HZ, RATE_HZ, 3)
    assert windows.shape == (3, RATE_HZ)
    assert windows.dtype == np.float32
    onset = int(np.argmax(np.abs(windows[0]) > 0.05))
    assert onset < 0.03 * RATE_HZ
    assert all(np.abs(window[: RATE_HZ // 3]).max() > 0.2 for window in windows)


def test_a_clip_shorter_than_a_window_is_filled_up_at_its_end() -> None:
    (window,) = windows_of(Clip(tone(0.4), RATE_HZ), RATE_HZ, RATE_HZ, 5)
    np.testing.assert_array_equal(window[: round(0.4 * RATE_HZ)], tone(0.4))
    assert not window[round(0.4 * RATE_HZ) :].any()


def test_live_sound_without_sound_is_refused() -> None:
    with pytest.raises(ClipError, match="nothing sounds in clip 'live'"):
        windows_of(Clip(silence(3.0), RATE_HZ), RATE_HZ, RATE_HZ, 5)


# --- long clips


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven minutes: a click, ten minutes of silence, then a tone; two channels at 8 kHz."""
    rate_hz = 8_000
    path = tmp_path_factory.mktemp("long") / "long.flac"
    with soundfile.SoundFile(path, "w", rate_hz, 2) as file:
        file.write(np.stack([tone(0.05, rate_hz=rate_hz)] * 2, axis=1))
        for _ in range(10):
            file.write(np.zeros((60 * rate_hz, 2), dtype=np.float32))
        file.write(np.stack([tone(60.0, 0.1, rate_hz), tone(60.0, 0.3, rate_hz)], axis=1))
    return path


def test_the_part_of_a_long_recording_that_sounds_is_found(long_recording: Path) -> None:
    clip = read_clip(long_recording)
    assert clip.channel == 2
    assert clip.samples.size == KEPT_S * clip.rate_hz
    assert 500.0 < clip.start_s < 600.0
    windows = windows_of(clip, RATE_HZ, RATE_HZ, 5)
    assert len(windows) == 5
    assert all(np.sqrt(np.mean(window**2)) > 0.2 for window in windows)
    report = report_of("viola", clip, 5)
    assert report.seconds_of_sound >= 40.0
    assert "only 120 s of 660 s were heard, from 52" in str(report)


def test_a_long_recording_takes_little_memory(long_recording: Path) -> None:
    tracemalloc.start()
    try:
        read_clip(long_recording)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Two minutes of one channel are 3.8 MB; the whole recording is 42 MB.
    assert peak_bytes < 8e6


def test_no_more_is_read_than_is_needed(tmp_path: Path) -> None:
    rate_hz = 8_000
    path = written(tmp_path / "long.wav", tone(200.0, rate_hz=rate_hz), rate_hz, "FLOAT")
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(np.float32(np.nan).tobytes())
    clip = read_clip(path)
    assert clip.start_s == 0.0
    assert clip.samples.size == KEPT_S * rate_hz


# --- what is refused


def test_a_silent_clip_is_refused_with_its_level(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.wav", tone(2.0, 0.0003), subtype="FLOAT")
    with pytest.raises(
        ClipError, match=rf"nothing sounds in {path}: its loudest moment has -73 dBFS, -60 are needed"
    ) as caught:
        read_clip(path)
    assert caught.value.exit_status == 5
    written(path, np.stack([tone(2.0), silence(2.0)], axis=1))
    with pytest.raises(ClipError, match=rf"nothing sounds in channel 2 of {path}: .* -200 dBFS"):
        read_clip(path, channel=2)


def test_files_that_are_no_recordings_are_told_apart(tmp_path: Path) -> None:
    empty, text, raw, fifo = (tmp_path / name for name in ("empty.wav", "text.wav", "sound.raw", "fifo.wav"))
    empty.touch()
    text.write_text("this is no sound\n" * 100)
    raw.write_bytes(bytes(1_000))
    os.mkfifo(fifo)
    for path, reason in [
        (tmp_path / "missing.wav", "does not exist"),
        (tmp_path, "is no file"),
        (fifo, "is no file"),
        (empty, "is empty"),
        (text, "is no audio"),
        (raw, "has no header"),
        (written(tmp_path / "none.wav", silence(0.0)), "holds no samples"),
        (written(tmp_path / "slow.wav", tone(1.0), 500), "has a rate of 500 Hz"),
    ]:
        with pytest.raises(SourceError, match=rf"^{path} {reason}.*: \w+") as caught:
            read_clip(path)
        assert caught.value.exit_status == 4
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "w64"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(3).normal(0.0, 0.1, 3 * RATE_HZ).astype(np.float32)
    path = written(tmp_path / f"clip.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    with pytest.raises(SourceError, match=rf"{path} is (cut short|damaged).*again"):
        read_clip(path)


def test_an_mpeg_file_that_is_cut_short_is_used_with_a_warning(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.mp3", tone(4.0))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = read_clip(path)
    assert 1.0 < clip.samples.size / RATE_HZ < 3.0
    assert "s of 4 s were heard" in str(report_of("viola", clip, 1))


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    samples = tone(2.0)
    samples[RATE_HZ] = np.nan
    with pytest.raises(SourceError, match="not finite"):
        read_clip(written(tmp_path / "clip.wav", samples, subtype="FLOAT"))


# --- report


def test_a_good_clip_has_no_warnings() -> None:
    report = report_of("viola", Clip(np.concatenate([tone(2.0), silence(1.0)]), RATE_HZ), 3)
    assert report.seconds_of_sound == pytest.approx(2.0, abs=0.03)
    assert report.level_dbfs == pytest.approx(-13.5, abs=0.1)
    assert str(report) == "viola: 3 windows, 2.0 s of sound at -13.5 dBFS"


@pytest.mark.parametrize(
    ("samples", "warning"),
    [
        (tone(2.0, 0.004), "quiet (-51 dBFS)"),
        (np.clip(tone(2.0, 2.0), -1.0, 1.0), "clipped ("),
        (tone(0.2), "short (0.20 s of sound)"),
    ],
)
def test_what_may_spoil_recognition_is_warned_of(samples: NDArray[np.float32], warning: str) -> None:
    report = report_of("viola", Clip(samples, RATE_HZ), 1)
    assert [text for text in report.warnings if text.startswith(warning)]
    assert len(report.warnings) == 1
    assert "; warning: " in str(report)


def test_a_resemblance_is_warned_of_from_one_half() -> None:
    report = EnrolReport("viola", 1, 1.0, -20.0, 0.0)
    assert report.resembling("violin", 0.49) == report
    assert report.resembling("violin", 0.87).warnings[0].startswith("resembles 'violin' by 0.87")
    assert str(report).startswith("viola: 1 window, ")


def test_reading_a_clip_imports_little() -> None:
    code = "import sys, mird.daemon.enroll; print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"scipy", "onnxruntime", "torch", "zmq", "rich", "pydantic"} & set(out)
