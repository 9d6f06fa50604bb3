"""What NVIDIA's driver says of this machine, asked before any library of CUDA is loaded.

It takes a millisecond and no memory of the GPU, so that a machine without one pays nothing for the question.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from mird.kernels.errors import EngineError

LIBRARY = "libcuda.so.1"

LEAST_DRIVER = (13, 0)
"""Version of CUDA that the driver must speak: CuPy and TensorRT are built for CUDA 13."""

LEAST_CAPABILITY = (7, 5)
"""Oldest compute capability that CUDA 13 and TensorRT 11 compile for."""

LEAST_BYTES = 2_000_000_000
"""Memory for the engine, CUDA itself and the work space of 105 windows (all batches), 4 MB each of it bands alone."""

NO_DEVICE = 100
STALE_DRIVER = 803
MAJOR, MINOR = 75, 76
"""Numbers of cuDeviceGetAttribute for the compute capability."""


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU.

    Attributes
    ----------
    name : str
    capability : (major, minor)
        Compute capability.
    memory_bytes : int
        All of it, free or not.
    driver : (major, minor)
        Version of CUDA that the driver speaks.
    """

    name: str
    capability: tuple[int, int]
    memory_bytes: int
    driver: tuple[int, int]


def find_gpu(library: str = LIBRARY) -> Gpu:
    """The first GPU.

    Parameters
    ----------
    library : str
        The driver's library.

    Raises
    ------
    EngineError
        There is no driver, it is too old or does not start, it sees no GPU, or the GPU is too old or too small; the
        message says which, and what helps.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        raise EngineError("no NVIDIA driver is installed") from None
    _check(cuda.cuInit(0), "start")
    version = ctypes.c_int()
    _check(cuda.cuDriverGetVersion(ctypes.byref(version)), "say its version")
    driver = version.value // 1000, version.value % 1000 // 10
    if driver < LEAST_DRIVER:
        raise EngineError(
            f"the NVIDIA driver is too old: it speaks CUDA {_dotted(driver)}, and {_dotted(LEAST_DRIVER)} is needed; "
            "install version 580 or later"
        )
    count, device = ctypes.c_int(), ctypes.c_int()
    _check(cuda.cuDeviceGetCount(ctypes.byref(count)), "count GPUs")
    if not count.value:
        _check(NO_DEVICE, "count GPUs")
    _check(cuda.cuDeviceGet(ctypes.byref(device), 0), "open the GPU")
    name = ctypes.create_string_buffer(256)
    _check(cuda.cuDeviceGetName(name, len(name), device), "name the GPU")
    parts = []
    for attribute in (MAJOR, MINOR):
        _check(cuda.cuDeviceGetAttribute(ctypes.byref(version), attribute, device), "describe the GPU")
        parts.append(version.value)
    memory = ctypes.c_size_t()
    _check(cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device), "measure the GPU")
    gpu = Gpu(name.value.decode("utf-8", "replace"), (parts[0], parts[1]), memory.value, driver)
    if gpu.capability < LEAST_CAPABILITY:
        raise EngineError(
            f"{gpu.name} has compute capability {_dotted(gpu.capability)}, and {_dotted(LEAST_CAPABILITY)} is the least"
        )
    if gpu.memory_bytes < LEAST_BYTES:
        raise EngineError(f"{gpu.name} has {gpu.memory_bytes / 1e9:.1f} GB of memory, and 2 GB are needed")
    return gpu


def _check(status: int, what: str) -> None:
    if not status:
        return
    if status == NO_DEVICE:
        raise EngineError("the NVIDIA driver sees no GPU")
    if status == STALE_DRIVER:
        raise EngineError("the NVIDIA driver and its library are of different versions; restart the machine")
    raise EngineError(f"the NVIDIA driver cannot {what} (CUDA error {status}); `nvidia-smi` may say more")


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
