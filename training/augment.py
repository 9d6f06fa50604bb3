"""Augmentation of scalogram levels: transposition, time, microphone, noise, masks. All of a batch at once, in torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mird.training.pictures import CACHE_RANGE_DB

DB_TO_POWER = 0.2302585
"""ln(10) / 10, to the digits that training has used."""

SLOPE_DB = (-6.0, 9.0)
"""Range of stationary noise's slope, dB an octave of the picture's rows."""


@dataclass(frozen=True)
class AugmentSettings:
    """How far and how often; shares in [0, 1].

    Attributes
    ----------
    share : share of a batch that is augmented at all; the rest stays clean
    transpose : rows either way (a row is one voice: a twelfth of an octave by default)
    delay, advance : columns to the right and to the left at most
    eq_db : standard deviation of tilt and bumps, dB
    cut : share with a low cut, and as large a share with a high cut
    noise : share with noise; noise_db : signal-to-noise range, dB
    mask : share with a masked band of rows, and of columns
    """

    share: float = 0.6
    transpose: int = 4
    delay: int = 28
    advance: int = 28
    eq_db: float = 5.0
    cut: float = 0.4
    noise: float = 0.6
    noise_db: tuple[float, float] = (8.0, 40.0)
    mask: float = 0.4


def to_input(levels: Tensor, range_db: float) -> Tensor:
    """Levels in dB below the peak, any shape, to the encoder's [0, 1]; equals ``kernels.image.picture``."""
    return levels.clamp(-range_db, 0.0) / range_db + 1.0


def augment(levels: Tensor, noises: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Augment a batch.

    Parameters
    ----------
    levels : Tensor, shape (n, rows, columns), dB below each picture's peak, highest frequency first
    noises : Tensor, shape (m, rows, columns)
        Levels of sounds that are no instruments, to be mixed in.
    generator : torch.Generator
        Source of every draw.

    Returns
    -------
    Tensor, shape (n, rows, columns)
        dB below the new peak, which a mask may have hidden.
    """
    n = len(levels)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    chosen = uniform(n, 1, 1) < settings.share
    out = _shift(levels, settings, generator)
    out = out + _microphone(n, levels.shape[1], settings, generator)
    out = out - out.amax((1, 2), keepdim=True)
    out = torch.where(uniform(n, 1, 1) < settings.noise, _with_noise(out, noises, settings, generator), out)
    out = out - out.amax((1, 2), keepdim=True)
    for axis in (1, 2):
        size = levels.shape[axis]
        width, start = (uniform(n, 1) * 0.15 + 0.02) * size, uniform(n, 1) * size * 0.85
        at = torch.arange(size)[None]
        hidden = (at >= start) & (at < start + width) & (uniform(n, 1) < settings.mask)
        out = out.masked_fill(hidden[:, :, None] if axis == 1 else hidden[:, None, :], -CACHE_RANGE_DB)
    return torch.where(chosen, out, levels)


def _shift(levels: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Transposed by whole rows and moved by whole columns; what comes in is empty."""
    n, n_rows, n_columns = levels.shape
    rows = torch.randint(-settings.transpose, settings.transpose + 1, (n, 1), generator=generator)
    columns = torch.randint(-settings.advance, settings.delay + 1, (n, 1), generator=generator)
    from_row, from_column = torch.arange(n_rows)[None] - rows, torch.arange(n_columns)[None] - columns
    picked = levels.gather(1, from_row.clamp(0, n_rows - 1)[:, :, None].expand(-1, -1, n_columns))
    picked = picked.gather(2, from_column.clamp(0, n_columns - 1)[:, None, :].expand(-1, n_rows, -1))
    row_inside = (from_row >= 0) & (from_row < n_rows)
    column_inside = (from_column >= 0) & (from_column < n_columns)
    return torch.where(row_inside[:, :, None] & column_inside[:, None, :], picked, -CACHE_RANGE_DB)


def _microphone(n: int, n_rows: int, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """A frequency response in dB, shape (n, rows, 1): tilt, four bumps, sometimes a low or a high cut."""
    f = torch.linspace(-1.0, 1.0, n_rows)[None]  # -1: highest row

    def uniform() -> Tensor:
        return torch.rand(n, 1, generator=generator)

    def normal() -> Tensor:
        return torch.randn(n, 1, generator=generator)

    response = normal() * 1.2 * settings.eq_db * f
    for _ in range(4):
        response = response + normal() * settings.eq_db * torch.exp(
            -(((f - (2 * uniform() - 1)) / (0.05 + 0.35 * uniform())) ** 2)
        )
    response = response - torch.relu(f - (0.55 + 0.6 * uniform())) * 120.0 * (uniform() < settings.cut)
    response = response - torch.relu(-f - (0.45 + 0.6 * uniform())) * 120.0 * (uniform() < settings.cut)
    return response[:, :, None]


def _with_noise(levels: Tensor, noises: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Powers added: half of the noises recorded, half stationary with a random slope per octave."""
    n, n_rows, n_columns = levels.shape
    power = torch.exp(levels * DB_TO_POWER)
    octaves = torch.linspace(1.0, 0.0, n_rows).view(1, n_rows, 1) * (n_rows / 12.0)
    # In bands of constant Q pink noise is level, brown falls by 3 dB an octave, violet rises by 9.
    low_db, high_db = SLOPE_DB
    slope_db = low_db + (high_db - low_db) * torch.rand(n, 1, 1, generator=generator)
    stationary = torch.exp(octaves * slope_db * DB_TO_POWER) * (
        0.5 + torch.rand(n, n_rows, n_columns, generator=generator)
    )
    if len(noises):
        recorded = torch.exp(noises[torch.randint(len(noises), (n,), generator=generator)] * DB_TO_POWER)
        stationary = stationary / stationary.mean((1, 2), keepdim=True)
        recorded = recorded / recorded.mean((1, 2), keepdim=True)
        use = torch.rand(n, 1, 1, generator=generator) < 0.5
        stationary = torch.where(use, recorded, stationary)
    noise = stationary / stationary.mean((1, 2), keepdim=True)
    low, high = settings.noise_db
    ratio_db = low + (high - low) * torch.rand(n, 1, 1, generator=generator)
    mixed = power + noise * power.mean((1, 2), keepdim=True) * torch.exp(-ratio_db * DB_TO_POWER)
    return torch.log(mixed + 1e-12) / DB_TO_POWER
