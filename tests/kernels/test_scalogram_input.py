"""What every back end of the scalogram is given: sounds at the limits, bad input, impossible front ends."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.conftest import BACKENDS, SHORT, relative

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.image import picture
from mird.kernels.morse import Morse
from mird.kernels.scalogram import Scalogram, open_scalogram


@pytest.fixture(scope="module", params=BACKENDS)
def short(request: pytest.FixtureRequest) -> Scalogram:
    return open_scalogram(SHORT, request.param)


def test_results_belong_to_the_caller(short: Scalogram) -> None:
    rng = np.random.default_rng(5)
    first = short(rng.standard_normal((2, SHORT.window)).astype(np.float32))
    kept = first.copy()
    short(rng.standard_normal((2, SHORT.window)).astype(np.float32))
    assert np.array_equal(first, kept)


def test_silence_and_constants_are_defined(short: Scalogram) -> None:
    windows = np.zeros((2, SHORT.window), np.float32)
    windows[1] = 0.5
    sizes = short(windows)
    assert (sizes[0] == 0).all()
    assert np.abs(sizes[1]).max() < 1e-6
    assert np.isfinite(picture(sizes, SHORT)).all()


def test_the_largest_and_the_smallest_sounds_stay_finite(short: Scalogram) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, (1, SHORT.window)).astype(np.float32)
    for gain in (1e30, 1e-30, 1e-44):
        assert np.isfinite(picture(short(noise * np.float32(gain)), SHORT)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e30])
def test_a_sample_that_is_no_sound_is_named(short: Scalogram, value: float) -> None:
    windows = np.zeros((3, SHORT.window), np.float32)
    windows[1, 77] = value
    with pytest.raises(ParameterError, match="sample 77 of window 1"):
        short(windows)


@pytest.mark.parametrize("shape", [(4_410,), (1, 4_409), (1, 1, 4_410), (0,)])
def test_a_wrong_shape_is_named(short: Scalogram, shape: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match="4410"):
        short(np.zeros(shape, np.float32))


def test_a_wrong_type_is_named(short: Scalogram) -> None:
    for dtype in (np.int16, np.complex64, np.bool_, object):
        with pytest.raises(ParameterError, match="float32 is needed"):
            short(np.zeros((1, SHORT.window), dtype))


def test_strided_and_double_input_is_taken(short: Scalogram) -> None:
    interleaved = np.random.default_rng(2).standard_normal((SHORT.window, 4))
    windows = interleaved.T
    assert not windows.flags.c_contiguous
    wanted = short(np.ascontiguousarray(windows, np.float32))
    assert np.abs(short(windows) - wanted).max() < 1e-6 * wanted.max()
    assert relative(short(windows.astype(np.float16)), wanted) < 1e-3


def test_no_windows_give_no_pictures(short: Scalogram) -> None:
    assert short(np.zeros((0, SHORT.window), np.float32)).shape == (0, len(short.frequencies_hz), 21)


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
        open_scalogram(SHORT, "fftw")
    with pytest.raises(ParameterError, match="n_threads=0"):
        open_scalogram(SHORT, "scipy", 0)
