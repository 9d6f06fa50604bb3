"""Windows out of a stream, against the whole stream kept in memory: blocks and gaps of any size, any hop."""

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.daemon.history import History

WINDOW = 100
N_CHANNELS = 2


class Timeline:
    """The whole stream, zeros where sound was lost, beside a history that keeps the last of it."""

    def __init__(self, hop: int, seed: int = 0) -> None:
        self.history = History(N_CHANNELS, WINDOW, hop)
        self.rng = np.random.default_rng(seed)
        self.samples: NDArray[np.float32] = np.zeros((0, N_CHANNELS), np.float32)
        self.lost: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.ends: list[int] = []

    def push(self, n: int) -> None:
        block = self.rng.normal(size=(n, N_CHANNELS)).astype(np.float32)
        self.history.push(block)
        self._append(block, lost=False)

    def push_gap(self, n: int) -> None:
        self.history.push_gap(n)
        self._append(np.zeros((n, N_CHANNELS), np.float32), lost=True)

    def drain(self) -> None:
        """Take every window that is due: each is what the stream holds there."""
        while self.history.pending:
            windows, end, n_gap = self.history.take()
            assert WINDOW <= end <= len(self.samples)
            np.testing.assert_array_equal(windows, self.samples[end - WINDOW : end].T)
            assert n_gap == np.count_nonzero(self.lost[end - WINDOW : end])
            self.ends.append(end)

    def _append(self, block: NDArray[np.float32], *, lost: bool) -> None:
        self.samples = np.concatenate([self.samples, block])
        self.lost = np.concatenate([self.lost, np.full(len(block), lost)])
        assert self.history.n_samples == len(self.samples)


@pytest.mark.parametrize("hop", [1, 7, 10, 99, 100])
def test_windows_follow_each_other_at_the_hop(hop: int) -> None:
    timeline = Timeline(hop)
    for n in timeline.rng.integers(0, 2 * WINDOW, 60):
        timeline.push(int(n))
        timeline.drain()
    assert timeline.ends == list(range(WINDOW, len(timeline.samples) + 1, hop))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("hop", [3, 10, 50, 100])
def test_lost_samples_are_silence_that_is_counted_and_the_clock_goes_on(hop: int, seed: int) -> None:
    timeline = Timeline(hop, seed)
    for n in timeline.rng.integers(0, 150, 200):
        if timeline.rng.random() < 0.2:
            timeline.push_gap(int(timeline.rng.choice([1, 30, WINDOW, WINDOW + 1, 7 * WINDOW])))
        timeline.push(int(n))
        timeline.drain()
    steps = np.diff(timeline.ends)
    assert (steps > 0).all()
    assert np.count_nonzero(steps != hop) <= np.count_nonzero(np.diff(timeline.lost.astype(int)) == 1)
    assert timeline.ends[-1] > len(timeline.samples) - hop


@pytest.mark.parametrize("n_before", range(0, 7 * WINDOW, 25))
def test_a_gap_between_two_long_blocks_leaves_what_is_due(n_before: int) -> None:
    """What a pipeline pushes at most before it takes: the resampler's rest, a gap, and a second of sound."""
    for n_rest in (0, 3, 9):
        timeline = Timeline(1)
        for _ in range(n_before // 9):
            timeline.push(9)
            timeline.drain()
        timeline.push(n_rest)
        timeline.push_gap(WINDOW)
        timeline.push(WINDOW + 9)
        timeline.drain()
        timeline.push(WINDOW + 9)
        timeline.drain()
        assert timeline.ends == list(range(WINDOW, len(timeline.samples) + 1))


def test_nothing_is_due_before_the_first_window_is_whole() -> None:
    timeline = Timeline(10)
    timeline.push(WINDOW - 1)
    assert timeline.history.pending == 0
    timeline.push(1)
    assert timeline.history.pending == 1


def test_skipping_leaves_the_newest_window_on_the_hop() -> None:
    timeline = Timeline(10)
    timeline.push(WINDOW + 57)
    assert timeline.history.pending == 6
    assert timeline.history.skip_to_newest() == 5
    timeline.drain()
    assert timeline.ends == [WINDOW + 50]
    assert timeline.history.skip_to_newest() == 0
    timeline.push(3)
    timeline.drain()
    assert timeline.ends == [WINDOW + 50, WINDOW + 60]
