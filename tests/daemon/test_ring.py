"""The ring: order, overruns, waking, and one writer against one reader at full speed."""

import threading
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.daemon.ring import Chunk, Ring


def ramp(start: int, n: int, n_channels: int = 1) -> NDArray[np.float32]:
    """Frames that say their own number; every channel adds 2^19."""
    numbers = np.arange(start, start + n) % (1 << 19)
    return (numbers[:, None] + (1 << 19) * np.arange(n_channels)).astype(np.float32)


def test_frames_come_out_as_they_went_in_across_the_seam() -> None:
    ring = Ring(100, 2)
    taken = []
    for start in range(0, 700, 70):
        ring.write(ramp(start, 70, 2))
        taken += [ring.read(30), ring.read(1000)]
    assert [chunk.start for chunk in taken[:4]] == [0, 30, 70, 100]
    assert all(chunk.n_lost == 0 for chunk in taken)
    np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in taken]), ramp(0, 700, 2))
    assert ring.n_written == 700
    assert len(ring.read(10).samples) == 0


def test_columns_of_a_wider_block_can_be_written() -> None:
    ring = Ring(16, 2)
    wide = np.arange(40, dtype=np.float32).reshape(10, 4)
    ring.write(wide[:, 1:3])
    np.testing.assert_array_equal(ring.read(10).samples, wide[:, 1:3])


def test_a_chunk_belongs_to_its_reader() -> None:
    ring = Ring(4, 1)
    ring.write(ramp(0, 4))
    chunk = ring.read(4)
    ring.write(ramp(4, 4))
    np.testing.assert_array_equal(chunk.samples, ramp(0, 4))


def test_an_overtaken_reader_loses_the_oldest_and_is_told() -> None:
    ring = Ring(80, 1)
    ring.write(ramp(0, 60))
    ring.write(ramp(60, 60))
    chunk = ring.read(1000)
    assert chunk.n_lost == chunk.start == 50, "the oldest frame is 40, and an eighth of 80 is left for the writer"
    np.testing.assert_array_equal(chunk.samples, ramp(50, 70))
    assert ring.read(1000).n_lost == 0


def test_a_ring_can_be_full_to_the_last_frame_without_a_loss() -> None:
    ring = Ring(80, 1)
    ring.write(ramp(0, 80))
    assert ring.read(1000).n_lost == 0


def test_of_a_block_longer_than_the_ring_the_end_stays() -> None:
    ring = Ring(16, 1)
    ring.write(ramp(0, 5))
    ring.write(ramp(5, 100))
    chunk = ring.read(1000)
    assert ring.n_written == 105
    assert (chunk.start, chunk.n_lost) == (91, 91)
    np.testing.assert_array_equal(chunk.samples, ramp(91, 14))


def test_latest_takes_nothing() -> None:
    ring = Ring(16, 1)
    assert len(ring.latest(4).samples) == 0
    ring.write(ramp(0, 20))
    chunk = ring.latest(4)
    assert chunk.start == 16
    np.testing.assert_array_equal(chunk.samples, ramp(16, 4))
    assert len(ring.latest(1000).samples) == 16
    assert ring.n_unread == 20


def test_what_was_written_before_the_close_can_be_read() -> None:
    ring = Ring(16, 1)
    ring.write(ramp(0, 3))
    ring.close()
    ring.write(ramp(3, 3))
    assert ring.closed
    assert not ring.drained
    assert not ring.wait_for_data(4, 60.0), "it returns at once"
    assert len(ring.read(100).samples) == 3
    assert ring.drained


def test_blocks_of_another_width_or_type_are_refused() -> None:
    with pytest.raises(ValueError, match="1 channels of float32 for a ring of 2"):
        Ring(16, 2).write(ramp(0, 3, 1))
    with pytest.raises(ValueError, match="float64"):
        Ring(16, 1).write(np.zeros((3, 1)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        Ring(16, 0)


def test_a_waiting_reader_wakes_when_the_last_frame_that_it_needs_is_there() -> None:
    ring = Ring(1000, 1)
    asleep = threading.Event()
    delays_s = []
    written_s = [0.0]

    def read() -> None:
        for _ in range(50):
            asleep.set()
            assert ring.wait_for_data(20, 10.0)
            delays_s.append(time.monotonic() - written_s[0])
            assert len(ring.read(100).samples) == 20

    reader = threading.Thread(target=read)
    reader.start()
    for start in range(0, 1000, 20):
        assert asleep.wait(10.0)
        asleep.clear()
        ring.write(ramp(start, 10))
        written_s[0] = time.monotonic()
        ring.write(ramp(start + 10, 10))
        while ring.n_unread:
            time.sleep(0.001)
    reader.join(10.0)
    assert not reader.is_alive()
    assert sorted(delays_s)[len(delays_s) // 2] < 0.005, "half of the wakings take less than 5 ms"


def test_waiting_costs_no_processor_time() -> None:
    ring = Ring(1000, 1)
    spent_s = time.thread_time()
    assert not ring.wait_for_data(1, 0.3)
    ring.write(ramp(0, 1000))
    assert not ring.wait_for_space(1, 0.3)
    assert time.thread_time() - spent_s < 0.05


def test_close_wakes_both_sides() -> None:
    full, empty = Ring(10, 1), Ring(10, 1)
    full.write(ramp(0, 10))
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(full.wait_for_space(1, 60.0))),
        threading.Thread(target=lambda: results.append(empty.wait_for_data(1, 60.0))),
    ]
    for thread in threads:
        thread.start()
    full.close()
    empty.close()
    for thread in threads:
        thread.join(10.0)
        assert not thread.is_alive()
    assert results == [False, False]


def test_a_lossless_writer_waits_for_its_reader() -> None:
    ring = Ring(64, 1)

    def write() -> None:
        for start in range(0, 6400, 10):
            while not ring.wait_for_space(10, 1.0):
                pass
            ring.write(ramp(start, 10))
        ring.close()

    writer = threading.Thread(target=write)
    writer.start()
    taken: list[Chunk] = []
    while not ring.drained:
        ring.wait_for_data(7, 1.0)
        taken.append(ring.read(7))
    writer.join(10.0)
    assert sum(chunk.n_lost for chunk in taken) == 0
    np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in taken]), ramp(0, 6400))


@pytest.mark.parametrize("block", [97, 2048])
def test_no_read_is_torn_by_a_writer_at_hundreds_of_times_real_time(block: int) -> None:
    rate_hz, seconds = 44_100, 1.0
    ring = Ring(1 << 17, 2)
    source = ramp(0, (1 << 19) + block, 2)
    source[1 << 19 :] = ramp(1 << 19, block, 2)
    chunks: list[tuple[int, int, int, bool]] = []

    def read() -> None:
        while not ring.drained:
            ring.wait_for_data(1, 1.0)
            chunk = ring.read(1 << 17)
            n = len(chunk.samples)
            whole = bool((chunk.samples == ramp(chunk.start, n, 2)).all())
            chunks.append((chunk.start, n, chunk.n_lost, whole))

    reader = threading.Thread(target=read)
    reader.start()
    began_s = time.monotonic()
    while time.monotonic() - began_s < seconds:
        start = ring.n_written % (1 << 19)
        ring.write(source[start : start + block])
    took_s = time.monotonic() - began_s
    ring.close()
    reader.join(30.0)
    assert not reader.is_alive()
    assert all(whole for *_, whole in chunks), "every frame of every chunk is the one that its number says"
    position = 0
    for start, n, n_lost, _ in chunks:
        assert start == position + n_lost
        position = start + n
    assert position == ring.n_written, "what was read and what was lost are all there was"
    assert sum(n_lost for _, _, n_lost, _ in chunks) > 0, "the writer was too slow to test anything"
    assert ring.n_written / rate_hz / took_s > 100.0, "the writer was not at hundreds of times real time"
