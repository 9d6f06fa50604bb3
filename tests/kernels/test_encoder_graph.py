"""The shipped encoder rewritten to other precisions, each computed by ONNX Runtime and compared with the file."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from mird.kernels.encoder import EncoderCard
from mird.kernels.encoder_graph import Precision, float_graph, graph_in, is_quantised, load_graph
from mird.kernels.errors import EngineError
from mird.kernels.image import picture
from mird.kernels.scalogram import open_scalogram

SHIPPED = Path(__file__).parents[2] / "configs" / "models" / "default.onnx"


@pytest.fixture(scope="module")
def shipped() -> onnx.ModelProto:
    return load_graph(SHIPPED)


@pytest.fixture(scope="module")
def pictures(shipped: onnx.ModelProto) -> NDArray[np.float32]:
    card = EncoderCard.from_metadata({each.key: each.value for each in shipped.metadata_props}, "shipped")
    t = np.arange(card.front_end.window) / card.front_end.rate_hz
    rng = np.random.default_rng(8)
    strings = [
        sum(np.sin(2 * np.pi * f * h * t) / h for h in range(1, 20) if f * h < 20_000) * np.exp(-d * t)
        for f, d in ((98.0, 0.5), (220.0, 3), (523.3, 1), (1568.0, 6))
    ]
    sounds = np.stack([*strings, rng.standard_normal(len(t)), 0.1 * rng.standard_normal(len(t)) + strings[0]])
    return picture(open_scalogram(card.front_end)(sounds.astype(np.float32)), card.front_end)


def run(model: onnx.ModelProto, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # which errs in float16
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    given = pictures.astype(np.float16) if wanted.type == "tensor(float16)" else pictures
    embeddings: NDArray[np.float64] = session.run(None, {wanted.name: given})[0].astype(np.float64)
    return embeddings


def least_cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float((a * b).sum(axis=1).min())


@pytest.mark.parametrize(
    ("precision", "to_float", "to_file"),
    [("float32", 0.99999, 0.997), ("float16", 0.9999, 0.997), ("int8", 0.99, 0.99)],
)
def test_rewritten_networks_embed_alike(
    shipped: onnx.ModelProto,
    pictures: NDArray[np.float32],
    precision: Precision,
    to_float: float,
    to_file: float,
) -> None:
    found = graph_in(shipped, precision)
    onnx.checker.check_model(found, full_check=True)
    embeddings = run(found, pictures)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert least_cosine(embeddings, run(float_graph(shipped), pictures)) > to_float
    assert least_cosine(embeddings, run(shipped, pictures)) > to_file
    assert {each.key for each in found.metadata_props} == {each.key for each in shipped.metadata_props}


def test_every_relu_that_the_quantisation_swallowed_is_back(shipped: onnx.ModelProto) -> None:
    found = Counter(node.op_type for node in float_graph(shipped).graph.node)
    assert found["Relu"] in (49, 50)  # the stem's, three in each of sixteen blocks, an idle one where its pool is int8
    assert found["Conv"] == 53
    assert not found.keys() & {"QuantizeLinear", "DequantizeLinear"}


def test_int8_is_symmetric_and_every_convolution_that_has_it_reads_it(shipped: onnx.ModelProto) -> None:
    graph = graph_in(shipped, "int8").graph
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    makers = {node.output[0]: node.op_type for node in graph.node}
    n_int8 = 0
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert arrays[node.input[2]].dtype == np.int8
            assert not arrays[node.input[2]].any()
        if node.op_type == "Conv":
            reads, weights = (makers.get(name) == "DequantizeLinear" for name in node.input[:2])
            assert reads == weights
            n_int8 += reads
    constants = {each.name for each in shipped.graph.initializer}
    kept = sum(node.op_type == "Conv" and node.input[1] in constants for node in shipped.graph.node)
    assert n_int8 == 53 - kept >= 30


def test_a_network_in_float_stays_as_it_is_and_has_no_int8(encoder_file: Path) -> None:
    linear = load_graph(encoder_file)
    assert not is_quantised(linear)
    assert [node.op_type for node in float_graph(linear).graph.node] == [node.op_type for node in linear.graph.node]
    half = graph_in(linear, "float16")
    pictures = np.random.default_rng(1).random((3, 1, 40, 24)).astype(np.float32)
    np.testing.assert_allclose(run(half, pictures), run(linear, pictures), atol=2e-3)
    with pytest.raises(EngineError, match="is not quantised, and int8 needs ranges that were measured"):
        graph_in(linear, "int8")


def test_normalisation_stays_in_float32(encoder_file: Path) -> None:
    """The sum of squares of numbers above 256 does not fit into float16."""
    linear = load_graph(encoder_file)
    for each in linear.graph.initializer:
        if each.name == "weights":
            each.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(each) * 50, "weights"))
    pictures = np.random.default_rng(1).random((3, 1, 40, 24)).astype(np.float32)
    assert least_cosine(run(graph_in(linear, "float16"), pictures), run(linear, pictures)) > 0.9999


def test_what_is_no_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"gone\.onnx: no such encoder file"):
        load_graph(tmp_path / "gone.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"RIFF not a network at all")
    with pytest.raises(EngineError, match=r"bad\.onnx: is no ONNX file"):
        load_graph(tmp_path / "bad.onnx")
