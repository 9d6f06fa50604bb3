"""The encoder on OpenVINO: another engine for CPUs, faster than ONNX Runtime for large encoders where there is AMX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from mird.kernels.encoder import check_pictures
from mird.kernels.encoder_onnxruntime import OnnxRuntimeEncoder
from mird.kernels.errors import EngineError


class OpenVinoEncoder:
    """See :class:`mird.kernels.encoder.Encoder`.

    OpenVINO chooses its arithmetic by itself; bfloat16 that is forced on a CPU without AMX is four times slower.
    """

    name = "openvino"

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self.card = OnnxRuntimeEncoder(path).card  # which finds what is wrong with the file, too
        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        try:
            self._model = openvino.Core().compile_model(str(path), "CPU", options)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise EngineError(f"{path}: is no encoder that OpenVINO can load: {reason}") from None
        self._shape = tuple(each.get_length() for each in list(self._model.inputs[0].get_partial_shape())[1:])

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`mird.kernels.encoder.Encoder`."""
        check_pictures(pictures, self._shape)
        if not len(pictures):
            return np.zeros((0, len(self.card.head.gamma)), np.float32)
        request = self._model.create_infer_request()  # one a call: threads may call at once
        embeddings: NDArray[np.float32] = np.array(request.infer({0: np.ascontiguousarray(pictures)})[0], np.float32)
        return embeddings
