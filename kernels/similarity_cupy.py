"""The comparison on an NVIDIA GPU: the whole support set in one kernel, ``cuda/similarity.cu``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cupy
import numpy as np

from mird.kernels.device import Launch
from mird.kernels.device_cuda import CudaDevice
from mird.kernels.encoder import EncoderCard
from mird.kernels.scalogram_cupy import load_kernels
from mird.kernels.support_resident import ResidentSupport

SOURCE = Path(__file__).with_name("cuda") / "similarity.cu"

THREADS = 1024
"""Threads of a block: 32 classes of a query at once."""


class CupyComparison:
    """A stage (:class:`mird.kernels.device.Stage`): embeddings to the logits of all classes.

    The same function as :func:`mird.kernels.similarity.class_logits`.

    Parameters
    ----------
    card : EncoderCard
    device : CudaDevice
    support : ResidentSupport
    """

    name = "cupy"
    capture = None

    def __init__(self, card: EncoderCard, device: CudaDevice, support: ResidentSupport) -> None:
        self._device, self._support = device, support
        self._n_dims = len(card.head.gamma)
        self._bias, self._several = np.float32(card.head.bias), np.float32(card.head.several)
        self._power = np.int32(card.head.power)
        self._kernel = load_kernels(SOURCE).get_function("compare")
        with device.stream:
            self._gamma = cupy.asarray(card.head.gamma, np.float32)
            self._background = cupy.asarray(np.ascontiguousarray(card.background, np.float32))
        self._n_background = len(card.background)

    def bind(self, n: int, source: Any) -> tuple[Any, Launch]:
        """See the protocol; embeddings of shape (n, n_dims) to logits of shape (n, capacity).

        Numbers beyond the support set's classes are never written.
        """
        support = self._support
        odds = self._device.empty((n, support.capacity), np.float32)
        counts = np.int32(self._n_dims), np.int32(support.capacity)
        background = self._background, np.int32(self._n_background)
        classes = support.vectors, support.averaging, support.n_classes
        arguments = source, *classes, *background, self._gamma, self._bias, self._several, self._power, *counts, odds
        return odds, lambda: self._kernel((n,), (THREADS,), arguments)
