"""Real engines by TensorRT-RTX out of the shipped encoder, without a GPU: parsed, checked by type, compiled, cached."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mird.kernels.encoder import open_encoder
from mird.kernels.encoder_graph import Precision, float_graph, graph_in, load_graph
from mird.kernels.errors import EngineError
from mird.kernels.plan_cache import BUCKETS, PlanKey, model_hash, read_plan
from mird.kernels.tensorrt_library import load_library, make_logger
from mird.training.compile_build import build, check_types, layer_types, parse
from mird.training.compile_engine import CompileRequest, compare, compile_engine, warning_of

SHIPPED = Path(__file__).parents[2] / "configs" / "models" / "default.onnx"


@pytest.fixture(scope="module")
def library() -> Any:
    return load_library("tensorrt_rtx")


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.float32]:
    shape = open_encoder(SHIPPED).card.front_end
    return np.random.default_rng(2).random((3, 1, shape.n_scales, shape.n_columns)).astype(np.float32)


@pytest.mark.parametrize(
    ("precision", "least"),
    [("float16", 0.99), ("int8", 0.95)],
)
def test_engine_is_compiled_and_found_again(
    library: Any,
    pictures: NDArray[np.float32],
    tmp_path: Path,
    precision: Precision,
    least: float,
) -> None:
    progress: list[float] = []
    request = CompileRequest(SHIPPED, precision, "tensorrt_rtx", "8.9", tmp_path)
    result = compile_engine(request, lambda: pictures, lambda share, _: progress.append(share))
    key = PlanKey("tensorrt_rtx", library.__version__, "8.9", model_hash(SHIPPED), precision)
    plan = read_plan(tmp_path, key)
    assert len(plan.content) == result["plan_bytes"] > 1_000_000
    assert plan.manifest["fingerprint"] == open_encoder(SHIPPED).card.fingerprint
    nodes = Counter(node.op_type for node in graph_in(load_graph(SHIPPED), precision).graph.node)
    layers = plan.manifest["layers"]
    assert (layers["convolution half"], layers["matrix_multiply half"]) == (53, 5)
    assert layers["matrix_multiply float"] == 1, "what is divided by its length afterwards"
    assert layers.get("quantize int8", 0) == nodes["QuantizeLinear"]
    assert layers.get("dequantize half", 0) == nodes["DequantizeLinear"]
    assert (nodes["DequantizeLinear"] >= 60) == (precision == "int8")
    assert plan.manifest["weights"].get("INT8", 0) >= (10 if precision == "int8" else 0)  # of the engine that was built
    assert plan.manifest["weights"].get("HALF", 0) >= (20 if precision == "float16" else 0)
    assert "FLOAT" not in plan.manifest["weights"]
    assert plan.manifest["buckets"] == list(BUCKETS)
    assert plan.manifest["network_error"]["least_cosine"] > least
    assert plan.manifest["engine_error"] is None  # there is no GPU to measure it on
    assert max(progress) == 1.0
    assert progress == sorted(progress)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_types_are_those_that_were_asked_for(library: Any, precision: Precision) -> None:
    _, network = parse(library, make_logger(library), graph_in(load_graph(SHIPPED), precision).SerializeToString())
    check_types(library, network, precision)
    for other in {"float32", "float16", "int8"} - {precision}:
        if (precision, other) == ("int8", "float16"):
            continue  # the layers around its int8 are in float16
        with pytest.raises(EngineError, match=r"would (compute in|not compute in int8)"):
            check_types(library, network, other)  # type: ignore[arg-type]


def test_every_picture_of_a_bucket_is_a_profile(library: Any) -> None:
    _, network = parse(library, make_logger(library), float_graph(load_graph(SHIPPED)).SerializeToString())
    assert tuple(network.get_input(0).shape) == (-1, 1, 112, 112)
    assert tuple(network.get_output(0).shape) == (-1, len(open_encoder(SHIPPED).card.head.gamma))
    assert layer_types(library, network)["convolution float"] == 53


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorRT-RTX has timings in name only
def test_timings_are_kept_and_what_is_no_timings_is_begun_anew(library: Any, tmp_path: Path) -> None:
    timing, logger = tmp_path / "engines" / "rtx.timing", make_logger(library)
    graph = graph_in(load_graph(SHIPPED), "float16").SerializeToString()
    plans = []
    for content in (None, None, b"no timings at all"):
        if content is not None:
            timing.write_bytes(content)
        made = parse(library, logger, graph)
        plans.append(build(library, logger, *made, (1,), "8.9", timing, lambda *_: None))
        assert timing.stat().st_size > 100
    assert len({len(plan) for plan in plans}) == 1


def test_a_quantisation_of_onnxruntimes_kind_is_refused_in_a_line(library: Any) -> None:
    """Which is why the graph is rewritten."""
    with pytest.raises(EngineError, match="tensorrt_rtx cannot read the network: ") as raised:
        parse(library, make_logger(library), load_graph(SHIPPED).SerializeToString())
    assert "\n" not in str(raised.value)


def test_a_layer_that_the_library_does_not_know_is_named(library: Any) -> None:
    node = onnx.helper.make_node("NoSuchLayer", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 1, 4, 4]) for name in "xy")
    graph = onnx.helper.make_model(onnx.helper.make_graph([node], "odd", [x], [y]))
    with pytest.raises(EngineError, match="NoSuchLayer"):
        parse(library, make_logger(library), graph.SerializeToString())


@pytest.mark.parametrize(
    ("capability", "message"),
    [
        (None, r"^no NVIDIA driver is installed; name the GPU to compile for, such as --capability 8\.9$"),
        ("6.1", "cannot compile for compute capability 6.1 on a machine without such a GPU; compile there"),
    ],
)
def test_gpu_that_is_not_here(
    pictures: NDArray[np.float32], tmp_path: Path, capability: str | None, message: str
) -> None:
    request = CompileRequest(SHIPPED, "float16", None, capability, tmp_path)
    with pytest.raises(EngineError, match=message):
        compile_engine(request, lambda: pictures, lambda *_: None)
    assert not list(tmp_path.iterdir())


def test_error_of_embeddings() -> None:
    units = np.eye(4, dtype=np.float32)
    turned = units.copy()
    turned[0] = (0.6, 0.8, 0, 0)
    assert compare(turned, units) == {"least_cosine": 0.6, "median_cosine": 1.0}


def test_an_int8_that_loses_too_much_is_told() -> None:
    near, far = {"least_cosine": 0.9991, "median_cosine": 0.9995}, {"least_cosine": 0.9947, "median_cosine": 0.9988}
    told = warning_of({"precision": "int8", "network_error": far, "whole_error": None})
    assert "cosine 0.9947 at the least, 0.9988 at the median, and 0.999 is wanted" in told
    assert not warning_of({"precision": "int8", "network_error": far, "whole_error": near})  # the engine itself counts
    assert "0.9947" in warning_of({"precision": "int8", "network_error": near, "whole_error": far})
    assert not warning_of({"precision": "int8", "network_error": near, "whole_error": None})
    assert not warning_of({"precision": "float16", "network_error": far, "whole_error": None})
