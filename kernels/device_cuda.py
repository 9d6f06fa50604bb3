"""An NVIDIA GPU as a device: one stream of CuPy's, in the primary context, and graphs that are captured from it.

CuPy, TensorRT and torch work in the GPU's primary context, and so does pycuda where it is started by
``pycuda.autoprimaryctx``; ``pycuda.autoinit`` makes a context of its own, whose arrays these libraries cannot read.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any, Final

import cupy
import numpy as np
from cupy.cuda import runtime
from numpy.typing import DTypeLike, NDArray

from mird.kernels.device import Capture, Launch
from mird.kernels.errors import EngineError, HangingError

NOT_READY: Final = 600
"""cudaErrorNotReady: work is under way."""

POLL_S: Final = 50e-6
"""Pause between two looks at the stream: a wait neither spins nor can last for ever, as cudaStreamSynchronize may."""

N_WARM_UP: Final = 2
"""Runs before a capture, in which libraries load kernels and allocate, which a capture may not."""

_log = logging.getLogger(__name__)


class CudaDevice:
    """See :class:`mird.kernels.device.Device`.

    Parameters
    ----------
    number : int
        Of the GPU.

    Raises
    ------
    EngineError
        The GPU cannot be used.

    Attributes
    ----------
    stream : cupy.cuda.Stream
        The queue.
    """

    def __init__(self, number: int = 0) -> None:
        try:
            cupy.cuda.Device(number).use()
            self.stream = cupy.cuda.Stream(non_blocking=True)
            self.name = runtime.getDeviceProperties(number)["name"].decode()
        except (runtime.CUDARuntimeError, cupy.cuda.memory.OutOfMemoryError) as error:
            raise EngineError(f"GPU {number} cannot be used: {one_line(error)}") from error

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """See the protocol."""
        with self.stream:
            return cupy.empty(shape, dtype)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """See the protocol."""
        size = int(np.prod(shape))
        memory = cupy.cuda.alloc_pinned_memory(max(1, size * np.dtype(dtype).itemsize))
        array: NDArray[Any] = np.frombuffer(memory, dtype, size).reshape(shape)
        array[...] = 0
        return array

    def upload(self, host: NDArray[Any], array: Any) -> None:
        """See the protocol."""
        array.data.copy_from_host_async(host.ctypes.data, host.nbytes, self.stream)

    def download(self, array: Any, host: NDArray[Any]) -> None:
        """See the protocol."""
        array.data.copy_to_host_async(host.ctypes.data, host.nbytes, self.stream)

    def record(self, enqueue: Launch, capture: Capture | None = None) -> Launch:
        """See the protocol."""
        with self.stream:
            for _ in range(N_WARM_UP):
                enqueue()
            self.stream.synchronize()
            recorded = self._recorded(enqueue, capture or self._capture)
        if recorded is not None:
            return recorded

        def launch() -> None:
            with self.stream:
                enqueue()

        return launch

    def _capture(self, enqueue: Launch) -> Launch:
        self.stream.begin_capture()
        try:
            enqueue()
        except BaseException:
            with contextlib.suppress(runtime.CUDARuntimeError):
                self.stream.end_capture()
            raise
        graph = self.stream.end_capture()
        return lambda: graph.launch(self.stream)

    def _recorded(self, enqueue: Launch, capture: Capture) -> Launch | None:
        """The launch of a graph; None where a library cannot be captured, and each run puts its work in anew."""
        try:
            return capture(enqueue)
        except Exception as error:  # noqa: BLE001 - the libraries' errors have no common root
            _log.warning("no CUDA graph on %s: %s", self.name, one_line(error))
            return None

    def wait(self, timeout_s: float) -> None:
        """See the protocol."""
        until_s = time.monotonic() + timeout_s
        while status := runtime.streamQuery(self.stream.ptr):
            if status != NOT_READY:
                raise EngineError(f"{self.name} failed: {one_line(runtime.CUDARuntimeError(status))}")
            if time.monotonic() >= until_s:
                raise HangingError(f"{self.name} did not answer within {timeout_s:g} s")
            time.sleep(POLL_S)


def one_line(error: BaseException) -> str:
    """An error's text in one line, for a message."""
    return " ".join(str(error).split())[:200] or type(error).__name__
