"""The encoder as a plan of TensorRT's, on arrays of CuPy's.

A plan has a profile for each bucket, and each bucket a context of its own: the addresses of a context are set once, so
that a captured graph stays right. All contexts work in one block of CuPy's memory, since one stream runs them one after
another: the library allocates nothing while it runs, which a recorded graph may not. Logger, runtime, engine and
contexts are all kept: the library needs each as long as the next one lives.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

import cupy
import numpy as np
from numpy.typing import NDArray

from mird.kernels.device import Launch
from mird.kernels.device_cuda import CudaDevice
from mird.kernels.encoder import EncoderCard
from mird.kernels.errors import EngineError, ParameterError
from mird.kernels.plan_cache import BUCKETS
from mird.kernels.tensorrt_library import LibraryName, load_library, make_logger

TIMEOUT_S: Final = 10.0
"""Longest wait for pictures that are embedded outside of a hop."""


class TensorRtEncoder:
    """An encoder (:class:`mird.kernels.encoder.Encoder`) and a stage (:class:`mird.kernels.device.Stage`) in one.

    Parameters
    ----------
    library : {"tensorrt", "tensorrt_rtx"}
    plan : bytes
        As :func:`mird.training.compile_engine.compile_engine` built it.
    card : EncoderCard
        Of the file that the plan was compiled from.
    device : CudaDevice, optional

    Raises
    ------
    EngineError
        The library is not there, or refuses the plan: it is of another version or GPU, or damaged; or memory is short.
    """

    capture = None

    def __init__(self, library: LibraryName, plan: bytes, card: EncoderCard, device: CudaDevice | None = None) -> None:
        self.name: str = library
        self.card = card
        self.device = device or CudaDevice()
        self._library = load_library(library)
        self._logger = make_logger(self._library)
        self._runtime = self._library.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)  # None, and no error, where it is refused
        if self._engine is None:
            raise EngineError(
                f"{library} {self._library.__version__} refuses the plan on {self.device.name}: "
                f"{self._logger.last or 'it gives no reason'}"
            )
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == self._library.TensorIOMode.INPUT]
        self._input, self._output = inputs[0], next(n for n in names if n not in inputs)
        self.dtype = np.dtype(self._library.nptype(self._engine.get_tensor_dtype(self._input)))
        self._shape = tuple(self._engine.get_tensor_shape(self._input))[1:]
        n_dims = self._engine.get_tensor_shape(self._output)[-1]
        if n_dims != len(card.head.gamma):
            raise EngineError(
                f"{library}'s plan gives {n_dims} numbers, its comparison has {len(card.head.gamma)} weights"
            )
        n_bytes = int(self._engine.device_memory_size_v2)
        try:
            self._work_space = self.device.empty((max(1, n_bytes),), np.uint8)
        except cupy.cuda.memory.OutOfMemoryError as error:
            raise EngineError(f"{library} needs {n_bytes / 1e6:.0f} MB on {self.device.name}: {error}") from error
        self._bound: dict[int, tuple[Any, Any, Launch]] = {}

    def bind(self, n: int, source: Any) -> tuple[Any, Launch]:
        """See :class:`mird.kernels.device.Stage`; pictures of shape (n, channels, rows, columns) to embeddings."""
        stream = self.device.stream
        context = self._make_context()
        if context is None:
            raise EngineError(f"{self.name} has no room on {self.device.name} for {n} pictures: {self._logger.last}")
        if (source.dtype, source.shape) != (self.dtype, (n, *self._shape)):
            raise ParameterError(f"pictures of {source.dtype} and {source.shape} do not fit the plan")
        embeddings = self.device.empty((n, len(self.card.head.gamma)), np.float32)
        context.set_device_memory(self._work_space.data.ptr, self._work_space.nbytes)
        done = context.set_optimization_profile_async(BUCKETS.index(n), stream.ptr)
        stream.synchronize()
        done = done and context.set_input_shape(self._input, source.shape)
        done = done and context.set_tensor_address(self._input, source.data.ptr)
        done = done and context.set_tensor_address(self._output, embeddings.data.ptr)
        if not done:
            raise EngineError(f"{self.name} refuses {n} pictures: {self._logger.last}")

        def enqueue() -> None:
            if not context.execute_async_v3(stream.ptr):
                raise EngineError(f"{self.name} failed on {self.device.name}: {self._logger.last}")

        return embeddings, enqueue

    def _make_context(self) -> Any:
        ours = self._library.ExecutionContextAllocationStrategy.USER_MANAGED
        strategy = getattr(self._library, "DynamicShapesKernelSpecializationStrategy", None)
        if strategy is None:
            return self._engine.create_execution_context(ours)
        # TensorRT-RTX compiles kernels on this machine, and by default beside the first runs: a graph that is recorded
        # meanwhile would keep those that it begins with.
        config = self._engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER
        config.set_execution_context_allocation_strategy(ours)
        return self._engine.create_execution_context(config)

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`mird.kernels.encoder.Encoder`; from one thread at a time."""
        embedded = [np.zeros((0, len(self.card.head.gamma)), np.float32)]
        for first in range(0, len(pictures), BUCKETS[-1]):
            part = pictures[first : first + BUCKETS[-1]]
            bucket = next(each for each in BUCKETS if each >= len(part))
            if bucket not in self._bound:
                source = self.device.empty((bucket, *self._shape), self.dtype)
                self._bound[bucket] = (source, *self.bind(bucket, source))
            source, embeddings, enqueue = self._bound[bucket]
            with self.device.stream:
                source[...] = 0
                source[: len(part)] = cupy.asarray(part.astype(self.dtype))
                enqueue()
            self.device.wait(TIMEOUT_S)
            embedded.append(cupy.asnumpy(embeddings)[: len(part)])
        return np.concatenate(embedded)

    def layer_types(self) -> dict[str, int]:
        """How many layers of each type the engine has, as its inspector says: the types of what they give."""
        inspector = self._engine.create_engine_inspector()
        text = inspector.get_engine_information(self._library.LayerInformationFormat.JSON)
        layers = json.loads(text).get("Layers", [])
        found: Counter[str] = Counter()
        for layer in layers:
            outputs = layer.get("Outputs", []) if isinstance(layer, dict) else []
            for each in outputs:  # "Format/Datatype" until TensorRT 10, then a key of its own
                found[next((str(each[key]) for key in each if key.lower().endswith("datatype")), "unknown")] += 1
        return dict(sorted(found.items()))
