"""From a graph to a plan: parse, check the types, build. All of TensorRT's interface that needs no GPU is here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx

from mird.kernels.encoder_graph import Precision
from mird.kernels.errors import EngineError
from mird.kernels.plan_cache import write_whole

Progress = Callable[[float, str], None]
"""Called with the share that is done, range [0, 1], and what is being done."""

LAYER_TYPES: dict[Precision, str] = {"float32": "FLOAT", "float16": "HALF", "int8": "HALF"}
"""Type that convolutions give in each precision; in int8 most read what was dequantised to it."""


def parse(library: Any, logger: Any, graph: bytes) -> tuple[Any, Any]:
    """A builder and the strongly typed network of a serialised ONNX graph; EngineError if it cannot be one."""
    builder = library.Builder(logger)
    flags = library.NetworkDefinitionCreationFlag
    # TensorRT 11 knows no other kind and has dropped the flag.
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0)
    parser = library.OnnxParser(network, logger)
    if not parser.parse(graph):
        found = [parser.get_error(number) for number in range(parser.num_errors)]
        reasons = (
            "; ".join(f"{each.node_operator()} {each.node_name()}: {each.desc()}" for each in found) or logger.last
        )
        raise EngineError(f"{library.__name__} cannot read the network: {' '.join(reasons.split())[:300]}")
    return builder, network


def layer_types(library: Any, network: Any) -> Counter[str]:
    """How many layers of each kind and type a network has, such as "convolution half": 53; constants are left out."""
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    return Counter(
        f"{layer.type.name.lower()} {layer.get_output(0).dtype.name.lower()}"
        for layer in layers
        if layer.type != library.LayerType.CONSTANT
    )


def check_types(library: Any, network: Any, precision: Precision) -> None:
    """Make sure that a network computes in the precision that was asked for.

    The library takes the graph's types as they are: one that was left in float32 compiles without a word.

    Raises
    ------
    EngineError
        A convolution or a matrix product has another type, or the last of them any but float32; a convolution has
        weights in int8 and reads what was not quantised, or the other way round; or int8 was asked for, and no
        convolution computes in it.
    """
    wanted = LAYER_TYPES[precision]
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    makers = {layer.get_output(each).name: layer for layer in layers for each in range(layer.num_outputs)}

    def is_quantised(tensor: Any) -> bool:
        return tensor is not None and getattr(makers.get(tensor.name), "type", None) == library.LayerType.DEQUANTIZE

    n_int8 = 0
    heavy = [each for each in layers if each.type in (library.LayerType.CONVOLUTION, library.LayerType.MATRIX_MULTIPLY)]
    for layer in heavy:
        found = layer.get_output(0).dtype.name
        if found != ("FLOAT" if layer is heavy[-1] else wanted):  # the last turns what was divided by its length
            raise EngineError(f"layer {layer.name!r} would compute in {found}, and {precision} was asked for")
        if layer.type == library.LayerType.CONVOLUTION:
            sound, weights = is_quantised(layer.get_input(0)), is_quantised(layer.get_input(1))
            if sound != weights:
                raise EngineError(
                    f"layer {layer.name!r} would not compute in int8: what it reads is {'' if sound else 'not '}"
                    f"quantised, and its weights are {'' if weights else 'not'}"
                )
            n_int8 += sound
    if (precision == "int8") != bool(n_int8):
        raise EngineError(f"{n_int8} convolutions would compute in int8, and {precision} was asked for")
    pictures = "FLOAT" if precision == "float32" else "HALF"
    for tensor, must_be in ((network.get_input(0), pictures), (network.get_output(0), "FLOAT")):
        if tensor.dtype.name != must_be:
            raise EngineError(f"{tensor.name!r} would be {tensor.dtype.name} and not {must_be}")


KEPT_AS: dict[str, str] = {"float32": "FLOAT", "float16": "HALF", "int8": "INT8"}
"""What weights of each type of NumPy's are to TensorRT."""

ROW_BYTES = 64


def weight_types(plan: bytes, graph: onnx.ModelProto) -> dict[str, int]:
    """In which types the built engine keeps the weights of its 1 x 1 convolutions, and of how many.

    A beginning of one row of each is looked for in the plan, byte by byte: the inspector tells nothing without a GPU,
    and of TensorRT-RTX's engines next to nothing with one. A library that orders weights anew hides them.
    """
    weights = [onnx.numpy_helper.to_array(each) for each in graph.graph.initializer]
    pointwise = [
        each for each in weights if each.ndim == 4 and each.shape[2:] == (1, 1) and each[0].nbytes >= ROW_BYTES
    ]
    found = Counter(KEPT_AS[each.dtype.name] for each in pointwise if each[-1].tobytes()[:ROW_BYTES] in plan)
    return dict(sorted(found.items()))


def build(
    library: Any,
    logger: Any,
    builder: Any,
    network: Any,
    buckets: Sequence[int],
    capability: str | None,
    timing: Path | None,
    progress: Progress,
) -> bytes:
    """Compile a network.

    Parameters
    ----------
    buckets : sequence of int
        Pictures in a call; each gets a profile of its own.
    capability : str or None
        Compute capability of another GPU than this machine's; TensorRT-RTX alone can.
    timing : Path or None
        Timings of earlier builds on such a GPU; read where it exists, and written.

    Returns
    -------
    bytes
        The plan.

    Raises
    ------
    EngineError
        The library refuses; the message has its reason.
    """
    config = builder.create_builder_config()
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED  # the inspector tells types only then
    if hasattr(library.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        # TensorRT-RTX alone: such an engine works in the memory that it is given, and allocates nothing while it runs.
        config.set_flag(library.BuilderFlag.REQUIRE_USER_ALLOCATION)
    config.progress_monitor = monitor = _make_monitor(library, progress)
    pictures = network.get_input(0)
    shape = tuple(pictures.shape)[1:]
    for n in buckets:
        profile = builder.create_optimization_profile()
        profile.set_shape(pictures.name, (n, *shape), (n, *shape), (n, *shape))
        config.add_optimization_profile(profile)
    if capability is not None:
        target = getattr(getattr(library, "ComputeCapability", None), f"SM{capability.replace('.', '')}", None)
        if target is None:
            raise EngineError(
                f"{library.__name__} {library.__version__} cannot compile for compute capability {capability} on a "
                "machine without such a GPU; compile there"
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(target, 0)
    cache = None
    if timing is not None:
        cache = config.create_timing_cache(timing.read_bytes() if timing.is_file() else b"")
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            cache = config.create_timing_cache(b"")  # of another version or GPU: begin anew
            config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{library.__name__} cannot compile the network: {logger.last or 'it gives no reason'}")
    if timing is not None and cache is not None:
        timing.parent.mkdir(parents=True, exist_ok=True)
        write_whole(timing, bytes(cache.serialize()))
    del monitor
    return bytes(plan)


def _make_monitor(library: Any, progress: Progress) -> Any:
    """What the builder tells how far it is: the share of the outermost phase's steps."""

    class Monitor(library.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[int, bool]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = max(1, num_steps), parent_phase is None

        def step_complete(self, phase_name: str, step: int) -> bool:
            n_steps, outermost = self.phases.get(phase_name, (1, False))
            if outermost:
                progress(min(1.0, (step + 1) / n_steps), "compiling")
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.phases.pop(phase_name, None)

    return Monitor()
