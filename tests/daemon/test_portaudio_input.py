"""PortAudio's callback by itself, and openings that fail: no sound server is needed."""

import threading
from collections.abc import Callable

import numpy as np
import pyaudio
import pytest

from mird.daemon.devices import Device
from mird.daemon.portaudio_input import PortAudioInput
from mird.daemon.ring import Ring
from mird.daemon.sample_clock import SampleClock

GONE = Device("Scarlett 2i2 USB: Audio (hw:9,0)", "ALSA", 2, 48_000, is_default=False)
BLOCK = np.arange(20, dtype=np.float32).reshape(10, 2)


@pytest.fixture
def audio_input() -> PortAudioInput:
    return PortAudioInput(GONE, (1, 2))


def call(audio_input: PortAudioInput, ring: Ring, data: bytes, flags: int = 0) -> tuple[None, int]:
    """What PortAudio does with a block of ten frames."""
    callback: Callable[..., tuple[None, int]] = audio_input._take_block
    return callback(ring, SampleClock(48_000), data, 10, {}, flags)


def test_the_callback_copies_and_goes_on(audio_input: PortAudioInput) -> None:
    ring = Ring(100, 2)
    assert call(audio_input, ring, BLOCK.tobytes()) == (None, pyaudio.paContinue)
    np.testing.assert_array_equal(ring.read(100).samples, BLOCK)
    assert (audio_input.n_blocks, audio_input.n_overflows, audio_input.failure) == (1, 0, "")


def test_the_callback_counts_overflows(audio_input: PortAudioInput) -> None:
    ring = Ring(100, 2)
    for flags in (0, pyaudio.paInputOverflow, pyaudio.paInputUnderflow, pyaudio.paInputOverflow):
        assert call(audio_input, ring, BLOCK.tobytes(), flags) == (None, pyaudio.paContinue)
    assert audio_input.n_overflows == 2
    assert ring.n_written == 40


def test_a_callback_that_fails_ends_the_stream_and_says_why(audio_input: PortAudioInput) -> None:
    assert call(audio_input, Ring(100, 3), BLOCK.tobytes()) == (None, pyaudio.paAbort)
    assert "the callback failed" in audio_input.failure
    assert "for a ring of 3" in audio_input.failure


def test_a_device_that_is_gone_again_is_a_failure_and_leaves_nothing_behind(
    audio_input: PortAudioInput, capfd: pytest.CaptureFixture[str]
) -> None:
    audio_input.start()
    assert audio_input.opened.wait(10.0)
    assert audio_input.finished.wait(10.0)
    assert audio_input.failure.startswith("it is gone again")
    assert not audio_input.active
    assert capfd.readouterr().err == "", "what ALSA and JACK print while they look for devices is kept back"
    assert "mird-stderr" not in [thread.name for thread in threading.enumerate()]
