"""The sample clock: late blocks, drift and gaps."""

import pytest

from mird.daemon.sample_clock import SampleClock

S = 1_000_000_000
RATE_HZ = 44_100
BLOCK = 441


def run(clock: SampleClock, begin: int, end: int, origin_ns: int, parts_per_million: float = 0.0) -> None:
    """Let the blocks of some seconds arrive, three of four of them up to 3 ms late."""
    for block in range(begin * 100, end * 100):
        captured_ns = origin_ns + round((block + 1) * S / 100 * (1 + parts_per_million * 1e-6))
        clock.mark((block + 1) * BLOCK, captured_ns + (block % 4) * 1_000_000)


def test_late_blocks_do_not_shift_the_clock() -> None:
    clock = SampleClock(RATE_HZ)
    clock.mark(BLOCK, 5 * S + 10_000_000 + 7_000_000)
    assert clock.origin_ns == pytest.approx(5 * S + 7_000_000, abs=100)
    run(clock, 0, 10, 5 * S)
    assert clock.origin_ns == pytest.approx(5 * S, abs=100)
    assert clock.mono_ns(3 * RATE_HZ) == pytest.approx(8 * S, abs=100)


def test_a_crystal_that_is_slow_is_followed_for_hours() -> None:
    clock = SampleClock(RATE_HZ)
    run(clock, 0, 600, 5 * S, parts_per_million=100.0)
    true_ns = 5 * S + 600 * S * (1 + 100e-6)
    assert clock.mono_ns(600 * RATE_HZ) == pytest.approx(true_ns, abs=1_000_000), "60 ms of drift, 1 ms of error"


def test_a_gap_shows_as_a_step_within_four_seconds() -> None:
    clock = SampleClock(RATE_HZ)
    run(clock, 0, 10, 5 * S)
    run(clock, 10, 14, 5 * S + S // 4)
    assert clock.mono_ns(14 * RATE_HZ) == pytest.approx(19 * S + S // 4, abs=100)


def test_before_the_first_block_there_is_no_time() -> None:
    clock = SampleClock(RATE_HZ)
    assert clock.origin_ns is None
    with pytest.raises(ValueError, match="sample 7"):
        clock.mono_ns(7)
