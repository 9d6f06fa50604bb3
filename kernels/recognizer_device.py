"""The recognizer on one device: from samples to scores without leaving it, recorded once for each size of batch.

::

    windows -> copy -> scalogram and picture -> encoder -> comparison with the support set -> best classes -> copy back

A hop is one launch and one wait. All arrays are made when it is opened; the support set stays on the device and is
swapped between two hops. What comes back are the embeddings and the best few classes (:mod:`mird.kernels.best`); the
second look at the best one is the host's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mird.kernels.best import found_classes, spread
from mird.kernels.device import Device, Launch, Stage
from mird.kernels.encoder import EncoderCard
from mird.kernels.errors import EngineError, ParameterError
from mird.kernels.plan_cache import BUCKETS
from mird.kernels.scalogram_bands import check_windows
from mird.kernels.similarity import Prototypes, judge, probabilities, second_look
from mird.kernels.support_resident import ResidentSupport

N_KEPT: Final = 3
"""Arrays and steps of a lane that do not depend on the support set's capacity: windows, pictures, embeddings."""

TIMEOUT_S: Final = 0.5
"""Longest wait for a hop, which takes milliseconds: then the device counts as lost, and the CPU goes on."""


@dataclass(frozen=True)
class Lane:
    """All that one size of batch needs.

    Attributes
    ----------
    windows : NDArray[float32], shape (n, window)
        The host's side of the input.
    embeddings : NDArray[float32], shape (n, n_dims)
    pairs : NDArray[float32], shape (n, n_best, 2)
        The host's side of the output.
    launch : callable
    arrays : tuple of arrays of the device
        Windows, and what each stage gives.
    steps : tuple of callables
        What the recorded work is made of: a copy, the stages, copies.
    """

    windows: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    pairs: NDArray[np.float32]
    launch: Launch
    arrays: tuple[Any, ...]
    steps: tuple[Launch, ...]


class DeviceRecognizer:
    """See :class:`mird.kernels.recognizer.Recognizer`, whose methods it has. One thread at a time.

    Parameters
    ----------
    card : EncoderCard
    device : Device
    pictures, encoder, comparison, best : Stage
    support : ResidentSupport
        That ``comparison`` and ``best`` read.
    precision : str
        Of the encoder, for the name.
    buckets : sequence of int
        Sizes of batch, ascending; larger ones are cut, and what lies between is filled up.

    Raises
    ------
    EngineError
        The device has too little memory, or fails.

    Attributes
    ----------
    seconds : dict[str, float]
        How long the last call took. The stages cannot be told apart from here: "encoder" is the whole way.
    """

    def __init__(
        self,
        card: EncoderCard,
        device: Device,
        pictures: Stage,
        encoder: Stage,
        comparison: Stage,
        best: Stage,
        support: ResidentSupport,
        precision: str = "float16",
        buckets: Sequence[int] = BUCKETS,
    ) -> None:
        self.card = card
        self.name = f"{pictures.name}+{encoder.name} ({precision})"
        self._device, self._support, self._buckets = device, support, tuple(buckets)
        self._stages = pictures, encoder, comparison, best
        self._lanes: dict[int, Lane] = {}
        self.seconds = {"scalogram": 0.0, "encoder": 0.0, "similarity": 0.0}
        self._guarded(self._make_lanes)

    def embed(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed windows of sound, shape (n, window); unit vectors of shape (n, n_dims)."""
        return self._run(windows)[0]

    def score(self, windows: NDArray[np.float32], support: Prototypes) -> NDArray[np.float32]:
        """P(same) of every window and class of the support set, shape (n, n_classes), range [0, 1].

        Zero for all but the best: see :mod:`mird.kernels.best`.
        """
        return self.recognise(windows, support)[1]

    def recognise(
        self, windows: NDArray[np.float32], support: Prototypes
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeddings of windows, shape (n, n_dims), and their scores as of :meth:`score`, shape (n, n_classes).

        Raises
        ------
        ParameterError
            The windows are of another length, or hold what is no sample.
        EngineError
            The device failed, or did not answer in time.
        """
        if support.vectors.shape[-1] != len(self.card.head.gamma):
            sizes = support.vectors.shape[-1], len(self.card.head.gamma)
            raise ParameterError(f"a support set of {sizes[0]} numbers does not fit a head of {sizes[1]}")
        began_s = time.perf_counter()
        if self._guarded(lambda: self._support.hold(support)):
            self._guarded(self._make_lanes)
        embeddings, pairs = self._run(windows)
        try:
            numbers, odds = found_classes(pairs, len(support.names))
        except EngineError as error:
            raise EngineError(f"{self._device.name} {error}") from None
        if numbers.size:
            odds = odds + second_look(embeddings, numbers[:, 0], support, self.card.head)[:, None]
        scores = spread(numbers, odds, len(support.names))
        self.seconds["encoder"] = time.perf_counter() - began_s
        return embeddings, scores

    def compare(self, embeddings: NDArray[np.float32], support: Prototypes) -> NDArray[np.float32]:
        """P(same) of embeddings that are on the host, shape (n, n_dims), and every class; on the CPU."""
        card = self.card
        return probabilities(judge(embeddings, support, card.head, card.background))

    def _run(self, windows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeddings, shape (n, n_dims), and pairs of the best classes, shape (n, n_best, 2)."""
        checked = check_windows(windows, self.card.front_end.window)
        embeddings = np.empty((len(windows), len(self.card.head.gamma)), np.float32)
        pairs = np.empty((len(windows), *self._lanes[self._buckets[0]].pairs.shape[1:]), np.float32)
        for first in range(0, len(windows), self._buckets[-1]):
            part = slice(first, min(first + self._buckets[-1], len(windows)))
            n = part.stop - part.start
            lane = self._lanes[next(bucket for bucket in self._buckets if bucket >= n)]
            lane.windows[:n] = checked[part]
            self._guarded(lane.launch)
            self._guarded(lambda: self._device.wait(TIMEOUT_S))
            embeddings[part], pairs[part] = lane.embeddings[:n], lane.pairs[:n]
        if not np.isfinite(embeddings).all():
            raise EngineError(f"{self._device.name} gave what is no number")
        return embeddings, pairs

    def _make_lanes(self) -> None:
        for n in self._buckets:
            self._lanes[n] = self._make_lane(n, self._lanes.get(n))

    def _make_lane(self, n: int, before: Lane | None) -> Lane:
        """A lane; of the one before all up to the embeddings is kept: an engine may compile as it is bound."""
        device = self._device
        host = before.windows if before else device.pinned((n, self.card.front_end.window), np.float32)
        if before is None:
            windows = device.empty(host.shape, np.float32)
            arrays: list[Any] = [windows]
            steps: list[Launch] = [lambda: device.upload(host, windows)]
        else:
            arrays, steps = list(before.arrays[:N_KEPT]), list(before.steps[:N_KEPT])
        for stage in self._stages[len(arrays) - 1 :]:
            made, enqueue = stage.bind(n, arrays[-1])
            arrays.append(made)
            steps.append(enqueue)
        capture = next((stage.capture for stage in self._stages if stage.capture is not None), None)
        _, _, embedded, _, best = arrays
        embeddings = device.pinned((n, len(self.card.head.gamma)), np.float32)
        pairs = device.pinned(best.shape, np.float32)
        steps += [lambda: device.download(embedded, embeddings), lambda: device.download(best, pairs)]

        def enqueue_all() -> None:
            for step in steps:
                step()

        return Lane(host, embeddings, pairs, device.record(enqueue_all, capture), tuple(arrays), tuple(steps))

    def _guarded(self, work: Any) -> Any:
        """Do what the device may fail at; its libraries' errors have no common root."""
        try:
            return work()
        except (ParameterError, EngineError):
            raise
        except Exception as error:
            what = " ".join(str(error).split())[:200] or type(error).__name__
            raise EngineError(f"{self._device.name} failed: {what}") from error
