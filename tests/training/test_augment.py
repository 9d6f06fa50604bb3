"""Augmentation of levels: what is drawn, what stays, and that clean input is the recognizer's."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mird.kernels.frontend import FrontEnd
from mird.kernels.image import decibels, picture
from mird.kernels.scalogram import open_scalogram
from mird.training.augment import AugmentSettings, augment, to_input
from mird.training.pictures import CACHE_RANGE_DB

ALWAYS = AugmentSettings(share=1.0, cut=1.0, noise=1.0, mask=1.0)
NOTHING = AugmentSettings(share=1.0, transpose=0, delay=0, advance=0, eq_db=0.0, cut=0.0, noise=0.0, mask=0.0)
NO_NOISES = torch.zeros(0, 1, 1)

Wave = NDArray[np.float32]


@pytest.fixture(scope="module")
def magnitudes(play: Callable[..., Wave], front_end: FrontEnd) -> NDArray[np.float32]:
    clips = [play(label, take, "hall") for label in ("bell", "horn", "oboe") for take in range(4)]
    return open_scalogram(front_end)(np.stack(clips))


@pytest.fixture(scope="module")
def levels(magnitudes: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(decibels(magnitudes, CACHE_RANGE_DB))


def augmented(levels: Tensor, settings: AugmentSettings, seed: int = 0, noises: Tensor = NO_NOISES) -> Tensor:
    return augment(levels, noises, settings, torch.Generator().manual_seed(seed))


def test_input_is_what_the_recognizer_sees(
    levels: Tensor, magnitudes: NDArray[np.float32], front_end: FrontEnd
) -> None:
    wanted = picture(magnitudes, front_end)[:, 0]
    np.testing.assert_allclose(to_input(levels, front_end.range_db).numpy(), wanted, atol=1e-6)
    # The cache keeps half precision: 110 dB in steps of at most 1/16 dB.
    kept = levels.half().float()
    np.testing.assert_allclose(to_input(kept, front_end.range_db).numpy(), wanted, atol=0.5 / 16 / 80)


def test_generator_decides_everything(levels: Tensor) -> None:
    assert torch.equal(augmented(levels, ALWAYS, 1), augmented(levels, ALWAYS, 1))
    assert not torch.equal(augmented(levels, ALWAYS, 1), augmented(levels, ALWAYS, 2))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    augmented(levels, ALWAYS)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("noises", [False, True])
def test_range_and_shape(levels: Tensor, noises: bool, front_end: FrontEnd) -> None:
    for seed in range(20):
        found = augmented(levels, ALWAYS, seed, levels[:5] if noises else NO_NOISES)
        assert found.shape == levels.shape
        assert torch.isfinite(found).all()
        assert found.max() <= 1e-3
        x = to_input(found, front_end.range_db)
        assert x.min() >= 0
        assert x.max() <= 1 + 1e-5


def test_share_of_zero_leaves_everything_clean(levels: Tensor) -> None:
    assert torch.equal(augmented(levels, replace(ALWAYS, share=0.0)), levels)


def test_share_is_that_of_the_pictures_that_change(levels: Tensor) -> None:
    many = levels[:1].expand(2000, -1, -1)
    changed = (augmented(many, replace(ALWAYS, share=0.3, mask=0.0)) != many).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.04)


def test_settings_of_zero_change_nothing(levels: Tensor) -> None:
    assert torch.equal(augmented(levels, NOTHING), levels)


def test_transposition_moves_rows_exactly(levels: Tensor) -> None:
    found = augmented(levels, replace(NOTHING, transpose=3))
    shifts = set()
    n_rows = levels.shape[1]
    for before, after in zip(levels, found, strict=True):
        for rows in range(-3, 4):
            wanted = torch.full_like(before, -CACHE_RANGE_DB)
            wanted[max(rows, 0) : n_rows + min(rows, 0)] = before[max(-rows, 0) : n_rows - max(rows, 0)]
            if torch.equal(wanted - wanted.max(), after):
                shifts.add(rows)
                break
        else:
            pytest.fail("a picture is no transposition of what it was")
    assert len(shifts) > 2


def test_delay_moves_columns_and_leaves_silence(levels: Tensor) -> None:
    found = augmented(levels, replace(NOTHING, delay=10))
    moved = 0
    for before, after in zip(levels, found, strict=True):
        silent = (after == after.min()).all(0)
        columns = int((~silent).int().argmax())
        moved += columns > 0
        wanted = before[:, : before.shape[1] - columns]
        assert torch.equal(after[:, columns:], wanted - wanted.max())
    assert moved > len(levels) // 2


def test_noise_fills_the_floor_at_the_ratio_that_was_asked_for(levels: Tensor) -> None:
    found = augmented(levels, replace(NOTHING, noise=1.0, noise_db=(20.0, 20.0)), noises=levels[:3])
    power, noisy = (10 ** (each.double() / 10) for each in (levels, found))
    # Levels are relative to each peak: the ratio is in the mean power that was added where there was nothing.
    added = noisy.mean((1, 2)) / power.mean((1, 2))
    assert (added > 0.9).all()
    assert (added < 1.02).all()
    assert ((found > -CACHE_RANGE_DB + 20).float().mean((1, 2)) > 0.9).all()


def test_stationary_noise_comes_in_every_colour_from_brown_to_violet(front_end: FrontEnd) -> None:
    levels = torch.full((200, front_end.n_scales, 8), -CACHE_RANGE_DB)
    levels[:, 20] = 0.0
    out = augmented(levels, replace(NOTHING, noise=1.0, noise_db=(-20.0, -20.0))).mean(2)
    octaves = -torch.arange(front_end.n_scales) / 12.0
    centred = octaves - octaves.mean()
    slopes = (out * centred).sum(1) / (centred**2).sum()
    assert slopes.min() < -3.0
    assert slopes.max() > 7.0


def test_masks_hide_whole_rows_and_columns(levels: Tensor) -> None:
    flat = torch.zeros_like(levels)
    hidden = augmented(flat, replace(NOTHING, mask=1.0)) == -CACHE_RANGE_DB
    rows, columns = hidden.all(2), hidden.all(1)
    assert torch.equal(hidden, rows[:, :, None] | columns[:, None, :])
    assert (rows.float().mean(1) <= 0.2).all()
    # The narrowest mask is narrower than a row.
    assert rows.any(1).float().mean() > 0.7
    assert columns.any(1).float().mean() > 0.7
