"""The encoder on ONNX Runtime: the embedded default on every CPU."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mird.kernels.encoder import EncoderCard, check_pictures
from mird.kernels.errors import EngineError

# Before the import: ONNX Runtime would else report to its maker and leave an identity in the user's home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

ERRORS_ONLY = 3


class OnnxRuntimeEncoder:
    """See :class:`mird.kernels.encoder.Encoder`."""

    name = "onnxruntime"

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        if not path.is_file():
            raise EngineError(f"{path}: no such encoder file; leave `engine` unset for the shipped one")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no public common root
            reason = str(error).splitlines()[0][:200]
            raise EngineError(f"{path}: is no encoder that ONNX Runtime can load: {reason}") from None
        self.card = EncoderCard.from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        wanted, given = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._input, self._shape = wanted.name, tuple(wanted.shape[1:])
        if given.shape[-1] != len(self.card.head.gamma):
            raise EngineError(
                f"{path}: gives {given.shape[-1]} numbers, its comparison has {len(self.card.head.gamma)} weights; "
                "export the encoder again"
            )

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :class:`mird.kernels.encoder.Encoder`."""
        check_pictures(pictures, self._shape)
        embeddings: NDArray[np.float32] = self._session.run(None, {self._input: pictures})[0]
        return embeddings
