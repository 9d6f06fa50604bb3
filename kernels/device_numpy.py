"""The host as a device: every copy and every piece of work is done when it is put into the queue."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mird.kernels.device import Capture, Launch


class NumpyDevice:
    """See :class:`mird.kernels.device.Device`."""

    name = "numpy"

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """See the protocol; filled with what no computation gives, so that a number that nobody wrote is seen."""
        made: NDArray[Any] = np.empty(shape, dtype)
        made.view(np.uint8)[...] = 0xFF
        return made

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """See the protocol."""
        return np.zeros(shape, dtype)

    def upload(self, host: NDArray[Any], array: NDArray[Any]) -> None:
        """See the protocol."""
        array.reshape(-1)[: host.size] = host.reshape(-1)

    def download(self, array: NDArray[Any], host: NDArray[Any]) -> None:
        """See the protocol."""
        host[...] = array

    def record(self, enqueue: Launch, capture: Capture | None = None) -> Launch:
        """See the protocol."""
        enqueue()
        return enqueue if capture is None else capture(enqueue)

    def wait(self, timeout_s: float) -> None:
        """See the protocol: nothing is ever left in the queue."""
