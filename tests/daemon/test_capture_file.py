"""Recordings as a source: pace, speed, loop, channels, and every way in which a file can be bad."""

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tests.conftest import quickest

from mird.daemon.capture import Capture, CaptureState, SourceSpec, Stream, open_capture
from mird.daemon.errors import SourceError

RATE_HZ = 22_050


def noise(n: int, n_channels: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(3)
    return (0.1 * generator.standard_normal((n, n_channels))).astype(np.float32)


def opened(path: Path, **settings: object) -> Capture:
    return open_capture(SourceSpec("file", str(path), **settings))  # type: ignore[arg-type]


def started(capture: Capture) -> Stream:
    capture.start()
    assert capture.stream is not None
    return capture.stream


def drained(stream: Stream) -> NDArray[np.float32]:
    """Everything that the stream gives, to its end; nothing may be lost."""
    blocks = []
    while not stream.ring.drained:
        stream.ring.wait_for_data(1_000, 1.0)
        chunk = stream.ring.read(5_000)
        assert chunk.n_lost == 0
        blocks.append(chunk.samples)
    return np.concatenate(blocks)


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "ogg", "mp3"])
def test_every_format_comes_through_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"viola.{suffix}"
    soundfile.write(path, noise(RATE_HZ, 2), RATE_HZ)
    capture = opened(path, fast=True)
    stream = started(capture)
    sound = drained(stream)
    capture.stop()
    np.testing.assert_allclose(sound, soundfile.read(path, dtype="float32", always_2d=True)[0], atol=1e-6)
    assert (stream.source, stream.rate_hz, stream.channels) == (f"viola.{suffix}", RATE_HZ, (1, 2))
    assert stream.lossless
    assert re.fullmatch(r"[0-9a-f]{16}", stream.stream_id)
    assert capture.status.state is CaptureState.ENDED
    assert (capture.status.n_opens, capture.status.n_gaps) == (1, 0), capture.status.detail


def test_a_fast_file_waits_for_its_reader(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, noise(30 * RATE_HZ, 1), RATE_HZ)
    capture = opened(path, fast=True)
    stream = started(capture)
    assert stream.ring.wait_for_data(stream.ring.n_frames - 2_000, 30.0)
    assert not stream.ring.wait_for_data(stream.ring.n_frames, 0.1), "it is as full as blocks go, and stays so"
    assert len(drained(stream)) == 30 * RATE_HZ
    capture.stop()


def test_a_paced_file_keeps_real_time_without_drift(tmp_path: Path) -> None:
    path = tmp_path / "second.wav"
    soundfile.write(path, noise(RATE_HZ, 1), RATE_HZ)

    def lateness_s() -> float:
        capture = opened(path)
        before_ns, before_utc_ns = time.monotonic_ns(), time.time_ns()
        stream = started(capture)
        assert before_ns <= stream.opened_mono_ns <= time.monotonic_ns()
        assert before_utc_ns <= stream.opened_utc_ns <= time.time_ns()
        late_s = []
        for n in range(2_205, RATE_HZ + 1, 2_205):
            assert stream.ring.wait_for_data(2_205, 30.0)
            late_s.append((time.monotonic_ns() - stream.opened_mono_ns) / 1e9 - n / RATE_HZ)
            stream.ring.read(2_205)
        capture.stop()
        assert not stream.lossless
        assert min(late_s) >= 0.0, "no sample comes before its time"
        return max(sorted(late_s)[len(late_s) // 2], abs(stream.mono_ns(0) - stream.opened_mono_ns) / 1e9)

    assert quickest(lateness_s, 0.02) < 0.02, "the median of ten is under 20 ms late, and so is the clock"


def test_a_loop_goes_on_without_a_gap_until_it_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "loop.wav"
    sound = noise(3_000, 1)
    soundfile.write(path, sound, RATE_HZ, subtype="FLOAT")
    capture = opened(path, fast=True, loop=True)
    stream = started(capture)
    taken: list[NDArray[np.float32]] = []
    while sum(map(len, taken)) < 20_000:
        assert stream.ring.wait_for_data(1, 30.0)
        taken.append(stream.ring.read(1_000).samples)
    assert capture.status.state is CaptureState.LIVE
    capture.stop()
    together = np.concatenate(taken)[:20_000]
    np.testing.assert_array_equal(together, np.tile(sound, (7, 1))[:20_000])
    assert capture.stream is stream
    assert stream.ring.closed


def test_only_the_selected_channels_enter_the_ring_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "four.wav"
    sound = noise(5_000, 4)
    soundfile.write(path, sound, RATE_HZ, subtype="FLOAT")
    capture = opened(path, fast=True, channels=(4, 2))
    stream = started(capture)
    assert stream.channels == (4, 2)
    np.testing.assert_array_equal(drained(stream), sound[:, [3, 1]])
    capture.stop()
    with pytest.raises(SourceError, match=r"channel 5 does not exist: .*four\.wav has 4 input channels"):
        opened(path, channels=(5,))


def test_stop_ends_a_paced_and_a_blocked_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, noise(20 * RATE_HZ, 1), RATE_HZ)

    def stopping_s(*, fast: bool) -> float:
        capture = opened(path, fast=fast)
        capture.stop()  # before the start it does nothing
        capture = opened(path, fast=fast)
        stream = started(capture)
        assert stream.ring.wait_for_data(100, 30.0)
        began_s = time.monotonic()
        capture.stop()
        capture.stop()
        took_s = time.monotonic() - began_s
        assert stream.ring.closed
        assert capture.status.state is CaptureState.ENDED
        return took_s

    assert quickest(lambda: stopping_s(fast=False), 0.3) < 0.3
    assert quickest(lambda: stopping_s(fast=True), 0.3) < 0.3


def whole(path: Path, suffix: str) -> bytes:
    """Bytes of two seconds of stereo noise in a format."""
    soundfile.write(path.with_suffix(suffix), noise(2 * RATE_HZ, 2), RATE_HZ)
    return path.with_suffix(suffix).read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.wav", None, "does not exist: check the path"),
        ("empty.wav", b"", "is empty"),
        ("text.wav", b"this is no audio\n" * 100, "is no audio file that can be read"),
        ("header.wav", b"RIFF\x24\x00\x00\x00WAVEfmt ", "is no audio file that can be read"),
        ("x.raw", bytes(1000), "has no header that tells its rate and channels"),
        ("\0.wav", None, "cannot be read"),
        ("x" * 300 + ".wav", None, "cannot be read: File name too long"),
    ],
)
def test_a_bad_file_is_refused_before_anything_runs(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        opened(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_name_that_is_no_utf_8_is_opened_and_can_be_published(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"b\xffad.wav")
    path.write_bytes(whole(tmp_path / "good.wav", ".wav")[:-1000])
    capture = opened(path, fast=True)
    assert len(drained(started(capture))) > RATE_HZ
    capture.stop()
    assert r"b\udcffad.wav is cut short" in capture.status.detail
    capture.status.detail.encode()


def test_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a folder"):
        opened(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(SourceError, match="is no regular file"):
        opened(tmp_path / "pipe.wav")


def test_a_file_without_a_frame_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    soundfile.write(path, noise(0, 1), RATE_HZ)
    with pytest.raises(SourceError, match="holds no sound"):
        opened(path)


def test_a_flac_file_cut_off_in_its_first_block_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stump.flac"
    path.write_bytes(whole(tmp_path / "whole", ".flac")[:3_000])
    with pytest.raises(SourceError, match="damaged"):
        opened(path)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".aiff"])
@pytest.mark.parametrize("fast", [True, False])
def test_a_file_cut_short_is_used_as_far_as_it_goes_and_said_so(tmp_path: Path, suffix: str, *, fast: bool) -> None:
    path = (tmp_path / "cut").with_suffix(suffix)
    content = whole(tmp_path / "whole", suffix)
    path.write_bytes(content[: len(content) // 3])
    capture = opened(path, fast=fast)
    sound = drained(started(capture))
    capture.stop()
    reference = soundfile.read(tmp_path / f"whole{suffix}", dtype="float32")[0]
    assert 0.2 * 2 * RATE_HZ < len(sound) < 0.6 * 2 * RATE_HZ
    np.testing.assert_allclose(sound[:-3_000], reference[: len(sound) - 3_000], atol=1e-6)
    status = capture.status
    assert (status.state, status.n_gaps) == (CaptureState.ENDED, 1)
    assert "cut short" in status.detail
    assert "\n" not in status.detail


def test_samples_that_are_no_numbers_become_zero_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    sound = noise(2_000, 1)
    sound[100] = np.nan
    sound[1_500] = np.inf
    soundfile.write(path, sound, RATE_HZ, subtype="FLOAT")
    capture = opened(path, fast=True)
    taken = drained(started(capture))
    capture.stop()
    assert np.isfinite(taken).all()
    assert taken[100, 0] == taken[1_500, 0] == 0.0
    assert "2 samples" in capture.status.detail
    assert capture.status.n_gaps == 1


def test_the_name_in_the_topic_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "a b.wav"
    soundfile.write(path, noise(100, 1), RATE_HZ)
    capture = opened(path, fast=True, name="take-1")
    assert started(capture).source == "take-1"
    capture.stop()


def test_a_fault_of_our_own_ends_the_stream_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(44_100, 1), 44_100)
    capture = opened(tmp_path / "a.wav", fast=True)
    monkeypatch.setattr(capture, "_n_block", "no number")
    stream = started(capture)
    deadline_s = time.monotonic() + 30.0
    while capture.status.state is not CaptureState.ENDED and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert stream.ring.drained
    assert (capture.status.state, capture.status.n_gaps) == (CaptureState.ENDED, 1)
    assert "a fault in mird: TypeError" in capture.status.detail
    assert "Traceback" in caplog.text
    capture.stop()
