"""What was heard lately: sound to enrol, stretches of one label to correct, levels to calibrate with.

The processing thread writes a :class:`Heard`, hop by hop; the main thread reads it when a request asks. The sound is in
a ring of its own, whose `latest` any thread may call; a lock, held for microseconds, guards the rest.
"""

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mird.daemon.decision import UNKNOWN, Verdict
from mird.daemon.errors import ClipError
from mird.daemon.ring import Ring

SOUND_S: Final = 30
"""Seconds of sound that are kept of each channel."""
MAX_SOUND_BYTES: Final = 160 << 20
"""Of all channels together: from 32 channels on, each keeps less than `SOUND_S`."""
LEVELS_S: Final = 60.0
"""Seconds of which the levels are kept."""
N_STRETCHES: Final = 32
"""Stretches that are kept of each channel once they have ended."""
N_EMBEDDINGS: Final = 8
"""Windows that are kept of a stretch, where it has as many; while it lasts, twice as many at most."""
N_HOPS: Final = 128
"""Newest windows from among which a stretch that is told of late takes those that were heard before."""
UNKNOWN_S: Final = 1.0
"""A shorter stretch without a name is a passing doubt, and not what somebody who corrects has heard."""


@dataclass(frozen=True)
class ChannelLevel:
    """What one channel is like now.

    Attributes
    ----------
    channel : int
    rms_dbfs, peak_dbfs : float
        Of the last hop.
    label : str
    confidence : float in [0, 1]
    """

    channel: int
    rms_dbfs: float
    peak_dbfs: float
    label: str
    confidence: float


@dataclass(frozen=True)
class Stretch:
    """A stretch of one label, as far as it was heard.

    Attributes
    ----------
    channel : int
    event_id : str
        Empty where it has no name.
    label : str
        A class, or "unknown".
    start_s : float
        On the stream's clock.
    end_s : float, optional
        None while it lasts.
    embeddings : NDArray[float32], shape (n, n_dims)
        Of n windows that are spread over it.
    """

    channel: int
    event_id: str
    label: str
    start_s: float
    end_s: float | None
    embeddings: NDArray[np.float32]


@dataclass
class _Spell:
    """A stretch in the making."""

    event_id: str
    label: str
    start_s: float
    end_s: float | None = None
    windows: list[tuple[float, NDArray[np.float32]]] = field(default_factory=list)  # (end_s, embedding)
    n_heard: int = 0
    stride: int = 1  # one of so many windows is kept
    kept: NDArray[np.float32] | None = None  # once it has ended: the embeddings, in the place of the windows

    def add(self, end_s: float, embedding: NDArray[np.float32]) -> None:
        if self.n_heard % self.stride == 0:
            self.windows.append((end_s, embedding))
        self.n_heard += 1
        if len(self.windows) > 2 * N_EMBEDDINGS:
            del self.windows[1::2]
            self.stride *= 2

    def lasts_s(self, now_s: float) -> float:
        return (now_s if self.end_s is None else self.end_s) - self.start_s

    def spread(self, window_s: float, n_most: int) -> NDArray[np.float32]:
        """Embeddings, shape (n, n_dims), of windows at least half of which lie in the stretch, where there are some."""
        if self.kept is None:
            whole = [e for end_s, e in self.windows if end_s >= self.start_s + window_s / 2]
            chosen = whole or [e for _, e in self.windows[-1:]]
        else:
            chosen = list(self.kept)
        rows = np.linspace(0, len(chosen) - 1, min(n_most, len(chosen))).round().astype(int)  # at least 1 apart
        return np.stack([chosen[row] for row in rows])


class _Channel:
    """What is kept of one channel.

    Parameters
    ----------
    window_s : float
    places : NDArray[float32], shape (N_STRETCHES, N_EMBEDDINGS, n_dims)
        Where the embeddings of ended stretches go, the oldest over and over.
    """

    def __init__(self, window_s: float, places: NDArray[np.float32]) -> None:
        self._window_s = window_s
        self._places = places
        self._n_ended = 0
        self.level: ChannelLevel | None = None
        self.gates: deque[tuple[float, float]] = deque()  # (time_s, dBFS), of the last LEVELS_S
        self.hops: deque[tuple[float, NDArray[np.float32]]] = deque(maxlen=N_HOPS)
        self.event: _Spell | None = None
        self.unknown: _Spell | None = None
        self.ended: deque[_Spell] = deque(maxlen=N_STRETCHES)
        self.now_s = 0.0

    def begin(self, event_id: str, label: str, start_s: float) -> _Spell:
        spell = _Spell(event_id, label, start_s)
        for end_s, embedding in self.hops:
            if end_s > start_s:
                spell.add(end_s, embedding)
        return spell

    def end(self, spell: _Spell, time_s: float) -> None:
        spell.end_s = time_s
        spell.windows = [each for each in spell.windows if each[0] <= time_s] or spell.windows[:1]
        if spell.windows and (spell.event_id or spell.lasts_s(time_s) >= UNKNOWN_S):
            self.keep(spell)

    def keep(self, spell: _Spell) -> None:
        """Remember one that has ended, in the place of the oldest."""
        chosen = spell.spread(self._window_s, N_EMBEDDINGS)
        kept = self._places[self._n_ended % N_STRETCHES, : len(chosen)]
        kept[:] = chosen
        self._n_ended += 1
        self.ended.append(replace(spell, windows=[], kept=kept))

    def spells(self) -> list[_Spell]:
        """Those that can be corrected, the newest first."""
        running = [each for each in (self.event, self.unknown) if each is not None and each.windows]
        return [
            each for each in (*running, *reversed(self.ended)) if each.event_id or each.lasts_s(self.now_s) >= UNKNOWN_S
        ]


class Heard:
    """The last seconds of one stream; the processing thread writes, any thread reads.

    Parameters
    ----------
    stream_id, source : str
    channels : tuple of int
        The channels' numbers, in the order of the samples' columns.
    rate_hz : int
        The front end's.
    window_s : float
        Of a window.
    n_dims : int
        Of an embedding.
    earlier : Heard, optional
        Of the stream before: what ended in it can still be corrected.
    """

    def __init__(
        self,
        stream_id: str,
        source: str,
        channels: tuple[int, ...],
        rate_hz: int,
        window_s: float,
        n_dims: int,
        earlier: "Heard | None" = None,
    ) -> None:
        self.stream_id, self.source = stream_id, source
        self.channels, self.rate_hz = channels, rate_hz
        self._window_s = window_s
        self._lock = threading.Lock()
        n_frames = min((SOUND_S + 1) * rate_hz, MAX_SOUND_BYTES // (4 * len(channels)))
        self._ring = Ring(n_frames, len(channels))
        # Filled, not only reserved: as large at the start as after hours of events.
        places = np.full((len(channels), N_STRETCHES, N_EMBEDDINGS, n_dims), 0.0, np.float32)
        self._channels = {channel: _Channel(window_s, places[row]) for row, channel in enumerate(channels)}
        if earlier is not None:
            for channel in set(channels) & set(earlier.channels):
                for spell in earlier.ended(channel):
                    self._channels[channel].keep(spell)

    # ---- processing thread

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take in samples, shape (n, n_channels)."""
        self._ring.write(samples)

    def push_gap(self, n: int) -> None:
        """Take in silence in the place of `n` lost samples."""
        self._ring.write(np.zeros((min(n, self._ring.n_frames), len(self.channels)), np.float32))

    def hop(
        self,
        level: ChannelLevel,
        gate_dbfs: float,
        time_s: float,
        verdict: Verdict,
        embedding: NDArray[np.float32] | None,
    ) -> None:
        """Take in what one hop of one channel was found to be.

        Parameters
        ----------
        level : ChannelLevel
        gate_dbfs : float
            The level that the gate looked at.
        time_s : float
            Of the hop's end, on the stream's clock.
        verdict : Verdict
        embedding : NDArray[float32], shape (n_dims,), optional
            Of its window; None where there is none, or sound was lost in it.
        """
        channel = self._channels[level.channel]
        with self._lock:
            channel.level, channel.now_s = level, time_s
            channel.gates.append((time_s, gate_dbfs))
            while channel.gates[0][0] < time_s - LEVELS_S:
                channel.gates.popleft()
            if embedding is not None:
                embedding = embedding.copy()  # a view would keep those of all channels
                channel.hops.append((time_s, embedding))
                for spell in (channel.event, channel.unknown):
                    if spell is not None:
                        spell.add(time_s, embedding)
            for change in verdict.changes:
                if change.kind == "start":
                    channel.event = channel.begin(change.event_id, change.label, change.start_s)
                elif channel.event is not None:
                    channel.end(channel.event, change.time_s)
                    channel.event = None
            if verdict.label == UNKNOWN and channel.unknown is None:
                channel.unknown = channel.begin("", UNKNOWN, time_s - 1e-6)
            elif verdict.label != UNKNOWN and channel.unknown is not None:
                channel.end(channel.unknown, time_s)
                channel.unknown = None

    def close(self, time_s: float) -> None:
        """The stream is at its end: what sounds ends."""
        with self._lock:
            for channel in self._channels.values():
                for spell in (channel.event, channel.unknown):
                    if spell is not None:
                        channel.end(spell, time_s)
                channel.event = channel.unknown = None

    def ended(self, channel: int) -> list[_Spell]:
        """What has ended on a channel, the oldest first, for the stream that begins once this one is closed."""
        with self._lock:
            return list(self._channels[channel].ended)

    # ---- any thread

    @property
    def heard_s(self) -> float:
        """Seconds of sound since the stream began."""
        return self._ring.n_written / self.rate_hz

    def channel(self, channel: int | None) -> int:
        """The channel that was asked for, or the only one.

        Raises
        ------
        ClipError
            There is no such channel, or there are several and none was asked for.
        """
        known = ", ".join(map(str, self.channels))
        if channel is None and len(self.channels) > 1:
            raise ClipError(f"there are channels {known}: say which one (--channel N)")
        if channel is not None and channel not in self._channels:
            raise ClipError(f"channel {channel} is not listened to: choose from {known}")
        return self.channels[0] if channel is None else channel

    def sound(self, channel: int, seconds: float) -> NDArray[np.float32]:
        """The newest samples of a channel at the front end's rate, shape (n,); fewer where less was heard."""
        n = min(round(seconds * self.rate_hz), self._ring.n_frames)
        return self._ring.latest(n).samples[:, self.channels.index(channel)].copy()

    @property
    def n_samples(self) -> int:
        """Samples that came in: the clock of :meth:`span`."""
        return self._ring.n_written

    def span(self, channel: int, first: int, last: int) -> NDArray[np.float32]:
        """The samples of a channel from `first` up to `last`, shape (n,); fewer where they are forgotten or to come."""
        newest = self._ring.latest(max(0, self._ring.n_written - first))
        part = newest.samples[max(0, first - newest.start) : max(0, last - newest.start)]
        return part[:, self.channels.index(channel)].copy()

    def stretch(self, channel: int | None, event_id: str | None, n_most: int) -> Stretch:
        """An event, or what was heard last on a channel.

        Parameters
        ----------
        channel : int, optional
        event_id : str, optional
            One of the last events; none for the newest stretch of the channel: an event, or a second and more that had
            no name.
        n_most : int > 0
            The most windows wanted.

        Raises
        ------
        ClipError
            There is no such channel, no such event among the last ones, or nothing was heard yet.
        """
        if event_id is None or channel is not None:
            channel = self.channel(channel)
        with self._lock:
            for number in self.channels if channel is None else (channel,):
                for spell in self._channels[number].spells():
                    if event_id in (None, spell.event_id):
                        windows = spell.spread(self._window_s, n_most)
                        return Stretch(number, spell.event_id, spell.label, spell.start_s, spell.end_s, windows)
        if event_id is None:
            raise ClipError(f"nothing was heard on channel {channel} yet that could be corrected: play, then try again")
        raise ClipError(
            f"event {event_id!r} is not among the last {N_STRETCHES} of a channel: correct a newer one, or enrol a clip"
        )

    def levels(self) -> list[ChannelLevel]:
        """Of each channel that has been heard."""
        with self._lock:
            return [each.level for each in self._channels.values() if each.level is not None]

    def gates(self, channel: int, seconds: float) -> NDArray[np.float64]:
        """Levels in dBFS that the gate looked at in the last seconds, at most `LEVELS_S`; shape (n_hops,)."""
        with self._lock:
            kept = self._channels[channel]
            return np.array([dbfs for time_s, dbfs in kept.gates if time_s > kept.now_s - seconds])
