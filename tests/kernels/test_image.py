"""The picture stage: row map, level scale, colour map; and the spectrogram that goes through it too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.image import decibels, map_rows, parula, picture, row_map, stretch
from mird.kernels.scalogram import open_scalogram


def ramp(n_rows: int, n_columns: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.linspace(0.01, 1, n_rows * n_columns, dtype=np.float32).reshape(1, n_rows, n_columns)


def test_the_default_picture_spans_80_db() -> None:
    sizes = np.full((1, 4, 4), 1e-9, np.float32)
    sizes[0, 0] = [0.5, 0.05, 0.0005, 0.00005]
    levels = picture(sizes, FrontEnd())
    assert levels.shape == (1, 1, 4, 4)
    assert levels[0, 0, 0] == pytest.approx([1, 0.75, 0.25, 0], abs=1e-6)
    assert (levels[0, 0, 1:] == 0).all()


def test_silence_is_black_everywhere() -> None:
    for front_end in (FrontEnd(), FrontEnd(magnitude="linear")):
        assert (picture(np.zeros((2, 3, 4), np.float32), front_end) == 0).all()
    assert (decibels(np.zeros((1, 2, 2), np.float32), 60.0) == -60).all()


@given(gain=st.floats(1e-3, 1e3))
def test_a_louder_sound_gives_the_same_picture(gain: float) -> None:
    for front_end in (FrontEnd(), FrontEnd(magnitude="linear", n_rows=9)):
        one, two = (picture(ramp(6, 5) * np.float32(g), front_end) for g in (1, gain))
        assert np.abs(one - two).max() < 1e-5


def test_the_linear_scale_uses_each_pictures_own_range() -> None:
    both = stretch(np.concatenate([ramp(3, 4), 100 + 7 * ramp(3, 4)]))
    assert both.min() == 0
    assert both.max() == 1
    assert np.abs(both[0] - both[1]).max() < 1e-5
    assert (stretch(np.full((1, 2, 2), 3, np.float32)) == 0).all()


@given(n_scales=st.integers(1, 200), n_rows=st.integers(1, 300))
def test_the_row_map_stays_inside_and_keeps_the_order(n_scales: int, n_rows: int) -> None:
    lower, share = row_map(n_scales, n_rows)
    place = lower + share
    assert ((lower >= 0) & (lower < n_scales) & (share >= 0) & (share <= 1)).all()
    assert (np.diff(place) >= 0).all()
    assert place.mean() == pytest.approx((n_scales - 1) / 2, abs=0.01)
    constant = np.full((1, n_scales, 2), 5, np.float32)
    assert (map_rows(constant, n_rows) == 5).all()


def test_the_row_map_is_linear_between_scales() -> None:
    scales = np.arange(151, dtype=np.float32)[None, :, None] * np.ones((1, 1, 3), np.float32)
    rows = map_rows(scales, 224)[0, :, 0]
    assert rows == pytest.approx(np.clip((np.arange(224) + 0.5) * 151 / 224 - 0.5, 0, 150), abs=1e-4)


def test_the_papers_picture_has_its_shape_and_colours() -> None:
    front_end = FrontEnd.paper()
    sizes = np.random.default_rng(0).random((2, 151, 224)).astype(np.float32)
    image = picture(sizes, front_end)
    assert image.shape == (2, 3, 224, 224)
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    flat = image[0].reshape(3, -1).T
    colours = parula()
    assert any((flat == colours[0]).all(1))
    assert any((flat == colours[-1]).all(1))


def test_the_colour_map_rises_in_brightness_from_blue_to_yellow() -> None:
    colours = parula()
    assert colours.shape == (256, 3)
    assert (colours >= 0).all()
    assert (colours <= 1).all()
    assert (np.diff(colours @ np.array([0.2126, 0.7152, 0.0722])) > 0).all()
    assert colours[0].argmax() == 2
    assert colours[-1].argmin() == 2


@pytest.mark.parametrize("n_scales", [0, 128])
def test_a_spectrogram_shows_a_tone_in_its_row(n_scales: int) -> None:
    front_end = FrontEnd(transform="stft", n_scales=n_scales, n_columns=56)
    spectrogram = open_scalogram(front_end)
    row = 40
    hertz = spectrogram.frequencies_hz[row]
    tone = np.cos(2 * np.pi * hertz * np.arange(44_100) / 44_100)[None].astype(np.float32)
    sizes = spectrogram(tone)
    assert spectrogram.name == "stft"
    assert sizes.shape == (1, n_scales or 1024, 56)
    assert (sizes[0, :, 5:-5].argmax(0) == row).all()
    assert sizes[0, row, 5:-5] == pytest.approx(np.ones(46), abs=1e-3)
    assert (np.diff(spectrogram.frequencies_hz) < 0).all()
    assert picture(sizes, front_end).shape == (1, 1, n_scales or 1024, 56)


def test_a_spectrogram_refuses_what_it_cannot_resolve() -> None:
    with pytest.raises(ParameterError, match="n_scales=2000"):
        open_scalogram(FrontEnd(transform="stft", n_scales=2000))
    with pytest.raises(ParameterError, match="window=500"):
        open_scalogram(FrontEnd(transform="stft", window=500, n_columns=10))
    with pytest.raises(ParameterError, match="nan"):
        open_scalogram(FrontEnd(transform="stft"))(np.full((1, 44_100), np.nan, np.float32))
