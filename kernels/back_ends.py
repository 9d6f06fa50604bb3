"""Which back ends of the encoder can serve on this machine, best first, and why the others cannot.

::

    tensorrt -> tensorrt_rtx -> torch -> and on the CPU: openvino, onnxruntime

:func:`survey` asks without loading anything of CUDA; :func:`open_on_device` opens one of the first three with all that
a hop needs.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mird.kernels.cuda_driver import LIBRARY, find_gpu
from mird.kernels.device import Stage
from mird.kernels.encoder import EncoderCard
from mird.kernels.errors import EngineError
from mird.kernels.plan_cache import PlanKey, model_hash, read_plan
from mird.kernels.recognizer_device import DeviceRecognizer
from mird.kernels.support_resident import ResidentSupport
from mird.kernels.tensorrt_library import LIBRARIES, LibraryName, installed_version, load_library

if TYPE_CHECKING:
    from mird.kernels.encoder_graph import Precision


@dataclass(frozen=True)
class BackEnd:
    """One back end on this machine.

    Attributes
    ----------
    name : {"tensorrt", "tensorrt_rtx", "torch", "openvino", "onnxruntime"}
    on_device : bool
        Whether it computes on a GPU.
    usable : bool
    reason : str
        Why it cannot serve, or what it would serve with.
    needs_compiling : bool
        Whether a plan must be compiled first.
    """

    name: str
    on_device: bool
    usable: bool
    reason: str
    needs_compiling: bool = False


def survey(
    path: Path, folder: Path, *, device: str = "auto", precision: Precision = "float16", driver: str = LIBRARY
) -> tuple[BackEnd, ...]:
    """All back ends, best first; the first that is usable serves.

    Parameters
    ----------
    path : Path
        The encoder's file.
    folder : Path
        The plan cache.
    device : {"auto", "cpu", "cuda"}
        As the setting of that name.
    precision : {"float32", "float16", "int8"}
        On a GPU.
    driver : str
        The library of NVIDIA's driver.
    """
    gpu_fault, capability, gpu_name = "", "", ""
    if device == "cpu":
        gpu_fault = "the setting device is cpu"
    else:
        try:
            gpu = find_gpu(driver)
            capability, gpu_name = f"{gpu.capability[0]}.{gpu.capability[1]}", gpu.name
        except EngineError as error:
            gpu_fault = str(error)
    found: list[BackEnd] = []
    for name in LIBRARIES:
        fault = gpu_fault or missing(name, "cupy", "onnx", extra=name.replace("_", "-"))
        if fault:
            found.append(BackEnd(name, on_device=True, usable=False, reason=fault))
        else:
            found.append(_planned(name, path, folder, capability, precision, gpu_name))
    unable = "it computes in float16 or float32, and the setting precision is int8" if precision == "int8" else ""
    fault = gpu_fault or unable or missing("torch", "cupy", "onnx", extra="train,cuda")
    found.append(BackEnd("torch", on_device=True, usable=not fault, reason=fault or f"{precision} on {gpu_name}"))
    fault = missing("openvino", extra="openvino")
    reason = fault or "on the CPU, where it is measured to be the faster"
    found.append(BackEnd("openvino", on_device=False, usable=not fault, reason=reason))
    found.append(BackEnd("onnxruntime", on_device=False, usable=True, reason="on the CPU"))
    return tuple(found)


def missing(*packages: str, extra: str) -> str:
    """Which package is not installed and what installs it, in a line; empty where all are."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed; pip install 'mird[{extra}]'"
    return ""


def _planned(
    name: LibraryName, path: Path, folder: Path, capability: str, precision: Precision, gpu_name: str
) -> BackEnd:
    try:
        read_plan(folder, PlanKey(name, installed_version(name), capability, model_hash(path), precision))
    except EngineError as error:
        return BackEnd(name, on_device=True, usable=True, reason=str(error), needs_compiling=True)
    return BackEnd(name, on_device=True, usable=True, reason=f"{precision} on {gpu_name}")


def open_on_device(
    back_end: BackEnd, path: Path, folder: Path, card: EncoderCard, *, precision: Precision = "float16"
) -> DeviceRecognizer:
    """Open a recognizer on the GPU.

    Parameters
    ----------
    back_end : BackEnd
        One of :func:`survey`'s that is ``on_device`` and ``usable``.
    card : EncoderCard
        Of the encoder's file, as the CPU's engine read it.

    Raises
    ------
    EngineError
        The GPU, a library or the plan cannot be used, or memory is short.
    """
    try:
        return _open(back_end, path, folder, card, precision)
    except EngineError:
        raise
    except Exception as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise EngineError(f"{back_end.name} cannot be opened: {what}") from error


def _open(back_end: BackEnd, path: Path, folder: Path, card: EncoderCard, precision: Precision) -> DeviceRecognizer:
    from mird.kernels.best_cupy import CupyBest
    from mird.kernels.device_cuda import CudaDevice
    from mird.kernels.scalogram_cupy import CupyPictures
    from mird.kernels.similarity_cupy import CupyComparison

    device = CudaDevice()
    encoder: Stage
    if back_end.name in LIBRARIES:
        from mird.kernels.encoder_tensorrt import TensorRtEncoder

        name: LibraryName = "tensorrt" if back_end.name == "tensorrt" else "tensorrt_rtx"
        capability = "{}.{}".format(*find_gpu().capability)
        version = str(load_library(name).__version__)
        plan = read_plan(folder, PlanKey(name, version, capability, model_hash(path), precision))
        if plan.manifest.get("fingerprint") != card.fingerprint:
            raise EngineError(f"the plan is of the encoder {plan.manifest.get('fingerprint')}, not {card.fingerprint}")
        encoder = compiled = TensorRtEncoder(name, plan.content, card, device)
        dtype = compiled.dtype
    else:
        from mird.kernels.encoder_torch import TorchEncoder, TorchStage

        by_torch = TorchEncoder(path, precision)
        encoder, dtype = TorchStage(by_torch, device), by_torch.dtype
    support = ResidentSupport(device, len(card.head.gamma))
    comparison = CupyComparison(card, device, support)
    pictures = CupyPictures(card.front_end, device, dtype)
    best = CupyBest(device, support)
    return DeviceRecognizer(card, device, pictures, encoder, comparison, best, support, precision)
