"""The support set in a device's memory, in arrays that stay: work that was recorded on them goes on being right."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from mird.kernels.device import Device
from mird.kernels.similarity import Prototypes

MOST_BYTES: Final = 4 << 20
"""Memory of the classes that there is room for from the start."""

CAPACITIES: Final = 256, 4096
"""Least and most of them; the most is all that a state lists. More classes make the arrays, and what was recorded on
them, anew, which a hop has to wait for."""


class ResidentSupport:
    """The prototypes that the comparison reads. The thread of the recognizer owns it.

    A swap is three copies in the device's queue before the next hop's work: no hop ever sees half of one.

    Parameters
    ----------
    device : Device
    n_dims : int

    Attributes
    ----------
    vectors : array of the device, float32, shape (capacity, n_dims)
    averaging : array of the device, float32, shape (capacity,)
    n_classes : array of the device, int32, shape (1,)
    capacity : int
    held : Prototypes
        What was put there last.
    """

    def __init__(self, device: Device, n_dims: int) -> None:
        self._device, self._n_dims = device, n_dims
        self.held = Prototypes((), np.zeros((0, n_dims), np.float32))
        self._make(min(max(CAPACITIES[0], MOST_BYTES // (4 * n_dims)), CAPACITIES[1]))

    def hold(self, support: Prototypes) -> bool:
        """Put a support set there, before the next work in the queue.

        Only to be called when the queue is empty: the host's side of the copies is used again.

        Returns
        -------
        bool
            Whether the arrays are new ones, and what was recorded on the old must be recorded anew.
        """
        if support is self.held:
            return False
        grown = len(support.names) > self.capacity
        if grown:
            self._make(1 << (len(support.names) - 1).bit_length())
        self._staged[: len(support.names)] = support.vectors
        self._staged_averaging[: len(support.names)] = support.averaging
        self._staged_count[0] = len(support.names)
        self._device.upload(self._staged[: len(support.names)], self.vectors)
        self._device.upload(self._staged_averaging[: len(support.names)], self.averaging)
        self._device.upload(self._staged_count, self.n_classes)
        self.held = support
        return grown

    def _make(self, capacity: int) -> None:
        self.capacity = capacity
        self.vectors: Any = self._device.empty((capacity, self._n_dims), np.float32)
        self.averaging: Any = self._device.empty((capacity,), np.float32)
        self.n_classes: Any = self._device.empty((1,), np.int32)
        self._staged = self._device.pinned((capacity, self._n_dims), np.float32)
        self._staged_averaging = self._device.pinned((capacity,), np.float32)
        self._staged_count = self._device.pinned((1,), np.int32)
        self._device.upload(self._staged_count, self.n_classes)
