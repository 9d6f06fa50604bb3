"""The pipeline: one stream's way from samples to messages. The daemon and ``mird tag`` run the same one.

::

    Chunk -> Resampler -> History -> Recognizer -> Decision (one a channel) -> Level, Frame, Event
                                        |                |
                                        |                +--> Heard, for whoever enrols or corrects
                                        +--> Scalogram, for those who look
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mird.daemon.calibration import NO_GATES, Gates
from mird.daemon.capture import Stream
from mird.daemon.decision import Change, Decision, DecisionSettings, Verdict
from mird.daemon.heard import ChannelLevel, Heard
from mird.daemon.history import History
from mird.daemon.messages import Event, Frame, Level, Message, Scalogram, Score, scalogram_topic
from mird.daemon.resample import Resampler
from mird.daemon.ring import Chunk
from mird.daemon.scalogram_columns import ScalogramColumns
from mird.daemon.settings import Settings
from mird.daemon.support_store import Snapshot
from mird.kernels.recognizer import Recognizer
from mird.kernels.windows import frame_power

GATE_S: Final = 0.2
"""The silence gate looks at the level of this much of the newest sound."""

FRAMES_PER_S: Final = 50
"""Frames in which the first sound of a stream is looked for."""

FLOOR_POWER: Final = 1e-20
"""Power of digital silence: -200 dBFS."""


def decision_settings(
    settings: Settings,
    unknown_threshold: float,
    thresholds: Mapping[str, float] = MappingProxyType({}),
    silence_dbfs: float | None = None,
) -> DecisionSettings:
    """The settings of a channel's decision.

    Parameters
    ----------
    settings : Settings
    unknown_threshold : float in [0, 1]
        The engine's, where none is set.
    thresholds : Mapping[str, float]
        Of the support set's classes: they were given to a running daemon, and are stronger than the settings.
    silence_dbfs : float, optional
        The gate of a channel that was calibrated.
    """
    return DecisionSettings(
        silence_dbfs=settings.silence_dbfs if silence_dbfs is None else silence_dbfs,
        unknown_threshold=unknown_threshold if settings.unknown_threshold is None else settings.unknown_threshold,
        smoothing_s=settings.smoothing_ms / 1000,
        hold_s=settings.hold_ms / 1000,
        wary_hold_s=settings.wary_hold_ms / 1000,
        release_s=settings.release_ms / 1000,
        class_thresholds={**settings.class_thresholds, **thresholds},
    )


class Pipeline:
    """One stream's state: resampler, history, a decision for each channel. The processing thread owns it.

    Parameters
    ----------
    recognizer : Recognizer
    stream : Stream
    settings : Settings
    heard : Heard, optional
        What takes in what is heard, for other threads to look at.

    Attributes
    ----------
    n_hops, n_hops_skipped : int
        Windows recognised, and left out because the machine was too slow.
    seconds : dict[str, float]
        How long each stage of the last hop took, and the last resampling.
    """

    def __init__(self, recognizer: Recognizer, stream: Stream, settings: Settings, heard: Heard | None = None) -> None:
        front_end = recognizer.card.front_end
        self._recognizer = recognizer
        self._stream = stream
        self._heard = heard
        self._settings = settings
        self._gates = NO_GATES
        self._thresholds: Mapping[str, float] = MappingProxyType({})
        self._rate_hz = front_end.rate_hz
        self._window = front_end.window
        self._hop = round(settings.hop_ms * front_end.rate_hz / 1000)
        n_channels = len(stream.channels)
        self._resampler = Resampler(stream.rate_hz, front_end.rate_hz, n_channels)
        self._history = History(n_channels, self._window, self._hop)
        self._columns = ScalogramColumns(front_end, recognizer.frequencies_hz, self._hop)
        self._sounding: list[int] = []  # the channels' rows in the recognizer's latest pictures
        self._newest = 0  # end of the latest window
        self._decisions = tuple(Decision(self._options(channel)) for channel in stream.channels)
        self._start_utc_ns: dict[str, int] = {}  # of the running events
        self._degraded = False
        self._n_padded = 0  # silence at the end of a stream that was shorter than a window
        self.n_hops = self.n_hops_skipped = 0
        self.seconds: dict[str, float] = {}

    def tune(self, settings: Settings, gates: Gates) -> None:
        """Go on with other settings and calibrated gates from the next hop on; nothing happens where they are the same.

        Of the settings only those of the decision and `top_k` are heeded: the others are a new pipeline's.
        """
        if settings is not self._settings or gates is not self._gates:
            self._settings, self._gates = settings, gates
            self._renew_decisions()

    def push(self, chunk: Chunk) -> None:
        """Take samples in; where some were lost, silence stands in their place and the clock goes on."""
        if chunk.n_lost:
            self._take_in(self._resampler.flush())
            self._resampler = Resampler(self._stream.rate_hz, self._rate_hz, len(self._stream.channels))
            expected = chunk.start * self._rate_hz // self._stream.rate_hz
            n_gap = max(0, expected - self._history.n_samples)
            self._history.push_gap(n_gap)
            if self._heard is not None:
                self._heard.push_gap(n_gap)
        began_s = time.perf_counter()
        samples = self._resampler.push(chunk.samples)
        self.seconds["resample"] = time.perf_counter() - began_s
        self._take_in(samples)

    def mark_gap(self) -> None:
        """Note that the source lost sound just now, of which nobody knows how much: the windows with it say so."""
        self._history.mark_gap()

    def finish(self) -> None:
        """The stream is at its end: let out what the resampler holds, and fill up a stream shorter than a window."""
        self._take_in(self._resampler.flush())
        missing = self._window - self._history.n_samples
        if 0 < missing < self._window:
            self._history.push(np.zeros((missing, len(self._stream.channels)), np.float32))
            self._n_padded = missing

    def catch_up(self, n_late: int) -> None:
        """Leave out hops when more than ``n_late`` are due: a live answer is about now."""
        self._degraded = self._history.pending > n_late
        if self._degraded:
            self.n_hops_skipped += self._history.skip_to_newest()

    @property
    def n_samples(self) -> int:
        """Samples of the stream that have come in, at the front end's rate."""
        return self._history.n_samples - self._n_padded

    def n_wanted(self) -> int:
        """Frames of the source until the next hop is due, at least 1."""
        missing = self._history.due - self._history.n_samples
        return max(1, missing * self._stream.rate_hz // self._rate_hz)

    def hops(self, snapshot: Callable[[], Snapshot]) -> Iterator[list[Message]]:
        """Recognise what is due against the newest support set; every hop gives the messages of all channels."""
        while self._history.pending:
            yield self._hop_messages(snapshot())

    def scalograms(self, is_wanted: Callable[[bytes], bool]) -> Iterator[Scalogram]:
        """The newest columns of the latest hop, of the channels for whose topic `is_wanted` holds.

        They come out of the pictures that the encoder was given: nothing is computed but their decibels.
        """
        for row, channel in enumerate(self._stream.channels):
            if is_wanted(scalogram_topic(self._stream.source, channel)):
                sounds = row in self._sounding
                magnitudes = self._recognizer.magnitudes[self._sounding.index(row)] if sounds else None
                yield self._columns.message(magnitudes, self._stream, channel, self._newest)

    def close(self) -> list[Message]:
        """End the running events."""
        time_s = (self._history.n_samples - self._n_padded) / self._rate_hz
        if self._heard is not None:
            self._heard.close(time_s)
        return [
            self._event(channel, change)
            for channel, decision in zip(self._stream.channels, self._decisions, strict=True)
            for change in decision.close(time_s)
        ]

    def _options(self, channel: int) -> DecisionSettings:
        unknown_threshold = self._recognizer.card.unknown_threshold
        return decision_settings(self._settings, unknown_threshold, self._thresholds, self._gates.get(channel))

    def _renew_decisions(self) -> None:
        for channel, decision in zip(self._stream.channels, self._decisions, strict=True):
            decision.settings = self._options(channel)

    def _take_in(self, samples: NDArray[np.float32]) -> None:
        self._history.push(samples)
        if self._heard is not None:
            self._heard.push(samples)

    def _hop_messages(self, snapshot: Snapshot) -> list[Message]:
        if snapshot.thresholds != self._thresholds:
            self._thresholds = snapshot.thresholds
            self._renew_decisions()
        windows, sample_end, n_gap = self._history.take()
        self._newest = sample_end
        scores, embeddings = self._scores(windows, snapshot)
        began_s = time.perf_counter()
        first = self.n_hops == 0
        self.n_hops += 1
        messages: list[Message] = []
        for row, channel in enumerate(self._stream.channels):
            heard = windows[row, : self._window - self._n_padded]
            recent = heard[-self._hop :]
            gate_dbfs = level_dbfs(heard[-max(self._hop, round(GATE_S * self._rate_hz)) :])
            time_s = (sample_end - self._n_padded) / self._rate_hz
            since_s = time_s - self._sounding_s(heard) if first else None
            verdict = self._decisions[row].step(snapshot.prototypes.names, scores[row], gate_dbfs, time_s, since_s)
            level = Level(
                source=self._stream.source,
                channel=channel,
                stream_id=self._stream.stream_id,
                sample_end=sample_end,
                rms_dbfs=level_dbfs(recent),
                peak_dbfs=20 * float(np.log10(max(float(np.abs(recent).max()), 1e-10))),
            )
            if self._heard is not None:
                now = ChannelLevel(channel, level.rms_dbfs, level.peak_dbfs, verdict.label, verdict.confidence)
                self._heard.hop(now, gate_dbfs, time_s, verdict, None if n_gap else embeddings.get(row))
            messages.append(level)
            messages.append(self._frame(channel, snapshot, verdict, gate_dbfs, sample_end, n_gap))
            messages.extend(self._event(channel, change) for change in verdict.changes)
        self.seconds["decision"] = time.perf_counter() - began_s
        return messages

    def _sounding_s(self, heard: NDArray[np.float32]) -> float:
        """How long ago the first sound above the gate was, in samples of shape (n,); at least a hop."""
        frame = self._rate_hz // FRAMES_PER_S
        loud = np.flatnonzero(frame_power(heard, frame) >= 10.0 ** (self._settings.silence_dbfs / 10))
        n_sounding = len(heard) - int(loud[0]) * frame if len(loud) else 0
        return max(n_sounding, min(self._hop, len(heard))) / self._rate_hz

    def _scores(
        self, windows: NDArray[np.float32], snapshot: Snapshot
    ) -> tuple[NDArray[np.float32], dict[int, NDArray[np.float32]]]:
        """P(same), shape (n_channels, n_classes), and embeddings by row; zeros and none where there is but silence."""
        scores = np.zeros((len(windows), len(snapshot.prototypes.names)), np.float32)
        sounding = np.flatnonzero(np.abs(windows).max(axis=1) > 0)
        self._sounding = sounding.tolist()
        if not len(sounding):
            return scores, {}
        embeddings, scores[sounding] = self._recognizer.recognise(windows[sounding], snapshot.prototypes)
        self.seconds.update(self._recognizer.seconds)
        return scores, dict(zip(self._sounding, embeddings, strict=True))

    def _frame(
        self, channel: int, snapshot: Snapshot, verdict: Verdict, gate_dbfs: float, sample_end: int, n_gap: int
    ) -> Frame:
        names = snapshot.prototypes.names
        order = np.argsort(-verdict.smoothed, kind="stable")[: self._settings.top_k]
        mono_ns, utc_ns = time.monotonic_ns(), time.time_ns()
        captured_ns = self._stream.mono_ns(sample_end * self._stream.rate_hz // self._rate_hz)
        return Frame(
            source=self._stream.source,
            channel=channel,
            stream_id=self._stream.stream_id,
            sample_start=sample_end - self._window,
            sample_end=sample_end,
            rate_hz=self._rate_hz,
            capture_utc_ns=utc_ns - mono_ns + captured_ns,
            latency_ms=max(0.0, (mono_ns - captured_ns) / 1e6),  # a fast file is ahead of its time
            hop_s=self._hop / self._rate_hz,
            window_s=self._window / self._rate_hz,
            label=verdict.label,
            confidence=verdict.confidence,
            raw_label=verdict.raw_label,
            raw_confidence=verdict.raw_confidence,
            top=tuple(Score(names[i], float(verdict.smoothed[i])) for i in order),
            level_dbfs=gate_dbfs,
            engine=f"{self._recognizer.name}: {self._recognizer.card.name}",
            revision=snapshot.revision,
            degraded=self._degraded or self._recognizer.degraded,
            n_gap_frames=n_gap,
        )

    def _event(self, channel: int, change: Change) -> Event:
        started = round(change.start_s * self._rate_hz)
        ended = round(change.time_s * self._rate_hz) if change.kind == "end" else None
        if ended is None:
            start_utc_ns = self._start_utc_ns[change.event_id] = self._utc_ns(started)
        else:  # of the clock as it was at the start, whatever has been done to it since
            start_utc_ns = self._start_utc_ns.pop(change.event_id)
        return Event(
            source=self._stream.source,
            channel=channel,
            stream_id=self._stream.stream_id,
            event=change.kind,
            event_id=change.event_id,
            label=change.label,
            sample_start=started,
            sample_end=ended,
            start_utc_ns=start_utc_ns,
            end_utc_ns=None if ended is None else start_utc_ns + (ended - started) * 1_000_000_000 // self._rate_hz,
            score=change.mean_score,
            peak_score=change.peak_score,
            rate_hz=self._rate_hz,
        )

    def _utc_ns(self, sample: int) -> int:
        captured_ns = self._stream.mono_ns(sample * self._stream.rate_hz // self._rate_hz)
        return time.time_ns() - time.monotonic_ns() + captured_ns


def level_dbfs(samples: NDArray[np.float32]) -> float:
    """RMS level of samples, shape (n,), in dBFS: 0 for a full-scale square wave, -200 for digital silence."""
    power = float(np.dot(samples, samples)) / len(samples)
    return 10 * float(np.log10(max(power, FLOOR_POWER)))
