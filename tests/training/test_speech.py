"""Speech by a real espeak-ng."""

import logging

import numpy as np
import pytest

from mird.training.speech import made_speech

RATE_HZ = 44_100


def test_windows_of_speech_end_in_sound_and_half_of_them_in_a_telephones_band() -> None:
    windows = made_speech(np.random.default_rng(0), 240, RATE_HZ, RATE_HZ)
    assert windows.shape == (240, RATE_HZ)
    assert windows.dtype == np.float32
    np.testing.assert_allclose(np.abs(windows).max(axis=1), 0.3, atol=1e-6)
    assert np.sqrt(np.mean(windows[:, -RATE_HZ // 5 :] ** 2, axis=1)).min() > 1e-3
    power = np.abs(np.fft.rfft(windows * np.hanning(RATE_HZ))) ** 2
    high = power[:, 5_000:].sum(axis=1) / power.sum(axis=1)
    assert 40 <= np.count_nonzero(high < 1e-4) <= 200, "some end at 4 kHz, some do not"


def test_without_espeak_there_is_no_speech_and_a_word_about_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with caplog.at_level(logging.WARNING):
        assert made_speech(np.random.default_rng(0), 5, 100, RATE_HZ).shape == (0, 100)
    assert "espeak-ng is not installed" in caplog.text
