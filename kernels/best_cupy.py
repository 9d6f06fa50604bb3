"""The best classes on an NVIDIA GPU, ``cuda/best.cu``: what is copied back does not grow with the support set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mird.kernels.best import N_BEST
from mird.kernels.device import Launch
from mird.kernels.device_cuda import CudaDevice
from mird.kernels.scalogram_cupy import load_kernels
from mird.kernels.support_resident import ResidentSupport

SOURCE = Path(__file__).with_name("cuda") / "best.cu"

THREADS = 1024
"""Threads of a block: the places of 32 classes at once."""


class CupyBest:
    """A stage (:class:`mird.kernels.device.Stage`): logits of all classes to pairs of the best.

    The same function as :func:`mird.kernels.best.best_pairs`.

    Parameters
    ----------
    device : CudaDevice
    support : ResidentSupport
        That has the number of classes.
    n_best : int > 0
    """

    name = "cupy"
    capture = None

    def __init__(self, device: CudaDevice, support: ResidentSupport, n_best: int = N_BEST) -> None:
        self._device, self._support, self._n_best = device, support, n_best
        self._kernel = load_kernels(SOURCE).get_function("best")

    def bind(self, n: int, source: Any) -> tuple[Any, Launch]:
        """See the protocol; logits of shape (n, capacity) to pairs of shape (n, n_best, 2)."""
        pairs = self._device.empty((n, self._n_best, 2), np.float32)
        counts = np.int32(self._support.capacity), np.int32(self._n_best)
        arguments = source, self._support.n_classes, *counts, pairs
        return pairs, lambda: self._kernel((n,), (THREADS,), arguments)
