"""``mird compile``: an encoder's file to an engine in the plan cache, and what the engine's error is.

The graph is rewritten for the precision, checked, compiled, and measured: the network in its new precision against the
file itself, by ONNX Runtime; and where there is a GPU, the engine against the network, which decides whether it is
kept, and against the file, which is what the user gets.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mird.kernels.cuda_driver import find_gpu
from mird.kernels.encoder import EncoderCard
from mird.kernels.encoder_graph import Precision, graph_in, load_graph
from mird.kernels.errors import EngineError
from mird.kernels.plan_cache import BUCKETS, PlanKey, model_hash, timing_file, write_plan
from mird.kernels.tensorrt_library import LIBRARIES, LibraryName, is_installed, load_library, make_logger
from mird.training.compile_build import KEPT_AS, Progress, build, check_types, layer_types, parse, weight_types

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

LEAST_COSINE: Mapping[Precision, float] = {"float32": 0.99999, "float16": 0.9999, "int8": 0.999}
"""An engine whose embeddings are less like those of its own network, computed by ONNX Runtime, is not kept."""

WANTED_COSINE: Mapping[Precision, float] = {"int8": 0.999}
"""How like the file's embeddings should be; less is told. Not float16's: a file in int8 is off by more than that."""

ERRORS_ONLY = 3


@dataclass(frozen=True)
class CompileRequest:
    """What is to be compiled.

    Attributes
    ----------
    model : Path
        The encoder's file.
    precision : {"float32", "float16", "int8"}
    library : {"tensorrt", "tensorrt_rtx"} or None
        None takes the best that is installed.
    capability : str or None
        Compute capability of the GPU to compile for, such as "8.9"; None is this machine's.
    folder : Path
        The plan cache.
    """

    model: Path
    precision: Precision
    library: LibraryName | None
    capability: str | None
    folder: Path


def compile_engine(
    request: CompileRequest, make_pictures: Callable[[], NDArray[np.float32]], progress: Progress
) -> dict[str, Any]:
    """Compile an encoder and put the plan into the cache.

    Parameters
    ----------
    request : CompileRequest
    make_pictures : callable
        Gives pictures of real sound, shape (n, channels, rows, columns), range [0, 1]: what errors are measured on.
    progress : callable (share, what)

    Returns
    -------
    dict
        The manifest's measurements, with the path of the plan as ``plan``: ``network_error`` of the rewritten network
        against the file, ``engine_error`` of the engine against that network, ``whole_error`` of the engine against
        the file; the last two are None where this machine has no such GPU; ``weights`` in which types the
        engine keeps weights, ``engine_layers`` of which types its layers are. See :func:`warning_of`.

    Raises
    ------
    EngineError
        The encoder's file cannot be used, no library is installed, there is no GPU and no capability was named, the
        library refuses, or the engine's error is too large or its type another than was asked for.
    """
    name = request.library or next((each for each in LIBRARIES if is_installed(each)), None)
    if name is None:
        raise EngineError("neither tensorrt nor tensorrt_rtx is installed; pip install 'mird[tensorrt-rtx]'")
    library = load_library(name)
    model = load_graph(request.model)
    here = _capability_here()
    capability = request.capability or here
    if capability is None:
        raise EngineError(f"{_why_no_gpu()}; name the GPU to compile for, such as --capability 8.9")
    key = PlanKey(name, str(library.__version__), capability, model_hash(request.model), request.precision)
    card = EncoderCard.from_metadata({each.key: each.value for each in model.metadata_props}, str(request.model))
    begun = time.monotonic()
    progress(0.0, "rewriting the network")
    rewritten = graph_in(model, request.precision)
    graph = rewritten.SerializeToString()
    logger = make_logger(library)
    builder, network = parse(library, logger, graph)
    check_types(library, network, request.precision)
    progress(0.0, "measuring the network")
    pictures = make_pictures()
    of_network, of_file = embed(graph, pictures), embed(model.SerializeToString(), pictures)
    measured: dict[str, Any] = {
        "name": card.name,
        "fingerprint": card.fingerprint,
        "front_end": card.front_end.fingerprint(),
        "precision": request.precision,
        "buckets": list(BUCKETS),
        "layers": dict(sorted(layer_types(library, network).items())),
        "pictures": len(pictures),
        "network_error": compare(of_network, of_file),
        "engine_error": None,
        "whole_error": None,
    }
    away = None if capability == here else capability
    # TensorRT-RTX chooses its kernels where the engine runs, and has no timings to keep.
    timing = timing_file(request.folder, key) if name == "tensorrt" else None
    plan = build(library, logger, builder, network, BUCKETS, away, timing, progress)
    progress(1.0, "measuring the engine")
    measured["weights"] = weight_types(plan, rewritten)
    if name == "tensorrt_rtx" and KEPT_AS[request.precision] not in measured["weights"]:
        raise EngineError(
            f"{name} built an engine without weights in {request.precision} (it has {measured['weights'] or 'none'}); "
            "the plan is not kept"
        )
    if away is None:
        measured.update(_measure_engine(name, plan, card, pictures, of_network, of_file, request.precision))
    measured["seconds"] = round(time.monotonic() - begun, 1)
    measured["built"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    manifest = write_plan(request.folder, key, plan, measured)
    return {"plan": str(manifest.with_suffix(".plan")), "plan_bytes": len(plan), "library": name, **measured}


def embed(graph: bytes, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings by ONNX Runtime on the CPU, shape (n, n_dims), of a serialised graph in any precision.

    Node by node, as the graph says: ONNX Runtime 1.32 fuses what is quantised from float16 to something else, and the
    cosine of some encoders' embeddings to the right ones is 0.8 then.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    given = pictures.astype(np.float16) if wanted.type == "tensor(float16)" else pictures
    return np.concatenate([session.run(None, {wanted.name: each})[0] for each in np.array_split(given, len(given))])


def compare(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> dict[str, float]:
    """How far embeddings are from others, both of shape (n, n_dims): the least and the median cosine."""
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    cosines = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return {"least_cosine": round(float(cosines.min()), 6), "median_cosine": round(float(np.median(cosines)), 6)}


def warning_of(result: Mapping[str, Any]) -> str:
    """What a user should know of the precision that was compiled, in a line; empty if there is nothing.

    Parameters
    ----------
    result : Mapping[str, Any]
        As :func:`compile_engine` returns it.
    """
    wanted = WANTED_COSINE.get(result["precision"], 0.0)
    error = result["whole_error"] or result["network_error"]
    if error["least_cosine"] >= wanted:
        return ""
    return (
        f"in {result['precision']} this encoder's embeddings are less like the file's than they should be: cosine "
        f"{error['least_cosine']} at the least, {error['median_cosine']} at the median, and {wanted} is wanted; "
        "--precision float16 is nearer"
    )


def _capability_here() -> str | None:
    try:
        return "{}.{}".format(*find_gpu().capability)
    except EngineError:
        return None


def _why_no_gpu() -> str:
    try:
        return f"{find_gpu().name} is here"
    except EngineError as error:
        return str(error)


def _measure_engine(
    name: LibraryName,
    plan: bytes,
    card: EncoderCard,
    pictures: NDArray[np.float32],
    of_network: NDArray[np.float32],
    of_file: NDArray[np.float32],
    precision: Precision,
) -> dict[str, Any]:
    """The errors of the engine on this machine's GPU, at its worst size of batch, and its layers."""
    from mird.kernels.encoder_tensorrt import TensorRtEncoder

    encoder = TensorRtEncoder(name, plan, card)
    enough = -(-BUCKETS[-1] // len(pictures))  # so that the largest batch is full
    given, wanted, original = (np.concatenate([each] * enough) for each in (pictures, of_network, of_file))
    found = [np.concatenate([encoder(given[first : first + n]) for first in range(0, len(given), n)]) for n in BUCKETS]
    error = min((compare(each, wanted) for each in found), key=_least)
    if not _least(error) >= LEAST_COSINE[precision]:
        raise EngineError(
            f"the engine's embeddings differ from the network's: cosine {error['least_cosine']}, and "
            f"{LEAST_COSINE[precision]} is the least; the plan is not kept"
        )
    whole = min((compare(each, original) for each in found), key=_least)
    types = encoder.layer_types()
    # Of TensorRT-RTX's engines the inspector tells the ends alone; their weights have been looked at.
    if name == "tensorrt" and types and not any(KEPT_AS[precision].lower() in each.lower() for each in types):
        raise EngineError(f"the engine has layers of {', '.join(types)}, and {precision} was asked for")
    return {"engine_error": error, "whole_error": whole, "engine_layers": types}


def _least(error: Mapping[str, float]) -> float:
    """What errors are told apart by; what is no number is the worst of all."""
    least = error["least_cosine"]
    return least if np.isfinite(least) else -1.0
