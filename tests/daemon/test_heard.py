"""What is kept of what was heard: sound, stretches, levels; bounded, and read while it is written."""

import gc
import threading
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.daemon.decision import Change, Verdict
from mird.daemon.errors import ClipError
from mird.daemon.heard import LEVELS_S, MAX_SOUND_BYTES, N_EMBEDDINGS, N_HOPS, N_STRETCHES, SOUND_S, ChannelLevel, Heard

RATE_HZ = 1_000
HOP_S = 0.1


def heard_of(channels: tuple[int, ...] = (1,), earlier: Heard | None = None, n_dims: int = 1) -> Heard:
    return Heard("5f0c1a2b3c4d5e6f", "desk", channels, RATE_HZ, 1.0, n_dims, earlier)


class Player:
    """Feeds a channel hop by hop; the embedding of a hop is its time."""

    def __init__(self, heard: Heard, channel: int = 1, n_dims: int = 1) -> None:
        self.heard, self.channel, self.time_s = heard, channel, 1.0
        self._n_dims = n_dims
        self._running: Change | None = None
        self._n_events = 0

    def hops(self, label: str, seconds: float, dbfs: float = -20.0, *, late_s: float = 0.0) -> str:
        """One label for some seconds; an event begins `late_s` before its first hop. Its id, where it is one."""
        changes: list[Change] = []
        if self._running is not None and self._running.label != label:
            ended = self._running
            changes.append(
                Change("end", ended.event_id, ended.label, self.time_s + HOP_S - late_s, ended.start_s, 1.0, 1.0)
            )
            self._running = None
        if label not in ("unknown", "silence") and self._running is None:
            self._n_events += 1
            start_s = self.time_s + HOP_S - late_s
            self._running = Change("start", f"{self.channel}-{self._n_events}", label, start_s, start_s, 1.0, 1.0)
            changes.append(self._running)
        for _ in range(round(seconds / HOP_S)):
            self.time_s = round(self.time_s + HOP_S, 6)
            verdict = Verdict(label, 0.9, np.zeros(0, np.float32), tuple(changes), label, 0.9)
            level = ChannelLevel(self.channel, dbfs, dbfs + 3, label, 0.9)
            embedding = None if label == "silence" else np.full(self._n_dims, self.time_s, np.float32)
            self.heard.hop(level, dbfs, self.time_s, verdict, embedding)
            changes = []
        return self._running.event_id if self._running else ""


def times(heard: Heard, n_most: int = 5, event_id: str | None = None) -> NDArray[np.float32]:
    return heard.stretch(None, event_id, n_most).embeddings[:, 0]


def test_the_newest_sound_is_kept_and_no_more_than_30_s() -> None:
    heard = heard_of((1, 4))
    assert len(heard.sound(4, 5.0)) == 0
    samples = np.arange(40_000, dtype=np.float32)[:, None] * [1, -1]
    for start in range(0, 40_000, 77):
        heard.push(samples[start : start + 77].astype(np.float32))
    assert heard.heard_s == 40.0
    assert np.array_equal(heard.sound(4, 2.5), -samples[-2_500:, 0])
    assert np.array_equal(heard.sound(1, 30.0), samples[-30_000:, 0])
    assert len(heard.sound(1, 100.0)) <= (SOUND_S + 1) * RATE_HZ
    heard.push_gap(500)
    assert np.array_equal(heard.sound(1, 1.0)[:500], samples[-500:, 0])
    assert not heard.sound(1, 0.5).any()
    heard.push_gap(10**12)
    assert not heard.sound(1, 30.0).any()


def test_many_channels_are_kept_for_less_time() -> None:
    heard = Heard("5f0c1a2b3c4d5e6f", "desk", tuple(range(1, 257)), 44_100, 1.0, 1)
    heard.push(np.ones((1, 256), np.float32))
    assert heard.sound(256, 30.0).shape == (1,)
    assert heard._ring.n_frames * 256 * 4 <= MAX_SOUND_BYTES


def test_a_running_event_is_the_newest_stretch() -> None:
    heard = heard_of()
    player = Player(heard)
    player.hops("viola", 2.0)
    event_id = player.hops("flute", 3.0)
    stretch = heard.stretch(None, None, 5)
    assert (stretch.event_id, stretch.label, stretch.channel, stretch.end_s) == (event_id, "flute", 1, None)
    assert stretch.start_s == pytest.approx(3.1)
    assert stretch.embeddings.shape == (5, 1)
    assert stretch.embeddings.min() >= 3.6 - 1e-6, "half of each window, at least, lies in it"
    assert stretch.embeddings.max() == pytest.approx(player.time_s)


def test_one_that_has_just_ended_can_be_corrected_and_so_can_older_ones() -> None:
    heard = heard_of()
    player = Player(heard)
    viola = player.hops("viola", 2.0)
    flute = player.hops("flute", 2.0)
    player.hops("silence", 1.0)
    newest = heard.stretch(1, None, 5)
    assert newest.event_id == flute
    assert newest.end_s == pytest.approx(5.1)
    older = heard.stretch(None, viola, 3)
    assert (older.event_id, older.label) == (viola, "viola")
    assert 1.6 - 1e-6 <= older.embeddings.min() <= older.embeddings.max() <= 3.1


def test_an_event_that_is_told_of_late_has_the_windows_from_before() -> None:
    heard = heard_of()
    player = Player(heard)
    player.hops("unknown", 1.0)
    player.hops("viola", 0.1, late_s=0.5)
    assert times(heard, 9) == pytest.approx([2.1])
    player.hops("viola", 0.5)
    assert times(heard, 9).min() == pytest.approx(2.1)


@pytest.mark.parametrize(("seconds", "label"), [(0.5, "viola"), (2.0, "unknown")])
def test_what_had_no_name_counts_from_a_second_on(seconds: float, label: str) -> None:
    heard = heard_of()
    player = Player(heard)
    player.hops("viola", 2.0)
    player.hops("unknown", seconds)
    assert heard.stretch(None, None, 5).label == label
    player.hops("silence", 1.0)
    assert heard.stretch(None, None, 5).label == label


def test_an_event_of_hours_keeps_a_few_windows_that_are_spread_over_it() -> None:
    heard = heard_of()
    Player(heard).hops("viola", 600.0)
    kept = times(heard, 1_000)
    assert N_EMBEDDINGS - 1 <= len(kept) <= 2 * N_EMBEDDINGS
    assert np.diff(kept).max() < 60.0
    assert kept.min() < 60.0
    assert kept.max() > 540.0


def test_old_events_are_forgotten() -> None:
    heard = heard_of()
    player = Player(heard)
    first = player.hops("viola", 0.5)
    for _ in range(N_STRETCHES // 2):
        player.hops("flute", 0.5)
        player.hops("viola", 0.5)
    assert heard.stretch(None, first, 5).end_s is not None
    player.hops("flute", 0.5)
    with pytest.raises(ClipError, match=f"event '{first}' is not among the last {N_STRETCHES} of a channel"):
        heard.stretch(None, first, 5)


def test_it_is_as_large_after_the_first_event_as_after_hours_of_them() -> None:
    heard = heard_of(n_dims=256)
    player = Player(heard, n_dims=256)
    player.hops("silence", LEVELS_S)
    player.hops("viola", 30.0)  # the newest windows are many
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(N_STRETCHES):
            player.hops("flute", 2.0)
            player.hops("viola", 2.0)
        gc.collect()
        growth = tracemalloc.get_traced_memory()[0] - N_HOPS * (256 * 4 + 256)  # those replaced older ones, unseen
    finally:
        tracemalloc.stop()
    assert growth < 64 << 10, "kept one by one, so many stretches take 300 to 600 KiB"
    assert len(heard.ended(1)) == N_STRETCHES


def test_channels_are_told_apart() -> None:
    heard = heard_of((2, 7))
    left, right = Player(heard, 2), Player(heard, 7)
    viola, flute = left.hops("viola", 1.0), right.hops("flute", 1.0)
    assert heard.stretch(2, None, 5).event_id == viola
    assert heard.stretch(None, flute, 5).channel == 7
    with pytest.raises(ClipError, match="there are channels 2, 7: say which one"):
        heard.stretch(None, None, 5)
    with pytest.raises(ClipError, match="channel 1 is not listened to: choose from 2, 7"):
        heard.stretch(1, None, 5)
    with pytest.raises(ClipError, match="is not among the last"):
        heard.stretch(7, viola, 5)
    assert {(each.channel, each.label) for each in heard.levels()} == {(2, "viola"), (7, "flute")}


def test_nothing_heard_is_nothing_to_correct() -> None:
    heard = heard_of()
    Player(heard).hops("silence", 2.0)
    with pytest.raises(ClipError, match="nothing was heard on channel 1 yet"):
        heard.stretch(None, None, 5)


def test_events_outlive_their_stream() -> None:
    first = heard_of((1, 2))
    event_id = Player(first).hops("viola", 2.0)
    first.close(3.0)
    second = heard_of((1,), first)
    stretch = second.stretch(None, event_id, 5)
    assert (stretch.label, stretch.end_s) == ("viola", 3.0)
    assert second.levels() == []


def test_levels_of_a_minute_are_kept() -> None:
    heard = heard_of()
    player = Player(heard)
    player.hops("silence", 100.0, -90.0)
    player.hops("silence", 2.0, -60.0)
    assert len(heard.gates(1, LEVELS_S)) == pytest.approx(LEVELS_S / HOP_S, abs=1)
    assert set(heard.gates(1, 1.95)) == {-60.0}
    assert heard.levels() == [ChannelLevel(1, -60.0, -57.0, "silence", 0.9)]


def test_it_is_read_while_it_is_written() -> None:
    """What a reader gets is whole: an embedding says when it was heard, and a sample what number it has."""
    heard = heard_of()
    player = Player(heard)
    stop = threading.Event()

    def write() -> None:
        start = 0
        while not stop.is_set():
            heard.push((np.arange(start, start + 100) % 10_000).astype(np.float32)[:, None])
            start += 100
            player.hops("viola" if start % 3_000 < 1_500 else "flute", HOP_S)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        n_read = 0
        while n_read < 300:
            sound = heard.sound(1, 20.0)
            assert set(np.unique(np.diff(sound) % 10_000)) <= {1.0}
            if not heard.levels():
                continue
            try:
                stretch = heard.stretch(None, None, 5)
            except ClipError:
                continue
            assert np.all(np.diff(stretch.embeddings[:, 0]) > 0)
            assert stretch.embeddings[0, 0] >= stretch.start_s - 0.2
            n_read += 1
    finally:
        stop.set()
        writer.join()
