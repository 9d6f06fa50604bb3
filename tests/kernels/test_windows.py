"""The windows of a clip that sound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError
from mird.kernels.windows import choose_windows, frame_power

RATE_HZ = 8_000
WINDOW = 8_000
FRAME = WINDOW // 50


def tone(duration_s: float, amplitude: float = 0.5) -> NDArray[np.float32]:
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    return (amplitude * np.sin(2 * np.pi * 440.0 * time_s)).astype(np.float32)


def silence(duration_s: float) -> NDArray[np.float32]:
    return np.zeros(round(duration_s * RATE_HZ), dtype=np.float32)


def clip(*parts: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate(parts)


def test_first_window_begins_within_a_frame_of_the_onset() -> None:
    samples = clip(silence(1.37), tone(2.5), silence(1.0))
    starts = choose_windows(samples, WINDOW, 3)
    onset = round(1.37 * RATE_HZ)
    assert onset - FRAME < starts[0] <= onset
    assert all(onset - FRAME < start < onset + 2.5 * RATE_HZ for start in starts)


def test_windows_reach_both_of_two_sounds_before_a_second_of_one() -> None:
    samples = clip(silence(0.5), tone(2.0), silence(6.0), tone(2.0), silence(0.5))
    first, second = choose_windows(samples, WINDOW, 2)
    assert first < 2.5 * RATE_HZ
    assert second >= 8.4 * RATE_HZ


def test_no_window_lies_in_a_long_rest() -> None:
    samples = clip(tone(1.5), silence(20.0), tone(1.5))
    starts = choose_windows(samples, WINDOW, 50)
    assert starts
    assert not [start for start in starts if 1.5 * RATE_HZ <= start < 20.0 * RATE_HZ]


def test_a_click_far_from_the_sound_is_passed_over() -> None:
    samples = clip(silence(1.0), tone(0.05), silence(4.0), tone(2.0))
    starts = choose_windows(samples, WINDOW, 10)
    assert min(starts) > 4.5 * RATE_HZ


def test_short_hits_are_taken_where_nothing_longer_sounds() -> None:
    samples = clip(*[part for _ in range(4) for part in (tone(0.1), silence(1.9))])
    starts = choose_windows(samples, WINDOW, 10)
    assert [round(start / RATE_HZ) for start in starts] == [0, 2, 4, 6]


def test_sound_far_below_the_loudest_does_not_count() -> None:
    samples = clip(tone(3.0, 0.5), tone(10.0, 0.005))
    assert max(choose_windows(samples, WINDOW, 50)) < 3.0 * RATE_HZ
    assert max(choose_windows(samples, WINDOW, 50, relative_db=50.0)) > 10.0 * RATE_HZ


@pytest.mark.parametrize("samples", [silence(0.0), silence(5.0), tone(5.0, 0.0005), np.full(9_999, 0.25, np.float32)])
def test_a_clip_without_sound_has_no_windows(samples: NDArray[np.float32]) -> None:
    assert choose_windows(samples, WINDOW, 5) == ()


def test_the_floor_decides_what_is_silent() -> None:
    assert choose_windows(tone(2.0, 0.0005), WINDOW, 1, floor_dbfs=-80.0) == (0,)


@pytest.mark.parametrize("n", [2, 100, WINDOW - 1, WINDOW])
def test_a_clip_no_longer_than_a_window_is_one_window(n: int) -> None:
    assert choose_windows(tone(1.0)[-n:], WINDOW, 5) == (0,)


def test_sound_at_the_very_end_still_gives_a_whole_window() -> None:
    samples = clip(silence(3.0), tone(0.2))
    assert choose_windows(samples, WINDOW, 5) == (samples.size - WINDOW,)


def test_a_constant_offset_is_not_sound() -> None:
    samples = clip(silence(3.0), tone(2.0), silence(3.0)) + np.float32(0.2)
    starts = choose_windows(samples, WINDOW, 50)
    assert min(starts) > 2.9 * RATE_HZ
    assert max(starts) < 5.0 * RATE_HZ


def test_frame_power_is_the_mean_square_of_each_frame() -> None:
    samples = np.random.default_rng(1).normal(0.0, 0.1, 1_003).astype(np.float32)
    centred = samples.astype(np.float64) - samples.mean(dtype=np.float64)
    expected = [float(np.mean(centred[start : start + 100] ** 2)) for start in range(0, 1_003, 100)]
    np.testing.assert_allclose(frame_power(samples, 100), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("samples", "window", "n_max", "relative_db", "match"),
    [
        (np.zeros((10, 2), np.float32), 10, 1, 30.0, "shape"),
        (tone(0.1), 0, 1, 30.0, "window=0"),
        (tone(0.1), 10, 0, 30.0, "n_max=0"),
        (tone(0.1), 10, 1, -1.0, "relative_db=-1"),
        (np.array([0.0, np.nan], np.float32), 10, 1, 30.0, "finite"),
        (np.array([np.inf, -np.inf], np.float32), 10, 1, 30.0, "finite"),
    ],
)
def test_what_cannot_be_computed_with_is_refused(
    samples: NDArray[np.float32], window: int, n_max: int, relative_db: float, match: str
) -> None:
    with pytest.raises(ParameterError, match=match):
        choose_windows(samples, window, n_max, relative_db=relative_db)


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.floats(0.01, 3.0), st.sampled_from([0.0, 0.0, 0.0003, 0.01, 0.3, 0.9])), min_size=1, max_size=8
    ),
    window=st.integers(1, 12_000),
    n_max=st.integers(1, 12),
)
def test_windows_lie_inside_apart_and_where_it_sounds(
    parts: list[tuple[float, float]], window: int, n_max: int
) -> None:
    samples = clip(*[tone(duration_s, amplitude) for duration_s, amplitude in parts])
    starts = choose_windows(samples, window, n_max)
    assert starts == choose_windows(samples.copy(), window, n_max)
    assert len(starts) <= n_max
    assert list(starts) == sorted(set(starts))
    assert all(2 * (after - before) >= window for before, after in itertools.pairwise(starts))
    assert all(start >= 0 and (start + window <= samples.size or starts == (0,)) for start in starts)
    if max(amplitude for duration_s, amplitude in parts) >= 0.01:
        assert starts
    for start in starts:
        assert np.abs(samples[start : start + window + window // 50]).max() > 0.0
