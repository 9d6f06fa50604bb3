"""How far the processing thread has come, and how long each stage of a hop takes it. It writes, any thread reads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Final

import numpy as np

from mird.daemon.messages import Frame

N_KEPT: Final = 600
"""Newest times of a stage that its quantiles are taken of: a minute at a hop of 100 ms."""

DEGRADED_S: Final = 10.0
"""A daemon counts as degraded for this long after a hop was left out: its state does not change with every hop."""

CAPTURE_TO_PUBLISH: Final = "capture_to_publish"

STAGES: Final = ("resample", "scalogram", "encoder", "similarity", "decision", "publish", CAPTURE_TO_PUBLISH)
"""In the order of the sound's way. The scalogram's time has the picture's in it."""


class Series:
    """Times of one stage. One thread adds, any thread reads: a deque's append and copy are atomic in CPython."""

    def __init__(self) -> None:
        self.n = 0
        self.total_s = 0.0
        self._newest: deque[float] = deque(maxlen=N_KEPT)

    def add(self, seconds: float) -> None:
        """Take in how long it took."""
        self.n += 1
        self.total_s += seconds
        self._newest.append(seconds)

    def quantiles_s(self, shares: tuple[float, ...] = (0.5, 0.99)) -> tuple[float, ...]:
        """Quantiles of the newest `N_KEPT` times, for each share in [0, 1]; none where there are no times."""
        newest = self._newest.copy()
        return tuple(np.quantile(newest, shares).tolist()) if newest else ()


class Progress:
    """What a daemon has done so far. Everything in it is one number or one reference, and needs no lock.

    Attributes
    ----------
    stages : Mapping[str, Series]
        By the names of `STAGES`.
    counters : dict[str, int]
        Those of a heartbeat.
    newest : dict[int, Frame]
        The last frame of each channel, of the stream that is open.
    skipped_s : float
        When a hop was left out last, on the clock of ``time.monotonic()``.
    """

    def __init__(self) -> None:
        self.stages: Final[Mapping[str, Series]] = {name: Series() for name in STAGES}
        self.counters: Final = dict.fromkeys(
            ("n_hops", "n_hops_skipped", "n_overflows", "n_gaps", "n_lost_frames", "n_opens"), 0
        )
        self.newest: dict[int, Frame] = {}
        self.skipped_s = float("-inf")
        self._started_s = time.monotonic()

    def took(self, seconds: Mapping[str, float]) -> None:
        """Take in how long some of the stages took, by their names."""
        for stage, each in seconds.items():
            self.stages[stage].add(each)

    def skipped(self, n_hops: int) -> None:
        """Take in that hops were left out."""
        if n_hops:
            self.counters["n_hops_skipped"] += n_hops
            self.skipped_s = time.monotonic()

    @property
    def degraded(self) -> bool:
        """Whether a hop was left out within the last `DEGRADED_S`."""
        return time.monotonic() - self.skipped_s < DEGRADED_S

    @property
    def uptime_s(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._started_s
