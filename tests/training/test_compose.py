"""Composed windows: what is always true of them, whatever is drawn."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.training.compose import ComposeSettings, compose, reverberate

RATE_HZ = 16_000
WINDOW = 16_000

Wave = NDArray[np.float32]
SETTINGS = ComposeSettings(background=0.5)
DRY = ComposeSettings(phrase=0.0, chord=0.0, room=0.0, background=0.0)


@pytest.fixture(scope="module")
def clips(play: Callable[..., Wave]) -> dict[str, list[Wave]]:
    return {
        "partners": [play("horn", take, "hall") for take in range(4)],
        "others": [play(label, 1, "attic") for label in ("bell", "flute")],
    }


def composed(seed: int, subject: Wave, clips: dict[str, list[Wave]], settings: ComposeSettings = SETTINGS) -> Wave:
    rng = np.random.default_rng(seed)
    return compose(rng, subject, clips["partners"], clips["others"], WINDOW, RATE_HZ, settings)


def tone(f0_hz: float, n: int = WINDOW) -> Wave:
    wave: Wave = (0.3 * np.sin(2 * np.pi * f0_hz * np.arange(n) / RATE_HZ)).astype(np.float32)
    return wave


@pytest.mark.parametrize("seed", range(60))
def test_length_peak_and_type(seed: int, clips: dict[str, list[Wave]]) -> None:
    subject = tone(1234.0)
    before = subject.copy()
    found = composed(seed, subject, clips)
    assert found.shape == (WINDOW,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.abs(found).max() == pytest.approx(0.5, abs=1e-4)
    np.testing.assert_array_equal(subject, before)


@pytest.mark.parametrize(
    "settings",
    [
        DRY,
        replace(DRY, chord=1.0),
        replace(DRY, chord=1.0, room=1.0, background=1.0),
    ],
)
def test_subject_is_heard(settings: ComposeSettings, clips: dict[str, list[Wave]]) -> None:
    """Alone or in a chord: a tone that no other clip has stands out of the spectrum by 20 dB."""
    subject, bin_hz = tone(2500.0), RATE_HZ / WINDOW
    for seed in range(30):
        spectrum = np.abs(np.fft.rfft(composed(seed, subject, clips, settings) * np.hanning(WINDOW)))
        at = round(2500 / bin_hz)
        around = np.r_[spectrum[at - 60 : at - 20], spectrum[at + 20 : at + 60]]
        assert spectrum[at] > 10 * np.median(around), seed


def test_phrase_is_of_the_subject_s_instrument(clips: dict[str, list[Wave]]) -> None:
    """In a phrase the subject is mostly heard itself, and nothing but its partners beside it."""
    settings = replace(DRY, phrase=1.0)
    partners = {"partners": [tone(f) for f in (400.0, 600.0)], "others": clips["others"]}
    heard = 0
    for seed in range(60):
        spectrum = np.abs(np.fft.rfft(composed(seed, tone(2500.0), partners, settings)))
        loudest = np.argmax(spectrum) * RATE_HZ / WINDOW
        assert min(abs(loudest - f) for f in (400, 600, 2500)) < 12
        heard += spectrum[2400:2600].max() > 0.02 * spectrum.max()
    assert heard >= 45


def test_seed_decides_everything(clips: dict[str, list[Wave]]) -> None:
    subject = clips["partners"][0]
    np.testing.assert_array_equal(composed(3, subject, clips), composed(3, subject, clips))
    assert not np.array_equal(composed(3, subject, clips), composed(4, subject, clips))


@pytest.mark.parametrize("n", [WINDOW, WINDOW // 4, 3 * WINDOW])
def test_silent_subject_alone_stays_silent_and_finite(n: int) -> None:
    nothing: dict[str, list[Wave]] = {"partners": [], "others": []}
    for seed in range(10):
        found = composed(seed, np.zeros(n, np.float32), nothing)
        assert found.shape == (WINDOW,)
        assert not found.any()


@pytest.mark.parametrize("n", [200, WINDOW // 3, 5 * WINDOW])
def test_subject_of_another_length(n: int, clips: dict[str, list[Wave]]) -> None:
    for seed in range(10):
        found = composed(seed, tone(700.0, n), clips)
        assert found.shape == (WINDOW,)
        assert np.isfinite(found).all()


def test_room_keeps_the_onset_and_decays(clips: dict[str, list[Wave]]) -> None:
    click = np.zeros(2 * RATE_HZ, np.float32)
    click[1000] = 1.0
    settings = replace(SETTINGS, reverberation_s=(0.4, 0.4), direct_db=(0.0, 0.0))
    wet = reverberate(np.random.default_rng(0), click, RATE_HZ, settings)
    assert wet.shape == click.shape
    assert np.abs(wet[:999]).max() < 1e-5
    assert int(np.abs(wet).argmax()) == 1000
    # A reverberation of 0.4 s falls by 15 dB in 0.1 s; the treble, which falls faster, is gone from both spans.
    early, late = (np.sqrt(np.mean(wet[at : at + 800] ** 2)) for at in (1000 + 2400, 1000 + 4000))
    assert 20 * np.log10(early / late) == pytest.approx(15.0, abs=3.0)
    assert np.sum(wet[1001:] ** 2) == pytest.approx(1.0, rel=0.05)  # as much behind as before, at 0 dB
