"""The chain from sound to scores, over every encoder file that is here: a small one and the shipped one."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.kernels.encoder import open_encoder
from mird.kernels.errors import ParameterError
from mird.kernels.image import picture
from mird.kernels.recognizer import Recognizer
from mird.kernels.scalogram import open_scalogram
from mird.kernels.similarity import judge, probabilities, prototypes

SHIPPED = Path(__file__).parents[2] / "configs" / "models" / "default.onnx"


@pytest.fixture(scope="module", params=["small", "shipped"])
def engine(request: pytest.FixtureRequest, encoder_file: Path) -> Path:
    return encoder_file if request.param == "small" else SHIPPED


@pytest.fixture(scope="module")
def recognizer(engine: Path) -> Recognizer:
    return Recognizer(open_encoder(engine))


@pytest.fixture(scope="module")
def windows(recognizer: Recognizer) -> NDArray[np.float32]:
    front_end = recognizer.card.front_end
    t = np.arange(front_end.window) / front_end.rate_hz
    rng = np.random.default_rng(3)
    tones = [np.sin(2 * np.pi * f * t) * np.exp(-d * t) for f, d in ((110, 0), (440, 3), (1000, 9), (3000, 1))]
    noises = [rng.standard_normal(len(t)), rng.standard_normal(len(t)) * (t > 0.3)]
    return (0.2 * np.stack([*tones, *noises])).astype(np.float32)


def test_batch_equals_single_calls(recognizer: Recognizer, windows: NDArray[np.float32]) -> None:
    together = recognizer.embed(windows)
    single = np.concatenate([recognizer.embed(window[None]) for window in windows])
    # An encoder in int8 rounds: a last bit of the picture may turn into a step of the quantisation.
    np.testing.assert_allclose(single, together, atol=2e-5 if "int8" not in recognizer.card.name else 0.05)
    assert ((single * together).sum(axis=1) > 0.999).all()


def test_chain_is_its_links(engine: Path, recognizer: Recognizer, windows: NDArray[np.float32]) -> None:
    card = recognizer.card
    pictures = picture(open_scalogram(card.front_end)(windows), card.front_end)
    embeddings = open_encoder(engine)(pictures)
    np.testing.assert_allclose(recognizer.embed(windows), embeddings, atol=1e-6)
    support = prototypes(("a", "b"), embeddings[:3], np.array([0, 1, 1]))
    wanted = probabilities(judge(embeddings, support, card.head, card.background))
    np.testing.assert_allclose(recognizer.score(windows, support), wanted, rtol=1e-4)
    np.testing.assert_allclose(recognizer.compare(embeddings, support), wanted, rtol=1e-4)


def test_silence_gives_finite_unit_vectors(recognizer: Recognizer) -> None:
    window = recognizer.card.front_end.window
    embeddings = recognizer.embed(np.zeros((2, window), np.float32))
    assert np.isfinite(embeddings).all()
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, rtol=1e-4)


def test_level_does_not_matter(recognizer: Recognizer, windows: NDArray[np.float32]) -> None:
    loud, soft = recognizer.embed(windows), recognizer.embed(windows * np.float32(1 / 64))
    assert ((loud * soft).sum(axis=1) > 0.99).all()


def test_name_says_both_back_ends(recognizer: Recognizer) -> None:
    scalogram, plus, encoder = recognizer.name.partition("+")
    assert (scalogram in ("ducc0", "scipy"), plus, encoder) == (True, "+", "onnxruntime")


@pytest.mark.parametrize("n", [1, 100])
def test_window_of_another_length_is_refused(recognizer: Recognizer, n: int) -> None:
    with pytest.raises(ParameterError):
        recognizer.embed(np.zeros((1, recognizer.card.front_end.window - n), np.float32))
