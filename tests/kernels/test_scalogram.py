"""The scalogram of every back end against the formulas, its properties, its threads and its plan."""

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.kernels.conftest import BACKENDS, SHORT, Array, Reference, relative

from mird.kernels.frontend import FrontEnd
from mird.kernels.image import picture
from mird.kernels.scalogram import Scalogram, open_scalogram
from mird.kernels.scalogram_bands import BandScalogram
from mird.kernels.scalogram_ducc import DuccTransforms
from mird.kernels.scalogram_plan import group_rows, make_plan, smooth_numbers
from mird.kernels.scalogram_scipy import ScipyScalogram, ScipyTransforms

WHOLE = FrontEnd.paper()
SOUNDS = [
    *(
        "white noise",
        "pink noise",
        "two tones",
        "beating tones",
        "sweep",
        "impulses",
        "plucked notes",
        "plucked chords",
    ),
    *("kick drums", "snare drums", "vibrato", "tremolo", "onset after silence", "clipped organ", "speech-like"),
]


@pytest.fixture(scope="module", params=BACKENDS)
def whole(request: pytest.FixtureRequest) -> Scalogram:
    return open_scalogram(WHOLE, request.param)


def test_both_cpu_back_ends_are_tested() -> None:
    assert BACKENDS == ["ducc0", "scipy"]


@pytest.mark.parametrize("sound", SOUNDS)
def test_every_sound_agrees_with_the_full_length_transform(
    whole: Scalogram, sounds: dict[str, Array], reference: Reference, sound: str
) -> None:
    wanted = reference(sounds[sound], WHOLE)
    got = whole(sounds[sound][None].astype(np.float32))[0]
    assert got.shape == wanted.shape == (151, 224)
    assert relative(got, wanted) <= 1e-3
    assert np.abs(got - wanted).max() <= 0.01 * wanted.max()


def test_the_reference_itself_agrees_with_ssqueezepy(reference: Reference) -> None:
    # The figures are its own, for the same sound; `tests/benchmarks/peer_values.py` wrote them.
    stored = json.loads((Path(__file__).parents[1] / "benchmarks" / "results" / "peer_values.json").read_text())
    wanted = np.array(stored["ssqueezepy magnitudes, rows 0 12 40 60 90, samples 0 100 4096 8191"])
    front_end = FrontEnd(window=8_192, n_scales=0, n_columns=8_192)
    t = np.arange(8_192)
    samples = np.cos(1.5e-4 * t * t) + 0.3 * np.sin(0.05 * t) + 0.1 * (t % 700 < 5)
    exact = reference(samples, front_end)
    assert np.abs(exact[[0, 12, 40, 60, 90]][:, [0, 100, 4096, 8191]] - wanted).max() < 1e-12


def test_the_default_picture_agrees_in_decibels(sounds: dict[str, Array], reference: Reference) -> None:
    front_end = FrontEnd()
    scalogram = open_scalogram(front_end)
    differences = []
    for samples in sounds.values():
        wanted = picture(reference(samples, front_end)[None].astype(np.float32), front_end)
        differences.append(np.abs(picture(scalogram(samples[None]), front_end) - wanted).ravel() * front_end.range_db)
    assert np.percentile(differences, 99) < 0.1
    assert np.mean(differences) < 0.02


def test_rows_are_those_of_the_paper(whole: Scalogram) -> None:
    assert whole.frequencies_hz.shape == (151,)
    assert whole.frequencies_hz[0] == pytest.approx(19_144.889, abs=1e-3)
    assert whole.frequencies_hz[-1] == pytest.approx(3.30505, abs=1e-5)
    assert np.allclose(whole.frequencies_hz[:-12] / whole.frequencies_hz[12:], 2)


def test_a_cosine_on_a_row_has_its_published_values(whole: Scalogram) -> None:
    row = 60
    samples = np.cos(2 * np.pi * whole.frequencies_hz[row] * np.arange(44_100) / 44_100)
    middle = whole(samples[None].astype(np.float32))[0, :, 112]
    offsets = {0: 1.0, 1: 0.90977794, -1: 0.89930282, 3: 0.46622219, -3: 0.33974850, 6: 0.07266992, -6: 0.00520549}
    for offset, wanted in offsets.items():
        # Below the tone a row's filter is passed above its peak: the wavelet's skirts are not symmetric in log
        # frequency.
        assert middle[row - offset] == pytest.approx(wanted, abs=2e-5)


IMPULSE = {12: 0.1398816882, 48: 0.0174852110}
"""Magnitudes of a unit impulse at its place, of rows at 12 voices: 2 e^(wp^3) wp^-20 Gamma(7) / (6 pi s)."""


def test_the_reference_gives_an_impulse_its_closed_form(reference: Reference) -> None:
    samples = np.zeros(8_192)
    samples[4_000] = 1
    exact = reference(samples, FrontEnd(window=8_192, n_scales=60, n_columns=8_192))
    for row, wanted in IMPULSE.items():
        assert exact[row, 4_000] == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize("name", BACKENDS)
def test_an_impulse_has_its_closed_form(name: str) -> None:
    front_end = FrontEnd(window=4_410, n_scales=60, n_columns=4_410)
    scalogram = open_scalogram(front_end, name)
    samples = np.zeros((1, 4_410), np.float32)
    samples[0, 2_000] = 1
    sizes = scalogram(samples)[0, :, 2_000]
    # A column is as wide as a sample here; over it the magnitude falls by its curvature, the variance of the wavelet's
    # spectrum: moments of a Morse spectrum are Gamma functions.
    first, second = (math.gamma((20 + n + 1) / 3) / math.gamma(7) for n in (1, 2))
    wp, finest = (20 / 3) ** (1 / 3), 2.167664111136252 / np.pi
    for row, peak in IMPULSE.items():
        scale = finest * 2 ** (row / 12)
        assert peak == pytest.approx(2 * math.exp(wp**3) * wp**-20 * math.gamma(7) / (6 * np.pi * scale), abs=1e-10)
        wanted = peak * (1 - (second - first**2) / (24 * scale**2))
        assert sizes[row] == pytest.approx(wanted, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(row=st.integers(2, 84), phase=st.floats(0, 6.28))
def test_a_tone_peaks_at_its_scale(row: int, phase: float) -> None:
    scalogram = open_scalogram(SHORT)
    frequency = scalogram.frequencies_hz[row] / SHORT.rate_hz
    sizes = scalogram(np.cos(2 * np.pi * frequency * np.arange(SHORT.window) + phase)[None].astype(np.float32))[0]
    assert int(sizes[:, 10].argmax()) == row


@settings(max_examples=25, deadline=None)
@given(gain=st.floats(1e-6, 1e6), seed=st.integers(0, 1000))
def test_scaling_the_sound_scales_the_magnitudes(gain: float, seed: int) -> None:
    scalogram = open_scalogram(SHORT)
    samples = np.random.default_rng(seed).standard_normal((1, SHORT.window)).astype(np.float32)
    assert relative(scalogram(samples * np.float32(gain)), np.float32(gain) * scalogram(samples).astype(float)) < 1e-5


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_magnitudes_of_a_sum_are_at_most_the_sum(seed: int) -> None:
    scalogram = open_scalogram(SHORT)
    one, two = np.random.default_rng(seed).standard_normal((2, 1, SHORT.window)).astype(np.float32)
    assert (scalogram(one + two) <= (scalogram(one) + scalogram(two)) * (1 + 1e-3) + 1e-5).all()


@pytest.mark.parametrize("transforms", [ScipyTransforms(), DuccTransforms()], ids=["scipy", "ducc0"])
def test_the_transforms_are_linear_before_the_magnitude(transforms: ScipyTransforms | DuccTransforms) -> None:
    one, two = np.random.default_rng(0).standard_normal((2, 3, 1000))
    spectra = [transforms.cosine(samples, np.empty((3, 1000))) for samples in (one, two, one - 2 * two)]
    waves = [transforms.bind(spectrum * np.exp(0.1j * np.arange(1000)))() for spectrum in spectra]
    assert np.allclose(spectra[0] - 2 * spectra[1], spectra[2])
    assert np.allclose(waves[0] - 2 * waves[1], waves[2])


def test_a_shift_by_whole_columns_shifts_the_picture(whole: Scalogram) -> None:
    t = np.arange(44_100)
    column = 1575  # samples in eight columns of 224: the fewest that are whole samples
    burst = np.exp(-0.5 * ((t - 18_000) / 300) ** 2) * np.cos(0.2 * t)
    shifted = np.roll(burst, 4 * column)
    one, two = (whole(x[None].astype(np.float32))[0] for x in (burst, shifted))
    assert np.abs(one[:, 40:160] - two[:, 72:192])[:80].max() < 1e-5 * one.max()


def test_time_reversed_sound_gives_the_reversed_picture(whole: Scalogram, sounds: dict[str, Array]) -> None:
    samples = sounds["plucked notes"].astype(np.float32)
    forward, backward = whole(np.stack([samples, samples[::-1]]))
    assert np.abs(forward[:, ::-1] - backward).max() < 2e-6 * forward.max()


def test_float32_agrees_with_float64(sounds: dict[str, Array]) -> None:
    double = ScipyScalogram(WHOLE, dtype=np.float64)
    samples = np.stack([sounds[name] for name in ("white noise", "plucked notes", "impulses")])
    wanted = double(samples.astype(np.float32))
    for name in BACKENDS:
        got = open_scalogram(WHOLE, name)(samples.astype(np.float32))
        assert got.dtype == np.float32
        assert np.abs(got - wanted).max() <= 1e-6 * wanted.max()


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("name", BACKENDS)
def test_threads_and_batches_change_nothing(name: str, n_threads: int) -> None:
    windows = np.random.default_rng(3).standard_normal((9, SHORT.window)).astype(np.float32)
    alone = open_scalogram(SHORT, name)
    wanted = np.concatenate([alone(window[None]) for window in windows])
    shared = open_scalogram(SHORT, name, n_threads)
    for n in (9, 1, 4, 9):
        assert np.abs(shared(windows[:n]) - wanted[:n]).max() <= 1e-6 * wanted.max()


class ShortOfMemory(ScipyTransforms):
    """SciPy's transforms, of which some find no memory, as they may when a machine is full."""

    fails = False

    def bind(self, waves: NDArray[Any]) -> Callable[[], NDArray[Any]]:
        works = super().bind(waves)

        def call() -> NDArray[Any]:
            if self.fails and threading.current_thread() is not threading.main_thread():
                raise MemoryError("no room for an FFT")
            return works()

        return call


@pytest.mark.parametrize("n_threads", [2, 3])
def test_a_fault_in_a_helping_thread_is_raised_and_leaves_nothing_behind(n_threads: int) -> None:
    windows = np.random.default_rng(4).standard_normal((3, WHOLE.window)).astype(np.float32)
    transforms = ShortOfMemory()
    shared = BandScalogram(WHOLE, transforms, n_threads)
    wanted = shared(windows)
    transforms.fails = True
    with pytest.raises(MemoryError, match="no room for an FFT"):
        shared(windows)
    transforms.fails = False
    for _ in range(3):
        assert np.array_equal(shared(windows), wanted)


@pytest.mark.parametrize(
    "front_end",
    [
        FrontEnd(window=4_411, n_scales=0, n_columns=21),
        FrontEnd(window=1_999, n_scales=30, n_columns=97),
        FrontEnd(window=300, n_scales=0, n_columns=300, voices=32),
        FrontEnd(window=64, n_scales=0, n_columns=1, voices=1),
        FrontEnd(rate_hz=8_000, window=8_000, n_scales=0, n_columns=50, voices=10),
        FrontEnd(rate_hz=48_000, window=4_800, n_scales=0, n_columns=128),
    ],
    ids=lambda front_end: f"{front_end.window}x{front_end.n_columns}",
)
@pytest.mark.parametrize("name", BACKENDS)
def test_any_length_any_rate(name: str, front_end: FrontEnd, reference: Reference) -> None:
    t = np.arange(front_end.window)
    samples = np.sin(0.02 * t + 1e-5 * t * t) + 0.2 * np.sin(0.9 * t)
    got = open_scalogram(front_end, name)(samples[None].astype(np.float32))[0]
    wanted = reference(samples, front_end)
    assert got.shape == wanted.shape
    # A column of a few samples is the mean of as few values: the reference itself is coarse there.
    assert relative(got, wanted) <= (3e-3 if front_end.window >= 20 * front_end.n_columns else 0.02)


@settings(max_examples=40, deadline=None)
@given(needed=st.lists(st.floats(4, 500), min_size=1, max_size=60), length=st.integers(2, 1000))
def test_groups_cover_all_rows_and_satisfy_each(needed: list[float], length: int) -> None:
    groups = group_rows(np.array(needed), length)
    assert [row for first, last, _ in groups for row in range(first, last)] == list(range(len(needed)))
    for first, last, points in groups:
        assert points >= max(needed[first:last])
        assert points % 2 == 0
        assert points // 2 in smooth_numbers(points)


def test_the_plan_is_much_smaller_than_the_full_transform() -> None:
    assert make_plan(WHOLE).n_points < 151 * 2 * 44_100 / 22


def test_a_band_scalogram_reports_its_library() -> None:
    assert {BandScalogram(SHORT, library).name for library in (ScipyTransforms(), DuccTransforms())} == {
        "scipy",
        "ducc0",
    }
