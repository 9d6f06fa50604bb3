"""The recognizer that goes on: a device's as long as it works, the CPU's from the hop in which it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mird.kernels.encoder import Encoder
from mird.kernels.errors import HangingError, ParameterError
from mird.kernels.recognizer import Recognizer
from mird.kernels.recognizer_device import DeviceRecognizer
from mird.kernels.similarity import Prototypes

Answer = TypeVar("Answer")


class SwitchingRecognizer(Recognizer):
    """A recognizer on the CPU that a device's may stand in for.

    One thread calls :meth:`score` and its like. Another opens a device's recognizer and offers it; it is taken at the
    next hop. Where it fails, the same hop is computed on the CPU, and the fault is kept until another is offered; what
    failed is kept until the other thread calls :meth:`free_lost`.

    Parameters
    ----------
    encoder : Encoder
        For the CPU.
    wanted : bool
        A device was asked for: as long as none serves, answers count as degraded.

    Attributes
    ----------
    fault : str
        Why the device that served is gone, in a line; empty where none is.
    hangs : bool
        That it did not answer: freeing its memory may wait for ever, too.
    """

    def __init__(self, encoder: Encoder, *, wanted: bool = False) -> None:
        super().__init__(encoder)
        self._of_cpu = self.seconds
        self._fast: DeviceRecognizer | None = None
        self._lost: DeviceRecognizer | None = None
        self._unseen: NDArray[np.float32] | None = None  # windows whose magnitudes the device kept
        self._wanted = wanted
        self.fault, self.hangs = "", False

    @property
    def name(self) -> str:
        """Back ends in use."""
        fast = self._fast
        return super().name if fast is None else fast.name

    @property
    def degraded(self) -> bool:
        """Whether the CPU serves where a device did, or should."""
        return self._fast is None and (self._wanted or bool(self.fault))

    @property
    def on_device(self) -> bool:
        """Whether a device serves."""
        return self._fast is not None

    def offer(self, fast: DeviceRecognizer) -> None:
        """Serve by a device from the next hop on; from any thread."""
        self.fault, self.hangs = "", False
        self._fast = fast

    def free_lost(self) -> None:
        """Let go of what was lost; not from the thread that scores: a GPU that hangs may hold who frees its memory."""
        self._lost = None

    @property
    def magnitudes(self) -> NDArray[np.float32]:
        """See :attr:`mird.kernels.recognizer.Recognizer.magnitudes`.

        A device keeps its own; where somebody looks, they are computed once more on the CPU.
        """
        if self._unseen is not None:
            self._magnitudes, self._unseen = self._scalogram(self._unseen), None
        return self._magnitudes

    def embed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`mird.kernels.recognizer.Recognizer.embed`."""
        cpu = super().embed
        return self._served(windows, lambda fast: fast.embed(windows), lambda: cpu(windows))

    def score(self, windows: NDArray[np.float32], support: Prototypes) -> NDArray[np.float32]:
        """See :meth:`mird.kernels.recognizer.Recognizer.score`."""
        return self.recognise(windows, support)[1]

    def recognise(
        self, windows: NDArray[np.float32], support: Prototypes
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See :meth:`mird.kernels.recognizer.Recognizer.recognise`."""
        cpu = super().recognise
        return self._served(windows, lambda fast: fast.recognise(windows, support), lambda: cpu(windows, support))

    def _served(
        self,
        windows: NDArray[np.float32],
        on_device: Callable[[DeviceRecognizer], Answer],
        on_cpu: Callable[[], Answer],
    ) -> Answer:
        fast = self._fast
        if fast is not None:
            try:
                answer = on_device(fast)
            except ParameterError:
                raise  # the CPU would refuse it as well
            except Exception as error:  # noqa: BLE001 - whatever a device does, the show goes on
                self.hangs = isinstance(error, HangingError)
                self.fault = " ".join(str(error).split())[:300] or type(error).__name__
                self._lost, self._fast = fast, None
            else:
                self.seconds, self._unseen = fast.seconds, windows
                return answer
        self.seconds, self._unseen = self._of_cpu, None
        return on_cpu()
