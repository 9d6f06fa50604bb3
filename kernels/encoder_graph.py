"""The encoder's file as a graph that can be rewritten: to float32, to float16, to int8 as TensorRT takes it.

The shipped file is quantised for ONNX Runtime: unsigned activations with a zero point, biases in int32, and a ReLU may
live on only as the lower limit of a quantisation. TensorRT computes in the types that stand in the graph, and its int8
is symmetric around zero: each precision is a graph of its own. Needs the package ``onnx``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mird.kernels.errors import EngineError

Precision = Literal["float32", "float16", "int8"]

HEAVY = frozenset({"Conv", "Gemm", "MatMul"})
"""What may be computed with less precision, up to the lengths that vectors are divided by."""

LENGTH = "ReduceL2"

QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"

Arrays = dict[str, NDArray[np.generic]]


def load_graph(path: Path) -> ModelProto:
    """Read an encoder's file; EngineError if it is missing or no ONNX file."""
    if not path.is_file():
        raise EngineError(f"{path}: no such encoder file; leave `engine` unset for the shipped one")
    try:
        return onnx.load(str(path))
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001 - protobuf's errors have no public root
        raise EngineError(f"{path}: is no ONNX file: {' '.join(str(error).split())[:200]}") from None


def graph_in(model: ModelProto, precision: Precision) -> ModelProto:
    """The network in a precision, with pictures in float16 (float32 for float32) and embeddings in float32.

    Raises
    ------
    EngineError
        If int8 is asked for and the graph is not quantised.
    """
    if precision == "float32":
        return float_graph(model)
    return half_graph(symmetric_graph(model) if precision == "int8" else float_graph(model))


def is_quantised(model: ModelProto) -> bool:
    """Whether the graph computes in int8."""
    return any(node.op_type == QUANTISE for node in model.graph.node)


def float_graph(model: ModelProto) -> ModelProto:
    """The same network without quantisation: weights as they were rounded, activations as they come."""
    arrays = _arrays(model)
    quantised = {node.output[0]: node for node in model.graph.node if node.op_type == QUANTISE}
    relus = {node.output[0] for node in model.graph.node if node.op_type == "Relu"}
    nodes: list[NodeProto] = []
    renamed: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == QUANTISE:
            continue
        if node.op_type != DEQUANTISE:
            nodes.append(_reading(node, renamed))
        elif node.input[0] in arrays:
            arrays[node.output[0]] = _dequantised(node, arrays)
        else:
            made_by = quantised[node.input[0]]
            source = renamed.get(made_by.input[0], made_by.input[0])
            if _is_relu(made_by, arrays) and source not in relus:
                nodes.append(helper.make_node("Relu", [source], [node.output[0]]))
            else:
                renamed[node.output[0]] = source
    return _rebuilt(model, nodes, arrays)


def symmetric_graph(model: ModelProto) -> ModelProto:
    """The same network with its quantised convolutions in int8 around zero, biases in float32.

    What a block's shortcut carries and what the layers behind the convolutions read is not quantised: 127 steps for a
    ReLU's output are half of the file's 255, and quantising less makes up for it: on 300 clips the cosine to the
    network that :func:`mird.training.export.quantise` was given is 0.9998 in the mean, and the file's own 0.9997.

    Raises
    ------
    EngineError
        If the graph is not quantised: the ranges of its activations are not known.
    """
    if not is_quantised(model):
        raise EngineError(
            "the encoder is not quantised, and int8 needs ranges that were measured; take the int8 file of `mird train`"
        )
    arrays = _arrays(model)
    relus = {node.output[0] for node in model.graph.node if node.op_type == "Relu"}
    nodes: list[NodeProto] = []
    plain: dict[str, str] = {}
    pairs: dict[str, tuple[NodeProto, NodeProto]] = {}
    made: set[str] = set()
    quantised = {node.output[0]: node for node in model.graph.node if node.op_type == QUANTISE}
    quantised_weights = {
        node.output[0] for node in model.graph.node if node.op_type == DEQUANTISE and node.input[0] in arrays
    }
    for node in model.graph.node:
        if node.op_type == QUANTISE:
            continue
        if node.op_type != DEQUANTISE:
            in_int8 = node.op_type == "Conv" and node.input[1] in quantised_weights
            rounded = pairs.keys() & set(node.input) if in_int8 else set()
            for name in sorted(rounded - made):
                nodes.extend(pairs[name])
            made |= rounded
            nodes.append(_reading(node, {name: source for name, source in plain.items() if name not in rounded}))
        elif node.input[0] not in arrays:
            first, source = quantised[node.input[0]], node.output[0]
            came_from = plain.get(first.input[0], first.input[0])
            if _is_relu(first, arrays) and came_from not in relus:
                nodes.append(helper.make_node("Relu", [came_from], [f"{source}_relu"]))
                came_from = f"{source}_relu"
            plain[source] = came_from
            around = [f"{source}_scale", f"{source}_zero"]
            arrays[around[0]], arrays[around[1]] = _symmetric_scale(first, arrays), np.zeros((), np.int8)
            pairs[source] = (
                helper.make_node(QUANTISE, [came_from, *around], [f"{source}_int8"]),
                helper.make_node(DEQUANTISE, [f"{source}_int8", *around], [source]),
            )
        elif arrays[node.input[0]].dtype == np.int8:
            nodes.append(_reading(node, {}))
        else:
            arrays[node.output[0]] = _dequantised(node, arrays)
    return _rebuilt(model, nodes, arrays)


def half_graph(model: ModelProto) -> ModelProto:
    """A network in float16 but for lengths of vectors and what hangs on them: a sum of squares may not fit there."""
    arrays = _arrays(model)
    half = _before_lengths(model)
    numbers = _float_names(model)
    halved = {each.name for each in model.graph.input}
    nodes: list[NodeProto] = []
    whole: set[str] = set()
    for number, node in enumerate(model.graph.node):
        names = {}
        for name in node.input:
            if name in arrays and arrays[name].dtype == np.float32 and number in half:
                names[name] = f"{name}_half"
                arrays[names[name]] = arrays[name].astype(np.float16)
            elif name in halved and number not in half and node.op_type != "Shape":
                names[name] = f"{name}_whole"
                if name not in whole:
                    whole.add(name)
                    nodes.append(helper.make_node("Cast", [name], [names[name]], to=TensorProto.FLOAT))
        nodes.append(_reading(node, names))
        if number in half:
            halved.update(numbers.intersection(node.output))
    return _rebuilt(model, nodes, arrays, pictures=TensorProto.FLOAT16)


def _before_lengths(model: ModelProto) -> set[int]:
    """Numbers of the heavy nodes that no length leads to, and of all that leads to those."""
    behind: set[str] = set()
    for node in model.graph.node:
        if node.op_type == LENGTH or behind.intersection(node.input):
            behind.update(node.output)
    found: set[int] = set()
    needed: set[str] = set()
    for number, node in reversed(list(enumerate(model.graph.node))):
        heavy = node.op_type in HEAVY and not behind.intersection(node.output)
        if heavy or needed.intersection(node.output):
            found.add(number)
            needed.update(node.input)
    return found


def _arrays(model: ModelProto) -> Arrays:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def _float_names(model: ModelProto) -> set[str]:
    """Names of what is computed in float32; shapes and indices are not."""
    known = onnx.shape_inference.infer_shapes(model).graph.value_info
    return {each.name for each in known if each.type.tensor_type.elem_type == TensorProto.FLOAT}


def _dequantised(node: NodeProto, arrays: Arrays) -> NDArray[np.float32]:
    """The numbers that a constant stands for."""
    values, scale = arrays[node.input[0]].astype(np.float32), arrays[node.input[1]].astype(np.float32)
    zero = arrays[node.input[2]].astype(np.float32) if len(node.input) > 2 else np.zeros((), np.float32)
    axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
    if scale.size > 1:
        shape = [-1 if each == axis else 1 for each in range(values.ndim)]
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.size > 1 else zero
    numbers: NDArray[np.float32] = (values - zero) * scale
    return numbers


def _symmetric_scale(node: NodeProto, arrays: Arrays) -> NDArray[np.float32]:
    """The step of int8 around zero that reaches as far as a quantisation's own range."""
    zero = arrays[node.input[2]]
    limits, offset = np.iinfo(np.uint8 if zero.dtype == np.uint8 else np.int8), int(zero)
    reach = max(limits.max - offset, offset - limits.min) / 127
    return np.asarray(arrays[node.input[1]].astype(np.float32) * np.float32(reach), np.float32)


def _is_relu(node: NodeProto, arrays: Arrays) -> bool:
    """Whether a quantisation cuts off what is below zero: ONNX Runtime leaves most such ReLUs out."""
    zero = arrays[node.input[2]]
    return zero.dtype == np.uint8 and not zero.any()


def _reading(node: NodeProto, renamed: dict[str, str]) -> NodeProto:
    """A copy of a node that reads other names."""
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [renamed.get(each, each) for each in node.input]
    return copy


def _rebuilt(
    model: ModelProto, nodes: Iterable[NodeProto], arrays: Arrays, pictures: int = TensorProto.FLOAT
) -> ModelProto:
    """A model of other nodes with the same inputs, outputs and card; constants that nothing reads are left out."""
    kept = list(nodes)
    read = {name for node in kept for name in node.input}
    wanted, given = model.graph.input[0], model.graph.output[0]
    shape = [each.dim_param or each.dim_value for each in wanted.type.tensor_type.shape.dim]
    graph = helper.make_graph(
        kept,
        model.graph.name,
        [helper.make_tensor_value_info(wanted.name, pictures, shape)],
        [given],
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in read],
    )
    known = [each for each in model.opset_import if not each.domain]  # the others are those of the tool that wrote it
    rebuilt = helper.make_model(graph, opset_imports=known, ir_version=model.ir_version)
    rebuilt.metadata_props.extend(model.metadata_props)
    return rebuilt
