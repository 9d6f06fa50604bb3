"""Give a finished engine the random axes of :func:`mird.training.fit.rotation`, and fit what comes after them anew.

usage: python -m mird.training.turn ENGINE.onnx OUT.onnx RECIPE.toml CACHE MANIFEST.csv...

`mird train` turns an encoder where it whitens it; this is for an engine that was trained before it did. No cosine
between embeddings changes; comparison, background, threshold and fingerprint do: support sets must be made anew.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from torch import Tensor, nn

from mird.kernels.encoder import Encoder, open_encoder
from mird.training.errors import TrainingError
from mird.training.export import write_card
from mird.training.fit import Whitening, rotation
from mird.training.fitting import fit_comparison
from mird.training.recipe import Recipe, read_recipe
from mird.training.run import load_data

WEIGHT, BIAS = "whiten.weight", "whiten.bias"


class EngineModule(nn.Module):
    """An engine's file where a network is wanted."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = encoder
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Embeddings, shape (n, n_dims), of pictures, shape (n, channels, rows, columns)."""
        return torch.from_numpy(self._encoder(pictures.numpy()))


def turn(engine: Path, out: Path, recipe: Recipe, cache: Path, manifests: Sequence[Path]) -> str:
    """Write the engine with its last layer turned and everything after it fitted anew.

    Parameters
    ----------
    recipe : Recipe
        Of the engine: what was held out, and how the comparison is fitted.
    manifests : sequence of Path
        What it was trained on, and the held-out sources.

    Returns
    -------
    str
        The new fingerprint.

    Raises
    ------
    EngineError
        ``engine`` is no encoder of mird's.
    TrainingError
        It has no whitening that could be turned, or ``out`` cannot be written.
    """
    encoder = open_encoder(engine)
    model = onnx.load(str(engine))
    found = {each.name: each for each in model.graph.initializer if each.name in (WEIGHT, BIAS)}
    if len(found) != 2:
        raise TrainingError(f"{engine}: has no {WEIGHT} and {BIAS}: it was not exported by mird train")
    card = encoder.card
    data = load_data(manifests, [], replace(recipe, data=replace(recipe.data, n_composed=0, composed_share=0.0)), cache)
    turned = rotation(len(card.head.gamma))
    whitening = Whitening(np.zeros(len(turned)), turned)
    fitted = fit_comparison(EngineModule(encoder), recipe, data.material, data.held_out, whitening)
    digest = hashlib.sha256(card.fingerprint.encode())
    for name, initializer in sorted(found.items()):
        value = (turned.T @ onnx.numpy_helper.to_array(initializer)).astype(np.float32)
        digest.update(value.tobytes())
        initializer.CopyFrom(onnx.numpy_helper.from_array(value, name))
    fingerprint = digest.hexdigest()[:16]
    changed = replace(
        card,
        fingerprint=fingerprint,
        head=fitted.head,
        unknown_threshold=fitted.threshold,
        background=fitted.background,
    )
    write_card(model, changed, out)
    return fingerprint


if __name__ == "__main__":
    source, target, recipe_file, folder, *rest = map(Path, sys.argv[1:])
    sys.stdout.write(f"{target}: {turn(source, target, read_recipe(recipe_file), folder, rest)}\n")
