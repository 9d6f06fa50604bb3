"""From a trained encoder to a calibrated one: projection, comparison, background and threshold.

Projection and comparison are fitted on training clips; scale, bias and threshold on the sources that the recipe holds
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mird.kernels.image import decibels
from mird.kernels.scalogram import open_scalogram
from mird.kernels.similarity import Head
from mird.training.augment import augment, to_input
from mird.training.episodes import Pool, pools
from mird.training.errors import TrainingError
from mird.training.fit import (
    THRESHOLD_SHOTS,
    Projection,
    calibrate,
    draw_comparisons,
    fit_attended,
    fit_gamma,
    fit_projection,
    fit_threshold,
    representatives,
)
from mird.training.manifest import Recording
from mird.training.material import Material
from mird.training.networks import ResidualEncoder
from mird.training.noises import made_noises
from mird.training.pictures import CACHE_RANGE_DB
from mird.training.recipe import Recipe
from mird.training.speech import made_speech

EMBED_BATCH = 128
FIT_EPISODES = 600
MADE_NOISES = 12
MADE_SPEECH = 960
CLEAN_WEIGHT = 3
"""Of clean clips in the projection, for an augmented one: with 1 clean input loses a point, and with no augmented ones
live-like input and instruments never trained do (model card)."""
THRESHOLD_WAY = 16
"""Classes of the episodes that the threshold is fitted on: between a user's own handful and the shipped forty."""


@dataclass(frozen=True)
class Fitted:
    """What an encoder's card and its last layer need."""

    projection: Projection
    head: Head
    background: NDArray[np.float32]
    threshold: float


def fit_encoder(encoder: ResidualEncoder, recipe: Recipe, material: Material, held_out: Material) -> Fitted:
    """Fit everything that comes after the network.

    Parameters
    ----------
    encoder : ResidualEncoder
        Pictures to features, from several depths.
    material : Material
        What it was trained on.
    held_out : Material
        Recordings that it was not trained on; ``material`` where there are none.
    """
    rng = np.random.default_rng(recipe.seed)
    instruments = [i for i, r in enumerate(material.recordings) if r.is_instrument]
    projection = project(encoder, recipe, material, instruments)
    gamma = _gamma(encoder, recipe, material, instruments, projection, rng)

    known_rows = [i for i, r in enumerate(held_out.recordings) if r.is_instrument]
    known_vectors = projection.apply(embed(encoder, held_out.clean(known_rows), recipe))
    known = _usable([held_out.recordings[i] for i in known_rows], max(recipe.fit.shots))
    way = min(recipe.fit.way, len(known))
    pairs = draw_comparisons(rng, known_vectors, known, known, FIT_EPISODES, way, recipe.fit.shots, recipe.fit.power)
    head = replace(calibrate(pairs, gamma), attention=recipe.fit.attention)
    attended = fit_attended(rng, known_vectors, known, head, way, recipe.fit.shots)
    head = replace(head, attended=attended)

    groups = _no_instruments(encoder, recipe, material, projection, rng)
    background = {label: representatives(vectors) for label, vectors in groups.items()}
    first, strangers, vectors = len(known_vectors), {}, [known_vectors]
    for label, found in groups.items():
        clips = np.arange(first, first + len(found))
        strangers[label] = Pool(label, clips, tuple(map(str, range(len(found)))))
        vectors.append(found)
        first += len(found)
    names = sorted(groups)
    halves = (names[0::2], names[1::2])
    folds = [
        ({label: strangers[label] for label in asked}, np.concatenate([background[label] for label in behind]))
        for asked, behind in (halves, halves[::-1])
    ]
    threshold = fit_threshold(
        rng,
        np.concatenate(vectors),
        known,
        folds,
        head,
        min(THRESHOLD_WAY, len(known)),
        [n for n in THRESHOLD_SHOTS if n <= max(recipe.fit.shots)],
    )
    everything = np.concatenate(list(background.values()))
    return Fitted(projection, head, everything, threshold)


def check_enough(recipe: Recipe, material: Material, held_out: Material) -> None:
    """Refuse, before hours of training, what could not be fitted afterwards.

    Raises
    ------
    TrainingError
        If fewer than two instruments have enough clips to train or to calibrate with.
    """
    n_shots = max(recipe.fit.shots)
    for what, where in (("training", material), ("held-out", held_out)):
        labels = sorted(_usable([r for r in where.recordings if r.is_instrument], n_shots))
        if len(labels) < 2:
            raise TrainingError(
                f"two instruments need {n_shots} {what} clips, or seconds of sound, and a query of another take, for "
                f"the recipe's fit.shots; there are {len(labels)}: {', '.join(labels) or 'none'}"
            )


def project(encoder: ResidualEncoder, recipe: Recipe, material: Material, rows: Sequence[int]) -> Projection:
    """Fit the projection on clips of a material, each clean, `CLEAN_WEIGHT` times, and augmented.

    So what noise, a room or a microphone does to a clip counts as what varies within an instrument. What a soundfont
    makes of it does not, where there are recorded clips.
    """
    rows = [i for i in rows if not material.made[i]] or rows
    clean = material.clean(rows)
    hard = _augmented(clean, material, recipe)
    both = zip(*(embed(encoder, x, recipe) for x in (clean, hard)), strict=True)
    features = [np.concatenate(pair) for pair in both]
    labels, sources = ([getattr(material.recordings[i], what) for i in rows] * 2 for what in ("label", "source"))
    weights = np.repeat((float(CLEAN_WEIGHT), 1.0), len(rows))
    return fit_projection(features, labels, sources, recipe.fit, weights)


@torch.no_grad()
def embed(encoder: ResidualEncoder, levels: NDArray[np.float32], recipe: Recipe) -> list[NDArray[np.float32]]:
    """Every depth's features, shape (n, n_features), of levels, shape (n, rows, columns)."""
    encoder.eval()
    device = next(encoder.parameters()).device
    parts = []
    for first in range(0, len(levels), EMBED_BATCH):
        x = to_input(torch.from_numpy(levels[first : first + EMBED_BATCH]), recipe.front_end.range_db)[:, None]
        parts.append([depth.float().cpu().numpy() for depth in encoder.depths(x.to(device))])
    return [np.concatenate(depth) for depth in zip(*parts, strict=True)]


def _augmented(levels: NDArray[np.float32], material: Material, recipe: Recipe) -> NDArray[np.float32]:
    """Every picture augmented as in training, with the recipe's seed."""
    noise = [i for i, r in enumerate(material.recordings) if not r.is_instrument]
    noises: Tensor = torch.from_numpy(material.clean(noise)) if noise else torch.zeros(0, *levels.shape[1:])
    generator = torch.Generator().manual_seed(recipe.seed)
    hard: NDArray[np.float32] = augment(
        torch.from_numpy(levels), noises, replace(recipe.augment, share=1.0), generator
    ).numpy()
    return hard


def _gamma(
    encoder: ResidualEncoder,
    recipe: Recipe,
    material: Material,
    instruments: list[int],
    projection: Projection,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """The comparison's weights, on augmented training clips: clean ones are told apart too easily to learn from."""
    hard = _augmented(material.draw(np.array(instruments), 1.0, rng), material, recipe)
    vectors = projection.apply(embed(encoder, hard, recipe))
    rows = [material.recordings[i] for i in instruments]
    # Query and support of one episode should not share a source, where enough classes have two.
    across = _usable([replace(r, take=r.source) for r in rows], max(recipe.fit.shots))
    usable = across if len(across) >= recipe.fit.way else _usable(rows, max(recipe.fit.shots))
    way = min(recipe.fit.way, len(usable))
    pairs = draw_comparisons(rng, vectors, usable, usable, FIT_EPISODES, way, recipe.fit.shots, recipe.fit.power)
    return fit_gamma(pairs, recipe.fit.stiffness)


def _no_instruments(
    encoder: ResidualEncoder, recipe: Recipe, material: Material, projection: Projection, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Embeddings of sounds that are no instrument: those of the manifests by class, and made ones."""
    front_end = recipe.front_end
    transform = open_scalogram(front_end)
    groups = {}
    for label in sorted({r.label for r in material.recordings if not r.is_instrument}):
        clips = [i for i, r in enumerate(material.recordings) if r.label == label]
        groups[label] = projection.apply(embed(encoder, material.clean(clips), recipe))
    made = made_noises(rng, MADE_NOISES, front_end.window, front_end.rate_hz)
    made["speech"] = made_speech(rng, MADE_SPEECH, front_end.window, front_end.rate_hz)
    for name, windows in made.items():
        if not len(windows):
            continue
        groups[name] = projection.apply(embed(encoder, decibels(transform(windows), CACHE_RANGE_DB), recipe))
    return groups


def _usable(rows: Sequence[Recording], n_shots: int) -> dict[str, Pool]:
    """Classes in which every clip, taken as a query, leaves enough clips of other takes."""
    found = pools(range(len(rows)), [r.label for r in rows], [r.take for r in rows])
    return {
        label: pool
        for label, pool in found.items()
        if len(pool.takes) - max(pool.takes.count(take) for take in set(pool.takes)) >= n_shots
    }
