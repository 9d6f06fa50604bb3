"""The scalogram of every back end against the formulas, its properties, and bad input."""

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

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.image import picture
from mird.kernels.morse import Morse
from mird.kernels.scalogram import Scalogram, installed_backends, open_scalogram
from mird.kernels.scalogram_bands import BandScalogram
from mird.kernels.scalogram_ducc import DuccTransforms
from mird.kernels.scalogram_plan import group_rows, make_plan, smooth_numbers
from mird.kernels.scalogram_scipy import ScipyScalogram, ScipyTransforms

Array = NDArray[np.float64]
Reference = Callable[[Array, FrontEnd], Array]

WHOLE = FrontEnd.paper()
SMALL = FrontEnd(window=4_410, n_scales=0, n_columns=21)
BACKENDS = [name for name in installed_backends() if name != "cupy"]
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


@pytest.fixture(scope="module", params=BACKENDS)
def small(request: pytest.FixtureRequest) -> Scalogram:
    return open_scalogram(SMALL, request.param)


def relative(value: NDArray[np.floating], wanted: NDArray[np.floating]) -> float:
    return float(np.linalg.norm(value.astype(np.float64) - wanted) / np.linalg.norm(wanted))


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
    scalogram = open_scalogram(SMALL)
    frequency = scalogram.frequencies_hz[row] / SMALL.rate_hz
    sizes = scalogram(np.cos(2 * np.pi * frequency * np.arange(SMALL.window) + phase)[None].astype(np.float32))[0]
    assert int(sizes[:, 10].argmax()) == row


@settings(max_examples=25, deadline=None)
@given(gain=st.floats(1e-6, 1e6), seed=st.integers(0, 1000))
def test_scaling_the_sound_scales_the_magnitudes(gain: float, seed: int) -> None:
    scalogram = open_scalogram(SMALL)
    samples = np.random.default_rng(seed).standard_normal((1, SMALL.window)).astype(np.float32)
    assert relative(scalogram(samples * np.float32(gain)), np.float32(gain) * scalogram(samples).astype(float)) < 1e-5


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_magnitudes_of_a_sum_are_at_most_the_sum(seed: int) -> None:
    scalogram = open_scalogram(SMALL)
    one, two = np.random.default_rng(seed).standard_normal((2, 1, SMALL.window)).astype(np.float32)
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
    windows = np.random.default_rng(3).standard_normal((9, SMALL.window)).astype(np.float32)
    alone = open_scalogram(SMALL, name)
    wanted = np.concatenate([alone(window[None]) for window in windows])
    shared = open_scalogram(SMALL, name, n_threads)
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


def test_results_belong_to_the_caller(small: Scalogram) -> None:
    rng = np.random.default_rng(5)
    first = small(rng.standard_normal((2, SMALL.window)).astype(np.float32))
    kept = first.copy()
    small(rng.standard_normal((2, SMALL.window)).astype(np.float32))
    assert np.array_equal(first, kept)


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


def test_silence_and_constants_are_defined(small: Scalogram) -> None:
    windows = np.zeros((2, SMALL.window), np.float32)
    windows[1] = 0.5
    sizes = small(windows)
    assert (sizes[0] == 0).all()
    assert np.abs(sizes[1]).max() < 1e-6
    assert np.isfinite(picture(sizes, SMALL)).all()


def test_the_largest_and_the_smallest_sounds_stay_finite(small: Scalogram) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, (1, SMALL.window)).astype(np.float32)
    for gain in (1e30, 1e-30, 1e-44):
        assert np.isfinite(picture(small(noise * np.float32(gain)), SMALL)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e30])
def test_a_sample_that_is_no_sound_is_named(small: Scalogram, value: float) -> None:
    windows = np.zeros((3, SMALL.window), np.float32)
    windows[1, 77] = value
    with pytest.raises(ParameterError, match="sample 77 of window 1"):
        small(windows)


@pytest.mark.parametrize("shape", [(4_410,), (1, 4_409), (1, 1, 4_410), (0,)])
def test_a_wrong_shape_is_named(small: Scalogram, shape: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="4410"):
        small(np.zeros(shape, np.float32))


def test_a_wrong_type_is_named(small: Scalogram) -> None:
    for dtype in (np.int16, np.complex64, np.bool_, object):
        with pytest.raises(ParameterError, match="float32 is needed"):
            small(np.zeros((1, SMALL.window), dtype))


def test_strided_and_double_input_is_taken(small: Scalogram) -> None:
    interleaved = np.random.default_rng(2).standard_normal((SMALL.window, 4))
    windows = interleaved.T
    assert not windows.flags.c_contiguous
    wanted = small(np.ascontiguousarray(windows, np.float32))
    assert np.abs(small(windows) - wanted).max() < 1e-6 * wanted.max()
    assert relative(small(windows.astype(np.float16)), wanted) < 1e-3


def test_no_windows_give_no_pictures(small: Scalogram) -> None:
    assert small(np.zeros((0, SMALL.window), np.float32)).shape == (0, len(small.frequencies_hz), 21)


@pytest.mark.parametrize(
    ("front_end", "word"),
    [
        (lambda: FrontEnd(window=5, n_columns=1), "window=5"),
        (lambda: FrontEnd(voices=0), "voices=0"),
        (lambda: FrontEnd(n_scales=152), "n_scales=152"),
        (lambda: FrontEnd(time_bandwidth=2.0), "time_bandwidth=2.0"),
        (lambda: FrontEnd(n_columns=50_000), "n_columns=50000"),
        (lambda: FrontEnd(rate_hz=0), "rate_hz=0"),
    ],
)
def test_an_impossible_front_end_is_named(front_end: Callable[[], FrontEnd], word: str) -> None:
    with pytest.raises(ParameterError, match=word):
        open_scalogram(front_end())


@settings(max_examples=40, deadline=None)
@given(
    window=st.integers(1, 600),
    share=st.floats(0, 1),
    voices=st.sampled_from([1, 5, 12, 32]),
    gamma=st.floats(0.1, 20),
    time_bandwidth=st.floats(0.1, 500),
    range_db=st.floats(0.1, 500),
)
def test_any_front_end_is_refused_by_name_or_gives_pictures(
    window: int, share: float, voices: int, gamma: float, time_bandwidth: float, range_db: float
) -> None:
    front_end = FrontEnd(
        window=window,
        gamma=gamma,
        time_bandwidth=time_bandwidth,
        voices=voices,
        n_scales=0,
        n_columns=max(1, int(share * window)),
        range_db=range_db,
    )
    try:
        Morse(gamma, time_bandwidth).scales(window, voices)
    except ParameterError:
        with pytest.raises(ParameterError, match=r"(window|time_bandwidth|gamma)="):
            open_scalogram(front_end, "scipy")
        return
    sizes = open_scalogram(front_end, "scipy")(np.random.default_rng(7).standard_normal((2, window)).astype(np.float32))
    image = picture(sizes, front_end)
    assert (sizes >= 0).all()
    assert image.min() >= 0
    assert image.max() <= 1


def test_an_unknown_back_end_is_named() -> None:
    with pytest.raises(ParameterError, match=r"'fftw'.*ducc0, scipy, cupy"):
        open_scalogram(SMALL, "fftw")
    with pytest.raises(ParameterError, match="n_threads=0"):
        open_scalogram(SMALL, "scipy", 0)


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
    assert {BandScalogram(SMALL, library).name for library in (ScipyTransforms(), DuccTransforms())} == {
        "scipy",
        "ducc0",
    }
