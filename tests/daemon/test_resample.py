"""The resampler: a stream of blocks gives what one shot gives, channel by channel."""

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from mird.daemon.resample import Resampler


def noise(n: int, n_channels: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(7)
    return (0.1 * generator.standard_normal((n, n_channels))).astype(np.float32)


def streamed(resampler: Resampler, sound: NDArray[np.float32], sizes: list[int]) -> NDArray[np.float32]:
    """Push blocks of these sizes in turn until the sound is through, then flush."""
    blocks, position, turn = [], 0, 0
    while position < len(sound):
        blocks.append(resampler.push(sound[position : position + sizes[turn % len(sizes)]]))
        position += sizes[turn % len(sizes)]
        turn += 1
    blocks.append(resampler.flush())
    return np.concatenate(blocks)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_101, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("sizes", [[480], [1, 997, 0, 64, 4096]])
def test_a_stream_has_no_seam(rate_hz: int, sizes: list[int]) -> None:
    sound = noise(rate_hz, 2)
    resampled = streamed(Resampler(rate_hz, 44_100, 2), sound, sizes)
    once = soxr.resample(sound, rate_hz, 44_100, quality="HQ")
    assert resampled.dtype == np.float32
    assert resampled.shape == once.shape
    np.testing.assert_allclose(resampled, once, atol=1e-6)


def test_a_tone_keeps_its_pitch_its_level_and_its_place() -> None:
    seconds = np.arange(48_000) / 48_000
    tone = 0.5 * np.sin(2 * np.pi * 997.0 * seconds)[:, None].astype(np.float32)
    resampled = streamed(Resampler(48_000, 44_100, 1), tone, [480])[:, 0]
    expected = 0.5 * np.sin(2 * np.pi * 997.0 * np.arange(44_100) / 44_100)
    error = (resampled - expected)[2_000:-2_000]
    assert 20 * np.log10(np.abs(error).max() / 0.5) < -100.0


def test_channels_do_not_touch_each_other() -> None:
    sound = noise(20_000, 5)
    together = streamed(Resampler(48_000, 44_100, 5), sound, [512])
    for channel in range(5):
        alone = streamed(Resampler(48_000, 44_100, 1), sound[:, channel : channel + 1], [512])
        np.testing.assert_allclose(together[:, channel], alone[:, 0], atol=1e-7)


def test_equal_rates_change_nothing() -> None:
    sound = noise(1_000, 3)
    np.testing.assert_array_equal(streamed(Resampler(44_100, 44_100, 3), sound, [100]), sound)


def test_the_lag_is_what_the_documentation_says() -> None:
    for rate_hz, lag_s in ((48_000, 0.020), (22_050, 0.045), (8_000, 0.135)):
        resampler = Resampler(rate_hz, 44_100, 1)
        sound = noise(2 * rate_hz, 1)
        n_out, worst_s = 0, 0.0
        for start in range(0, len(sound), rate_hz // 100):
            n_out += len(resampler.push(sound[start : start + rate_hz // 100]))
            worst_s = max(worst_s, (start + rate_hz // 100) / rate_hz - n_out / 44_100)
        assert worst_s < lag_s, rate_hz


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        Resampler(0, 44_100, 1)
    resampler = Resampler(48_000, 44_100, 2)
    with pytest.raises(ValueError, match="shape"):
        resampler.push(noise(10, 1))
    resampler.flush()
    assert resampler.flush().shape == (0, 2)
    with pytest.raises(ValueError, match="flushed"):
        resampler.push(noise(10, 2))
