"""A finished engine is given other axes: no cosine changes, and what comes after the embedding is fitted anew."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mird.kernels.encoder import open_encoder
from mird.training.errors import TrainingError
from mird.training.fit import rotation
from mird.training.recipe import read_recipe
from mird.training.turn import turn


@pytest.mark.parametrize("file", ["encoder.onnx", "encoder-int8.onnx"])
def test_cosines_stay_and_the_comparison_is_fitted_anew(
    trained: Any, orchestra: Path, tmp_path: Path, file: str
) -> None:
    before = open_encoder(trained.folder / file)
    fingerprint = turn(
        trained.folder / file, tmp_path / "turned.onnx", read_recipe(trained.recipe), tmp_path, [orchestra]
    )
    after = open_encoder(tmp_path / "turned.onnx")
    pictures = np.random.default_rng(0).random((5, 1, 48, 32)).astype(np.float32)
    one, two = before(pictures), after(pictures)
    np.testing.assert_allclose(two, one @ rotation(24), atol=1e-5)
    np.testing.assert_allclose(two @ two.T, one @ one.T, atol=1e-5)
    assert after.card.fingerprint == fingerprint != before.card.fingerprint
    assert (after.card.name, after.card.front_end) == (before.card.name, before.card.front_end)
    assert after.card.head.gamma.mean() < 0
    assert 0 < after.card.unknown_threshold < 1
    np.testing.assert_allclose(np.linalg.norm(after.card.background, axis=1), 1.0, rtol=1e-5)


def test_engine_that_has_no_such_layer(trained: Any, orchestra: Path, tmp_path: Path) -> None:
    shutil.copy(trained.folder / "encoder.onnx", tmp_path / "other.onnx")
    model = onnx.load(tmp_path / "other.onnx")
    for each in model.graph.initializer:
        each.name = each.name.replace("whiten.", "last.")
    for node in model.graph.node:
        node.input[:] = [name.replace("whiten.", "last.") for name in node.input]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(TrainingError, match=r"other\.onnx: has no whiten\.weight and whiten\.bias"):
        turn(tmp_path / "other.onnx", tmp_path / "out.onnx", read_recipe(trained.recipe), tmp_path, [orchestra])
