"""The encoder's file computed by torch on an NVIDIA GPU: where there is no TensorRT, or none that runs on that GPU.

The graph is walked operator by operator, in float16 and with the channels last; in a recorded graph the walk costs
nothing. It knows the operators that `mird train` exports. The one module of this room that imports torch, so
that a recognizer finds all of its back ends in one place; nothing imports it that runs without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional
from torch.utils.dlpack import from_dlpack

from mird.kernels.device import Launch
from mird.kernels.encoder import EncoderCard, check_pictures
from mird.kernels.encoder_graph import Precision, float_graph, half_graph, load_graph
from mird.kernels.errors import EngineError

if TYPE_CHECKING:
    from mird.kernels.device_cuda import CudaDevice

Operator = Callable[..., Any]


class GraphModule:
    """A rewritten graph as a function of torch's.

    Parameters
    ----------
    model : ModelProto
        In float32 or float16, without quantisation.
    device : str
        "cpu" or "cuda".

    Raises
    ------
    EngineError
        The graph has an operator that is not known here.
    """

    def __init__(self, model: onnx.ModelProto, device: str) -> None:
        self._nodes = list(model.graph.node)
        unknown = sorted({node.op_type for node in self._nodes} - OPERATORS.keys())
        if unknown:
            raise EngineError(f"torch is not taught to compute {', '.join(unknown)}; compile with TensorRT")
        self._input, self._output = model.graph.input[0].name, model.graph.output[0].name
        self._constants = {
            each.name: _constant(numpy_helper.to_array(each), device) for each in model.graph.initializer
        }
        self._attributes = [
            {each.name: helper.get_attribute_value(each) for each in node.attribute} for node in self._nodes
        ]

    def __call__(self, pictures: Tensor) -> Tensor:
        """Embeddings, shape (n, n_dims), of pictures, shape (n, channels, rows, columns)."""
        values: dict[str, Any] = {**self._constants, self._input: pictures.to(memory_format=torch.channels_last)}
        for node, attributes in zip(self._nodes, self._attributes, strict=True):
            given = [values[name] if name else None for name in node.input]
            values[node.output[0]] = OPERATORS[node.op_type](given, attributes)
        embeddings: Tensor = values[self._output]
        return embeddings


class TorchEncoder:
    """An encoder (:class:`mird.kernels.encoder.Encoder`) of torch's; the stage on a GPU is made of its graph.

    Parameters
    ----------
    path : Path
        The encoder's file.
    precision : {"float16", "float32"}
    device : str
        "cuda", or "cpu" to compare.
    """

    name = "torch"

    def __init__(self, path: Path, precision: Precision = "float16", device: str = "cuda") -> None:
        if precision == "int8":
            raise EngineError("torch computes in float16 or float32 here; int8 needs TensorRT")
        model = load_graph(path)
        self.card = EncoderCard.from_metadata({each.key: each.value for each in model.metadata_props}, str(path))
        graph = half_graph(float_graph(model)) if precision == "float16" else float_graph(model)
        self.dtype = np.dtype(precision)
        self._shape = tuple(each.dim_value for each in model.graph.input[0].type.tensor_type.shape.dim)[1:]
        n_dims = model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
        if n_dims != len(self.card.head.gamma):
            raise EngineError(
                f"{path}: gives {n_dims} numbers, its comparison has {len(self.card.head.gamma)} weights; "
                "export the encoder again"
            )
        self._device = device
        self.graph = GraphModule(graph, device)

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`mird.kernels.encoder.Encoder`."""
        check_pictures(pictures, self._shape)
        with torch.inference_mode():
            given = torch.from_numpy(pictures.astype(self.dtype)).to(self._device)
            embeddings: NDArray[np.float32] = self.graph(given).float().cpu().numpy()
        return embeddings


class TorchStage:
    """The way from pictures to embeddings as a stage (:class:`mird.kernels.device.Stage`), on CuPy's stream.

    torch records the whole hop: its allocator must know that what it lends inside a graph stays the graph's.
    """

    name = "torch"

    def __init__(self, encoder: TorchEncoder, device: CudaDevice) -> None:
        self._encoder, self._device = encoder, device
        self._stream = torch.cuda.ExternalStream(device.stream.ptr)  # type: ignore[no-untyped-call]

    def bind(self, n: int, source: Any) -> tuple[Any, Launch]:
        """See the protocol; pictures of shape (n, channels, rows, columns) to embeddings of shape (n, n_dims)."""
        made = self._device.empty((n, len(self._encoder.card.head.gamma)), np.float32)
        pictures, embeddings = from_dlpack(source), from_dlpack(made)

        def enqueue() -> None:
            with torch.inference_mode(), torch.cuda.stream(self._stream):
                embeddings.copy_(self._encoder.graph(pictures))

        return made, enqueue

    def capture(self, enqueue: Launch) -> Launch:
        """Record work of which this stage is a part."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="relaxed"):
            enqueue()

        def launch() -> None:
            with torch.cuda.stream(self._stream):
                graph.replay()

        return launch


def _constant(array: NDArray[Any], device: str) -> Any:
    """A weight on the device; whole numbers are shapes and axes, and stay with the host."""
    if np.issubdtype(array.dtype, np.integer):
        return array.tolist()
    tensor = torch.from_numpy(array.copy())
    # Ordered on the host: on the GPU it would be work of another stream than the one that reads it.
    return (tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor).to(device)


def _conv(given: Sequence[Any], attributes: dict[str, Any]) -> Tensor:
    pads, strides = attributes.get("pads", [0, 0, 0, 0]), attributes.get("strides", [1, 1])
    n = len(pads) // 2
    if pads[:n] != pads[n:]:
        raise EngineError(f"torch is not taught to pad unevenly ({pads}); compile with TensorRT")
    bias = given[2] if len(given) > 2 else None
    dilations, groups = attributes.get("dilations", [1, 1]), attributes.get("group", 1)
    return functional.conv2d(given[0], given[1], bias, strides, pads[:n], dilations, groups)


def _pool(given: Sequence[Any], attributes: dict[str, Any]) -> Tensor:
    if any(attributes.get("pads", ())) or attributes.get("ceil_mode", 0):
        raise EngineError("torch is not taught to pad where it pools; compile with TensorRT")
    return functional.max_pool2d(given[0], attributes["kernel_shape"], attributes.get("strides", [1, 1]))


def _gemm(given: Sequence[Any], attributes: dict[str, Any]) -> Tensor:
    weight = given[1] if attributes.get("transB", 0) else given[1].T
    return functional.linear(given[0], weight, given[2] if len(given) > 2 else None)


def _axes(given: Sequence[Any], attributes: dict[str, Any]) -> list[int]:
    axes = given[1] if len(given) > 1 else attributes.get("axes")
    return list(axes) if axes is not None else list(range(given[0].ndim))


def _reduce(how: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    return lambda given, attributes: how(given[0], _axes(given, attributes), bool(attributes.get("keepdims", 1)))


def _concat(given: Sequence[Any], attributes: dict[str, Any]) -> Any:
    if isinstance(given[0], Tensor):
        return torch.cat(list(given), attributes["axis"])
    return [number for each in given for number in (each if isinstance(each, list) else [each])]


def _clip(given: Sequence[Any], _: dict[str, Any]) -> Tensor:
    limits = [None if each is None else each.to(given[0].dtype) for each in given[1:]]
    return torch.clamp(given[0], *limits)


TO: Final = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.FLOAT16: torch.float16}

OPERATORS: Final[dict[str, Operator]] = {
    "Add": lambda given, _: given[0] + given[1],
    "Cast": lambda given, attributes: given[0].to(TO[attributes["to"]]),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": lambda given, _: given[0] / given[1],
    "Expand": lambda given, _: given[0].expand(given[1]),
    "Flatten": lambda given, attributes: given[0].flatten(attributes.get("axis", 1)),
    "Gemm": _gemm,
    "MaxPool": _pool,
    "Mul": lambda given, _: given[0] * given[1],
    "ReduceL2": _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, dim=axes, keepdim=keep)),
    "ReduceMax": _reduce(lambda x, axes, keep: torch.amax(x, dim=axes, keepdim=keep)),
    "ReduceMean": _reduce(lambda x, axes, keep: torch.mean(x, dim=axes, keepdim=keep)),
    "Relu": lambda given, _: functional.relu(given[0]),
    "Shape": lambda given, attributes: list(given[0].shape[attributes.get("start", 0) : attributes.get("end")]),
    "Sub": lambda given, _: given[0] - given[1],
}
"""What `mird train` exports. Batch norms are folded into convolutions, and what is folded needs no operator."""
