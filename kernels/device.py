"""What a recognizer's stages run on: memory, copies, and work that is recorded once and launched at every hop.

:class:`Device` is what a GPU (:mod:`mird.kernels.device_cuda`) and, in the tests, NumPy do, so that all that decides
about buckets, buffers and swaps is written once and runs anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import DTypeLike, NDArray

Launch = Callable[[], None]
"""Puts recorded work into the device's queue."""

Capture = Callable[[Launch], Launch]
"""Records what a function puts into the queue."""


class Device(Protocol):
    """One device and its queue of work. One thread at a time."""

    name: str
    """As messages give it."""

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Any:
        """An array in the device's memory, with whatever is there."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of the host's that the device can copy from and to by itself; zeros."""
        ...

    def upload(self, host: NDArray[Any], array: Any) -> None:
        """Queue a copy into the beginning of a device's array, which has at least as many numbers."""
        ...

    def download(self, array: Any, host: NDArray[Any]) -> None:
        """Queue a copy of a device's array."""
        ...

    def record(self, enqueue: Launch, capture: Capture | None = None) -> Launch:
        """Run work once, then record it.

        Parameters
        ----------
        enqueue : callable
            Puts the work into the queue; always the same, on the same arrays.
        capture : callable, optional
            Records in the device's place, for a library that must know of it.
        """
        ...

    def wait(self, timeout_s: float) -> None:
        """Wait until the queue is empty.

        Raises
        ------
        EngineError
            The device failed.
        HangingError
            It did not answer in time.
        """
        ...


class Stage(Protocol):
    """One step of the way from samples to scores, on one device."""

    name: str
    """In one word, as messages give it."""

    @property
    def capture(self) -> Capture | None:
        """What must record work of which this stage is a part; None: the device itself."""
        ...

    def bind(self, n: int, source: Any) -> tuple[Any, Launch]:
        """Make the step for ``n`` items.

        Parameters
        ----------
        n : int
            One of :data:`mird.kernels.plan_cache.BUCKETS`.
        source : array of the device, shape (n, ...)
            What the step before gives.

        Returns
        -------
        array of the device, shape (n, ...)
            What this step gives, overwritten at each launch.
        callable
            Puts the step into the queue.
        """
        ...
