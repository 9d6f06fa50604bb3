"""Encoder files: what every back end does with a good one, and with a bad one."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mird.kernels.encoder import (
    BACKGROUND_KEY,
    FORMAT_KEY,
    FRONT_END_KEY,
    HEAD_KEY,
    THRESHOLD_KEY,
    Encoder,
    EncoderCard,
    open_encoder,
)
from mird.kernels.encoder_onnxruntime import OnnxRuntimeEncoder
from mird.kernels.encoder_torch import TorchEncoder
from mird.kernels.errors import EngineError, ParameterError
from mird.kernels.frontend import FrontEnd

Open = Callable[[Path], Encoder]

BACKENDS: dict[str, Open] = {
    "onnxruntime": OnnxRuntimeEncoder,
    "openvino": lambda path: open_encoder(path, name="openvino"),
    "torch": lambda path: TorchEncoder(path, "float32", "cpu"),
}


ROUNDING = {"onnxruntime": 1e-5, "openvino": 5e-3, "torch": 1e-5}
"""OpenVINO takes bfloat16 by itself where the CPU has it."""


@pytest.fixture(params=BACKENDS)
def opened_by(request: pytest.FixtureRequest) -> Open:
    return BACKENDS[request.param]


@pytest.fixture(scope="module")
def pictures(card: EncoderCard) -> NDArray[np.float32]:
    shape = (7, 1, card.front_end.n_scales, card.front_end.n_columns)
    return np.random.default_rng(8).random(shape, dtype=np.float32)


def computed(path: Path, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the file's weights say, in float64."""
    weights, bias = (onnx.numpy_helper.to_array(each).astype(float) for each in onnx.load(path).graph.initializer)
    out = pictures.reshape(len(pictures), -1) @ weights + bias
    unit: NDArray[np.float64] = out / np.linalg.norm(out, axis=1, keepdims=True)
    return unit


def test_embeds_what_the_weights_say(opened_by: Open, encoder_file: Path, pictures: NDArray[np.float32]) -> None:
    encoder = opened_by(encoder_file)
    embeddings = encoder(pictures)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, computed(encoder_file, pictures), atol=ROUNDING[encoder.name])
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, rtol=1e-5)


def test_pictures_are_embedded_each_by_itself(
    opened_by: Open, encoder_file: Path, pictures: NDArray[np.float32]
) -> None:
    encoder = opened_by(encoder_file)
    together = encoder(pictures)
    for number in range(len(pictures)):
        np.testing.assert_allclose(encoder(pictures[number : number + 1])[0], together[number], atol=1e-6)
    assert encoder(pictures[:0]).shape == (0, 16)


def test_threads_may_call_at_once(opened_by: Open, encoder_file: Path, pictures: NDArray[np.float32]) -> None:
    """To the last bit what they get one after the other.

    All of them are new threads: torch.set_num_threads, which a test of training may have called in the main one, holds
    for the sums of the thread that called it alone.
    """
    encoder = opened_by(encoder_file)
    wanted: list[NDArray[np.float32]] = []
    found: list[NDArray[np.float32]] = []
    alone = Thread(target=lambda: wanted.append(encoder(pictures)))
    alone.start()
    alone.join()
    threads = [Thread(target=lambda: found.extend(encoder(pictures) for _ in range(50))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 200
    assert all(np.array_equal(each, wanted[0]) for each in found)


def test_card_comes_back_as_it_was_written(opened_by: Open, encoder_file: Path, card: EncoderCard) -> None:
    found = opened_by(encoder_file).card
    assert (found.name, found.front_end, found.fingerprint) == (card.name, card.front_end, card.fingerprint)
    assert found.unknown_threshold == card.unknown_threshold
    assert (found.head.bias, found.head.several) == (card.head.bias, 2.5)
    assert (found.head.attention, found.head.attended, found.head.power) == (4.0, 0.5, 2)
    np.testing.assert_array_equal(found.head.gamma, card.head.gamma)
    np.testing.assert_array_equal(found.background, card.background)


def test_card_without_background(
    opened_by: Open, card: EncoderCard, tmp_path: Path, write: Callable[..., None]
) -> None:
    path = tmp_path / "alone.onnx"
    write(path, replace(card, background=np.zeros((0, 16), np.float32)).to_metadata())
    assert opened_by(path).card.background.shape == (0, 16)


def test_card_of_before_the_number_and_the_choice_of_shots_counted(
    opened_by: Open, card: EncoderCard, tmp_path: Path, write: Callable[..., None]
) -> None:
    path = tmp_path / "before.onnx"
    metadata = card.to_metadata()
    head = json.loads(metadata[HEAD_KEY])
    del head["several"], head["attention"], head["attended"], head["power"]
    write(path, metadata | {HEAD_KEY: json.dumps(head)})
    found = opened_by(path).card.head
    assert (found.several, found.attention, found.attended, found.power) == (0.0, 0.0, 0.0, 1)


@pytest.mark.parametrize("change", ["type", "axes", "rows", "channels"])
def test_pictures_of_another_kind_are_refused(
    opened_by: Open, encoder_file: Path, pictures: NDArray[np.float32], change: str
) -> None:
    wrong: dict[str, Any] = {
        "type": pictures.astype(np.float64),
        "axes": pictures[:, 0],
        "rows": pictures[:, :, :-1],
        "channels": np.repeat(pictures, 3, axis=1),
    }
    with pytest.raises(ParameterError, match=r"\(n, 1, 40, 24\) and float32 are needed"):
        opened_by(encoder_file)(wrong[change])


def test_missing_file(opened_by: Open, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"gone\.onnx: no such encoder file; leave `engine` unset"):
        opened_by(tmp_path / "gone.onnx")
    with pytest.raises(EngineError, match="no such encoder file"):
        opened_by(tmp_path)


@pytest.mark.parametrize("content", [b"", b"RIFF not a network at all", b"\x08\x09\x3a\xff\xff\xff\xff\x0f"])
def test_file_that_is_no_network(opened_by: Open, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"bad\.onnx: "):
        opened_by(path)


def test_truncated_file(opened_by: Open, encoder_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    content = encoder_file.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(EngineError, match=r"half\.onnx: "):
        opened_by(path)


def test_network_without_metadata(opened_by: Open, tmp_path: Path, write: Callable[..., None]) -> None:
    path = tmp_path / "plain.onnx"
    write(path, {})
    with pytest.raises(EngineError, match=r"plain\.onnx: carries no mird metadata; use an encoder that `mird train`"):
        opened_by(path)


def test_newer_format(opened_by: Open, card: EncoderCard, tmp_path: Path, write: Callable[..., None]) -> None:
    path = tmp_path / "new.onnx"
    write(path, card.to_metadata() | {FORMAT_KEY: "2"})
    with pytest.raises(EngineError, match=r"new\.onnx: has format 2, this mird reads 1"):
        opened_by(path)


DAMAGE = {
    "head is no JSON": {HEAD_KEY: "{"},
    "head is a list": {HEAD_KEY: "[1, 2]"},
    "gamma is no base64": {HEAD_KEY: json.dumps({"gamma": "a", "bias": 1.0})},
    "gamma is cut": {HEAD_KEY: json.dumps({"gamma": "AAAA", "bias": 1.0})},
    "gamma is empty": {HEAD_KEY: json.dumps({"gamma": "", "bias": 1.0})},
    "gamma is not finite": {HEAD_KEY: json.dumps({"gamma": "AADAfw==", "bias": 1.0})},
    "no bias": {HEAD_KEY: json.dumps({"gamma": "AACAPw=="})},
    "bias is not finite": {HEAD_KEY: '{"gamma": "AACAPw==", "bias": Infinity}'},
    "several is not finite": {HEAD_KEY: '{"gamma": "AACAPw==", "bias": 1.0, "several": NaN}'},
    "attention is below 0": {HEAD_KEY: '{"gamma": "AACAPw==", "bias": 1.0, "attention": -1.0}'},
    "attention is beyond float32": {HEAD_KEY: '{"gamma": "AACAPw==", "bias": 1.0, "attention": 1e300}'},
    "power is 1.7": {HEAD_KEY: '{"gamma": "AACAPw==", "bias": 1.0, "power": 1.7}'},
    "power is a word": {HEAD_KEY: '{"gamma": "AACAPw==", "bias": 1.0, "power": "two"}'},
    "power is 3": {HEAD_KEY: '{"gamma": "AACAPw==", "bias": 1.0, "power": 3}'},
    "threshold is a word": {THRESHOLD_KEY: "high"},
    "threshold is above 1": {THRESHOLD_KEY: "1.5"},
    "threshold is not a number": {THRESHOLD_KEY: "nan"},
    "front end lacks a field": {FRONT_END_KEY: "{}"},
    "background does not fit": {BACKGROUND_KEY: "AACAPw=="},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_metadata(
    opened_by: Open, card: EncoderCard, tmp_path: Path, write: Callable[..., None], damage: str
) -> None:
    path = tmp_path / "damaged.onnx"
    write(path, card.to_metadata() | DAMAGE[damage])
    with pytest.raises(EngineError, match=r"damaged\.onnx: its metadata are damaged .*; export the encoder again"):
        opened_by(path)


@pytest.mark.parametrize("key", ["mird.name", FRONT_END_KEY, "mird.fingerprint", HEAD_KEY, THRESHOLD_KEY])
def test_missing_metadata(
    opened_by: Open, card: EncoderCard, tmp_path: Path, write: Callable[..., None], key: str
) -> None:
    path = tmp_path / "lacking.onnx"
    write(path, {name: value for name, value in card.to_metadata().items() if name != key})
    with pytest.raises(EngineError, match=key):
        opened_by(path)


def test_comparison_of_another_size(
    opened_by: Open, card: EncoderCard, tmp_path: Path, write: Callable[..., None]
) -> None:
    path = tmp_path / "wide.onnx"
    write(path, card.to_metadata(), n_dims=17)
    with pytest.raises(EngineError, match="gives 17 numbers, its comparison has 16 weights"):
        opened_by(path)


def test_open_encoder_takes_a_back_end_that_is_here(encoder_file: Path) -> None:
    encoder = open_encoder(encoder_file, threads=2)
    assert encoder.name in BACKENDS
    assert isinstance(encoder.card.front_end, FrontEnd)
