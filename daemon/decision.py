"""The decision: from a hop's scores and level to what one channel is said to sound like, and its events.

A state machine of one channel, without clock, thread or chance but the events' names: time comes in with each step.
Below the gate nothing but ``silence`` is said. Above it the scores are smoothed, the best class wins where its smoothed
score reaches its threshold, and nobody does otherwise. A class that wins for `hold_s` starts an event; one that does
not win for `release_s`, or while another one is held, ends its event. What is published is the class of the running
event, else ``unknown``: the frames and the events tell the same story, and no hop alone starts either.

Who speaks hits upon an instrument's sound now and then, for the length of a vowel. So where hardly anybody has won in
the last seconds, the next who does must win for longer, up to `wary_hold_s`.
"""

import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from mird.daemon.errors import SettingsError

SILENCE: Final = "silence"
UNKNOWN: Final = "unknown"
WARY_S: Final = 5.0
"""Time constant with which it is remembered that nobody won."""
WARY_SILENCE_S: Final = 30.0
"""And with which silence makes that forgotten: a speaker's pauses are short."""
WARY_SHARE: Final = 0.5
"""The share of those seconds from which on it counts: players pause, too, and a sound's first window is mixed."""
SLACK_S: Final = 1e-6
"""Times closer than this are the same: they come as quotients."""


@dataclass(frozen=True)
class DecisionSettings:
    """How quick and how sure a decision is.

    Attributes
    ----------
    unknown_threshold : float in [0, 1]
        A class whose smoothed score is below it does not win.
    silence_dbfs : float
        Level below which there is silence, in dBFS.
    silence_hysteresis_db : float >= 0
        Decibels above it that end a silence.
    smoothing_s : float >= 0
        Time constant of the scores' smoothing; 0 leaves them as they are.
    hold_s : float >= 0
        Time that a class must win before its event starts.
    wary_hold_s : float >= 0
        In the place of `hold_s`, if it is longer, where nobody has won for some seconds; in between, what lies between.
    release_s : float >= 0
        Time that it must not win before its event ends.
    class_thresholds : Mapping[str, float]
        In the place of `unknown_threshold`, by class.

    Raises
    ------
    SettingsError
        A value is outside its range.
    """

    unknown_threshold: float
    silence_dbfs: float = -55.0
    silence_hysteresis_db: float = 3.0
    smoothing_s: float = 0.05
    hold_s: float = 0.3
    wary_hold_s: float = 1.3
    release_s: float = 0.3
    class_thresholds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("silence_hysteresis_db", "smoothing_s", "hold_s", "wary_hold_s", "release_s"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise SettingsError(f"{name}={value}: must be a number of at least 0")
        if not math.isfinite(self.silence_dbfs):
            raise SettingsError(f"silence_dbfs={self.silence_dbfs}: must be a level in dBFS, such as -55")
        if not 0.0 <= self.unknown_threshold <= 1.0:
            raise SettingsError(f"unknown_threshold={self.unknown_threshold}: must be 0 to 1")
        for name, value in self.class_thresholds.items():
            if not 0.0 <= value <= 1.0:
                raise SettingsError(f"threshold {value} of class '{name}': must be 0 to 1")


@dataclass(frozen=True)
class Change:
    """An event that starts or ends.

    Attributes
    ----------
    kind : {"start", "end"}
    event_id : str
        The same at start and end, 16 hexadecimal digits.
    label : str
        The class.
    time_s : float
        When the class began to win ("start") or ceased to ("end"): earlier than the step that tells of it.
    start_s : float
        When it began to win.
    peak_score, mean_score : float in [0, 1]
        Of its smoothed scores while it won, so far.
    """

    kind: Literal["start", "end"]
    event_id: str
    label: str
    time_s: float
    start_s: float
    peak_score: float
    mean_score: float


@dataclass(frozen=True)
class Verdict:
    """What one hop of one channel is said to be.

    Attributes
    ----------
    label : str
        "silence", "unknown" or a class: the smoothed label, which events follow.
    confidence : float in [0, 1]
        The class's smoothed score; 1 less the best score where unknown; 1 where silent.
    smoothed : NDArray[float32], shape (n_classes,)
        Smoothed scores in [0, 1], in the order of the step's names; zeros where silent.
    changes : tuple[Change, ...]
        In the order of their times.
    raw_label : str
        As this hop alone would have it.
    raw_confidence : float in [0, 1]
    """

    label: str
    confidence: float
    smoothed: NDArray[np.float32]
    changes: tuple[Change, ...]
    raw_label: str
    raw_confidence: float


@dataclass
class _Spell:
    """A stretch of time in which one class wins: a candidate until it is held, then an event."""

    label: str
    start_s: float
    peak: float = 0.0
    total: float = 0.0
    n_hops: int = 0
    event_id: str = ""
    gone_s: float | None = None  # since when it does not win

    def win(self, score: float) -> None:
        self.gone_s = None
        self.peak = max(self.peak, score)
        self.total += score
        self.n_hops += 1

    def change(self, kind: Literal["start", "end"], time_s: float) -> Change:
        mean = self.total / self.n_hops
        return Change(kind, self.event_id, self.label, time_s, self.start_s, self.peak, min(mean, self.peak))


class Decision:
    """The state of one channel: gate, smoothed scores, candidate and running event. One thread owns it.

    Parameters
    ----------
    settings : DecisionSettings
    new_id : Callable[[], str]
        Names events.

    Attributes
    ----------
    settings : DecisionSettings
        May be replaced between two steps.
    """

    _names: tuple[str, ...]
    _smoothed: NDArray[np.float32]
    _time_s: float | None
    _open: bool | None  # None before the first step
    _candidate: _Spell | None
    _event: _Spell | None
    _lost: float  # share of the last seconds in which nobody won, 0 to 1

    def __init__(self, settings: DecisionSettings, new_id: Callable[[], str] = lambda: uuid.uuid4().hex[:16]) -> None:
        self.settings = settings
        self._new_id = new_id
        self._reset()

    def step(
        self,
        names: tuple[str, ...],
        scores: NDArray[np.float32],
        level_dbfs: float,
        time_s: float,
        since_s: float | None = None,
    ) -> Verdict:
        """Take in one hop.

        Parameters
        ----------
        names : tuple[str, ...], n_classes
            May differ from the last step's: a class keeps its smoothed score by its name, a new one begins with its
            score, and the event of one that is gone ends.
        scores : NDArray[float32], shape (n_classes,)
            In [0, 1].
        level_dbfs : float
            Of the newest sound; -inf for digital silence.
        time_s : float
            Of the hop's end on the stream's clock; not less than the last step's.
        since_s : float, optional
            When the sound of this step began, where that is longer ago than a hop: a stream's first window is all that
            was heard so far, and who wins it has been winning since then.

        Raises
        ------
        ValueError
            Scores do not fit the names or are not in [0, 1], the level is not a number, or time runs backwards.
        """
        scores = np.asarray(scores, dtype=np.float32)
        self._check(names, scores, level_dbfs, time_s)
        self._gate(level_dbfs)
        elapsed_s = math.inf if self._time_s is None else time_s - self._time_s
        self._time_s = time_s
        changes: list[Change] = []
        if not self._open:
            self._lost *= math.exp(-elapsed_s / WARY_SILENCE_S)
            self._names, self._smoothed = (), np.empty(0, dtype=np.float32)
            self._follow(None, 0.0, time_s, changes, time_s)
            return Verdict(SILENCE, 1.0, np.zeros_like(scores), tuple(changes), SILENCE, 1.0)
        self._smooth(names, scores, elapsed_s)
        if self._event is not None and self._event.label not in names:  # forgotten or renamed
            self._end(time_s, changes)
        winner, score = self._best(names, self._smoothed)
        nobody = winner is None and self._event is None
        if math.isfinite(elapsed_s):
            self._lost = nobody + (self._lost - nobody) * math.exp(-elapsed_s / WARY_S)
        self._follow(winner, score, time_s, changes, time_s if since_s is None else since_s)
        raw_winner, raw_score = self._best(names, scores)
        label, confidence = UNKNOWN, 1.0 - float(self._smoothed.max(initial=0.0))
        if self._event is not None:
            label, confidence = self._event.label, float(self._smoothed[names.index(self._event.label)])
        return Verdict(
            label,
            confidence,
            self._smoothed.copy(),
            tuple(changes),
            UNKNOWN if raw_winner is None else raw_winner,
            1.0 - raw_score if raw_winner is None else raw_score,
        )

    def close(self, time_s: float) -> tuple[Change, ...]:
        """The stream ends at `time_s`: end the running event, and begin anew with the next step."""
        changes: list[Change] = []
        self._end(time_s if self._time_s is None else max(time_s, self._time_s), changes)
        self._reset()
        return tuple(changes)

    def _reset(self) -> None:
        self._names, self._smoothed = (), np.empty(0, dtype=np.float32)
        self._time_s = self._open = self._candidate = self._event = None
        self._lost = 0.0

    def _check(self, names: tuple[str, ...], scores: NDArray[np.float32], level_dbfs: float, time_s: float) -> None:
        if scores.shape != (len(names),):
            raise ValueError(f"scores of shape {scores.shape} for {len(names)} classes: must be one score a class")
        if scores.size and not (scores.min() >= 0.0 and scores.max() <= 1.0):
            raise ValueError(f"scores from {scores.min()} to {scores.max()}: must be 0 to 1")
        if math.isnan(level_dbfs):
            raise ValueError("level_dbfs is not a number: must be a level, or -inf for digital silence")
        if not math.isfinite(time_s) or (self._time_s is not None and time_s < self._time_s):
            raise ValueError(f"time_s={time_s} after {self._time_s}: the stream's time does not run backwards")

    def _gate(self, level_dbfs: float) -> None:
        hysteresis_db = self.settings.silence_hysteresis_db if self._open is False else 0.0
        self._open = level_dbfs >= self.settings.silence_dbfs + hysteresis_db

    def _smooth(self, names: tuple[str, ...], scores: NDArray[np.float32], elapsed_s: float) -> None:
        """Exponential smoothing in time: after `smoothing_s` a step has gone 63 % of its way, at any hop."""
        previous = self._smoothed
        if names != self._names:
            known: dict[str, float] = dict(zip(self._names, previous.tolist(), strict=True))
            fresh = zip(names, scores.tolist(), strict=True)
            previous = np.array([known.get(name, score) for name, score in fresh], dtype=np.float32)
        smoothing_s = self.settings.smoothing_s
        share = -math.expm1(-elapsed_s / smoothing_s) if smoothing_s > 0.0 else 1.0
        moved = previous + np.float32(share) * (scores - previous)
        self._names, self._smoothed = names, np.clip(moved, 0.0, 1.0, dtype=np.float32)

    def _best(self, names: tuple[str, ...], scores: NDArray[np.float32]) -> tuple[str | None, float]:
        """The winner, if any reaches its threshold, and the best score."""
        if not names:
            return None, 0.0
        best = int(np.argmax(scores))
        name, score = names[best], float(scores[best])
        threshold = self.settings.class_thresholds.get(name, self.settings.unknown_threshold)
        return (name if score >= threshold else None), score

    def _follow(self, winner: str | None, score: float, time_s: float, changes: list[Change], since_s: float) -> None:
        """Let the winner of this step start, prolong or end events."""
        event = self._event
        if event is not None and winner == event.label:
            event.win(score)
            self._candidate = None
            return
        if event is not None:
            event.gone_s = time_s if event.gone_s is None else event.gone_s
        if winner is None:
            self._candidate = None
        elif self._candidate is None or self._candidate.label != winner:
            self._candidate = _Spell(winner, since_s)
        held = self._candidate
        if held is not None:
            held.win(score)
            if time_s - held.start_s < self._hold_s() - SLACK_S:
                held = None
        if event is not None and event.gone_s is not None:
            released = time_s - event.gone_s >= self.settings.release_s - SLACK_S
            if released or held is not None:
                self._end(time_s, changes)
        if held is not None:
            held.event_id = self._new_id()
            self._event, self._candidate = held, None
            changes.append(held.change("start", held.start_s))

    def _hold_s(self) -> float:
        """Time that a class must win now."""
        hold_s, wary = self.settings.hold_s, max(0.0, self._lost - WARY_SHARE) / (1.0 - WARY_SHARE)
        return hold_s + wary * max(0.0, self.settings.wary_hold_s - hold_s)

    def _end(self, time_s: float, changes: list[Change]) -> None:
        """End the running event, if any, when its class ceased to win, or now."""
        if self._event is not None:
            gone_s = self._event.gone_s
            changes.append(self._event.change("end", time_s if gone_s is None else gone_s))
            self._event = None
