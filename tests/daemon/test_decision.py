"""The decision of one channel: gate, smoothing, labels and events."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mird.daemon.decision import SILENCE, UNKNOWN, Change, Decision, DecisionSettings, Verdict
from mird.daemon.errors import SettingsError

NAMES = ("viola", "tuba", "harp")
LOUD_DBFS = -20.0
HOP_S = 0.1
PLAIN = DecisionSettings(unknown_threshold=0.5, smoothing_s=0.0, hold_s=0.2, release_s=0.3)


def scores_of(label: str, high: float = 0.9, low: float = 0.1) -> list[float]:
    """Scores of a hop that sounds like a class, or like none."""
    return [high if name == label else low for name in NAMES]


class Script:
    """Steps a decision through scripted hops and keeps what it says."""

    def __init__(self, options: DecisionSettings, hop_s: float = HOP_S) -> None:
        numbers = itertools.count()
        self.decision = Decision(options, lambda: f"{next(numbers):016x}")
        self.hop_s = hop_s
        self.n_steps = 0
        self.verdicts: list[Verdict] = []
        self.changes: list[Change] = []

    def hop(self, scores: Sequence[float], level_dbfs: float = LOUD_DBFS, names: tuple[str, ...] = NAMES) -> Verdict:
        time_s = self.n_steps * self.hop_s
        verdict = self.decision.step(names, np.array(scores, dtype=np.float32), level_dbfs, time_s)
        self.n_steps += 1
        self.verdicts.append(verdict)
        self.changes.extend(verdict.changes)
        return verdict

    def play(self, labels: Iterable[str]) -> Script:
        """A hop for each label; "silence" is below the gate."""
        for label in labels:
            self.hop(scores_of(label), -90.0 if label == SILENCE else LOUD_DBFS)
        return self

    def close(self) -> list[Change]:
        self.changes.extend(self.decision.close(self.n_steps * self.hop_s))
        return self.changes

    @property
    def labels(self) -> list[str]:
        return [verdict.label for verdict in self.verdicts]

    @property
    def told(self) -> list[tuple[str, str, float]]:
        return [(change.kind, change.label, round(change.time_s, 6)) for change in self.changes]


def hops(**counts: int) -> list[str]:
    return [label for label, n in counts.items() for _ in range(n)]


# --- events


def test_an_event_starts_when_its_class_began_to_win_and_ends_when_it_ceased() -> None:
    script = Script(PLAIN).play(hops(unknown=3, viola=5)).play(hops(unknown=5))
    assert script.labels == hops(unknown=5, viola=6) + hops(unknown=2)
    assert script.told == [("start", "viola", 0.3), ("end", "viola", 0.8)]
    assert [change.start_s for change in script.changes] == [pytest.approx(0.3)] * 2
    assert len({change.event_id for change in script.changes}) == 1


def test_a_class_that_is_held_takes_the_place_of_the_running_one() -> None:
    script = Script(PLAIN).play(hops(viola=5, tuba=5))
    assert script.labels == hops(unknown=2, viola=5, tuba=3)
    assert script.told == [("start", "viola", 0.0), ("end", "viola", 0.5), ("start", "tuba", 0.5)]
    assert len({change.event_id for change in script.changes}) == 2


@pytest.mark.parametrize("flicker", [["tuba"], ["tuba", "tuba"], ["unknown", "tuba"], ["silence"], ["tuba", "silence"]])
def test_a_flicker_neither_ends_an_event_nor_starts_one(flicker: list[str]) -> None:
    script = Script(PLAIN).play([*hops(viola=5), *flicker, *hops(viola=5)])
    assert script.told == [("start", "viola", 0.0)]
    assert script.close()[-1].time_s == pytest.approx((10 + len(flicker)) * HOP_S)


def test_classes_that_win_in_turn_start_no_event() -> None:
    script = Script(PLAIN).play(["viola", "tuba"] * 20)
    assert set(script.labels) == {UNKNOWN}
    assert script.close() == []


def test_silence_ends_an_event_after_the_release() -> None:
    script = Script(PLAIN).play(hops(viola=5, silence=4))
    assert script.labels == hops(unknown=2, viola=3, silence=4)
    assert script.told == [("start", "viola", 0.0), ("end", "viola", 0.5)]


def test_closing_ends_a_running_event_at_the_streams_end() -> None:
    script = Script(PLAIN).play(hops(viola=5))
    assert script.close()[-1].time_s == pytest.approx(0.5)
    assert script.decision.close(1.0) == ()


def test_closing_during_the_release_ends_an_event_when_it_ceased() -> None:
    script = Script(PLAIN).play(hops(viola=5, unknown=2))
    assert script.close()[-1].time_s == pytest.approx(0.5)


def test_a_closed_decision_begins_anew() -> None:
    script = Script(PLAIN).play(hops(viola=5))
    script.close()
    script.n_steps = 0
    assert script.hop(scores_of("viola")).label == UNKNOWN


def test_scores_of_an_event_are_those_while_its_class_won() -> None:
    script = Script(PLAIN)
    for high in (0.6, 0.8, 1.0):
        script.hop(scores_of("viola", high))
    for _ in range(4):
        script.hop(scores_of("unknown"))
    start, end = script.close()
    assert start.peak_score == pytest.approx(1.0)
    assert end.peak_score == pytest.approx(1.0)
    assert end.mean_score == pytest.approx(0.8)


@pytest.mark.parametrize("hop_s", [0.02, 0.1, 0.25, 1.0])
def test_times_do_not_hang_on_the_hop(hop_s: float) -> None:
    options = DecisionSettings(unknown_threshold=0.5, smoothing_s=0.3, hold_s=0.2, release_s=0.3)
    script = Script(options, hop_s)
    n = round(5.0 / hop_s)
    script.play(["viola"] * n).play(["tuba"] * n).play(["silence"] * n)
    started, ended, second, last = script.close()
    assert started.time_s == 0.0
    # The smoothed scores cross half-way: 0.3 s x ln 2 after the last hop that was a viola.
    crossed_s = 5.0 - hop_s + 0.3 * math.log(2.0)
    assert crossed_s - 1e-4 <= ended.time_s <= crossed_s + hop_s
    assert second.time_s == ended.time_s
    assert last.time_s == pytest.approx(10.0)


# --- smoothing and thresholds


def test_smoothing_has_its_time_constant_at_any_hop() -> None:
    options = DecisionSettings(unknown_threshold=0.5, smoothing_s=0.3)
    for hop_s in (0.02, 0.1, 0.3):
        script = Script(options, hop_s)
        script.hop([0.0, 0.0, 0.0])
        for _ in range(round(0.3 / hop_s)):
            script.hop([1.0, 0.0, 0.0])
        assert script.verdicts[-1].smoothed[0] == pytest.approx(1.0 - math.exp(-1.0), abs=1e-5)


def test_the_smoothed_label_fires_and_the_raw_one_does_not() -> None:
    options = DecisionSettings(unknown_threshold=0.5, smoothing_s=1.0, hold_s=0.2)
    script = Script(options).play(hops(viola=20, tuba=4))
    assert script.verdicts[-1].raw_label == "tuba"
    assert script.verdicts[-1].raw_confidence == pytest.approx(0.9)
    assert script.verdicts[-1].label == "viola"
    assert script.told == [("start", "viola", 0.0)]


def test_no_scores_of_before_a_silence_leak_behind_it() -> None:
    options = DecisionSettings(unknown_threshold=0.5, smoothing_s=5.0)
    script = Script(options).play(hops(viola=20, silence=1))
    np.testing.assert_array_equal(script.verdicts[-1].smoothed, [0.0, 0.0, 0.0])
    np.testing.assert_allclose(script.hop(scores_of("tuba")).smoothed, scores_of("tuba"), rtol=1e-6)


def test_thresholds_of_classes_override_the_one_of_all() -> None:
    options = DecisionSettings(
        unknown_threshold=0.5, smoothing_s=0.0, hold_s=0.0, class_thresholds={"viola": 0.95, "tuba": 0.2}
    )
    script = Script(options)
    assert script.hop(scores_of("viola", 0.9)).label == UNKNOWN
    assert script.hop(scores_of("viola", 0.96)).label == "viola"
    assert Script(options).hop(scores_of("tuba", 0.3)).label == "tuba"
    assert Script(options).hop(scores_of("harp", 0.3)).label == UNKNOWN


def test_confidence_of_each_kind_of_answer() -> None:
    script = Script(PLAIN)
    assert script.hop([0.3, 0.2, 0.1]).confidence == pytest.approx(0.7)
    assert script.hop([0.3, 0.2, 0.1], level_dbfs=-math.inf).confidence == 1.0
    script.play(hops(viola=3))
    assert script.verdicts[-1].confidence == pytest.approx(0.9)


def test_without_classes_sound_is_unknown() -> None:
    verdict = Script(PLAIN).hop([], names=())
    assert (verdict.label, verdict.confidence, verdict.raw_label) == (UNKNOWN, 1.0, UNKNOWN)


# --- the gate


def test_the_gate_closes_below_its_level_and_opens_above_the_hysteresis() -> None:
    script = Script(DecisionSettings(unknown_threshold=0.5, silence_dbfs=-55.0, silence_hysteresis_db=3.0))
    levels_dbfs = [-54.0, -55.0, -55.1, -54.0, -52.1, -52.0, -54.9, -60.0]
    silent = [script.hop(scores_of("viola"), level_dbfs).label == SILENCE for level_dbfs in levels_dbfs]
    assert silent == [False, False, True, True, True, False, False, True]


# --- classes that come and go


def test_enrolment_carries_the_smoothed_scores_over_by_name() -> None:
    script = Script(DecisionSettings(unknown_threshold=0.5, smoothing_s=1.0)).play(hops(viola=10, tuba=3))
    before = script.verdicts[-1].smoothed
    verdict = script.hop([0.7, *before[::-1]], names=("oboe", *NAMES[::-1]))
    np.testing.assert_allclose(verdict.smoothed, [0.7, *before[::-1]], rtol=1e-6)
    assert script.told == [("start", "viola", 0.0)]


def test_an_enrolled_class_is_recognised_after_the_hold() -> None:
    script = Script(DecisionSettings(unknown_threshold=0.5, smoothing_s=0.3, hold_s=0.2)).play(hops(unknown=10))
    for _ in range(3):
        script.hop([*scores_of("unknown"), 0.9], names=(*NAMES, "oboe"))
    assert script.told == [("start", "oboe", 1.0)]


def test_forgetting_the_class_of_a_running_event_ends_it() -> None:
    script = Script(PLAIN).play(hops(viola=5))
    verdict = script.hop([0.1, 0.1], names=NAMES[1:])
    assert verdict.label == UNKNOWN
    assert script.told == [("start", "viola", 0.0), ("end", "viola", 0.5)]


def test_forgetting_the_class_of_an_event_in_its_release_ends_it_when_it_ceased() -> None:
    script = Script(PLAIN).play(hops(viola=5, unknown=2))
    script.hop([0.1, 0.1], names=NAMES[1:])
    assert script.told[-1] == ("end", "viola", 0.5)


# --- what is refused


@pytest.mark.parametrize(
    ("scores", "level_dbfs", "time_s", "match"),
    [
        ([0.5, 0.5], -20.0, 1.0, r"shape \(2,\) for 3 classes"),
        ([0.5, 0.5, 1.5], -20.0, 1.0, "to 1.5: must be 0 to 1"),
        ([0.5, 0.5, math.nan], -20.0, 1.0, "must be 0 to 1"),
        ([0.5, 0.5, 0.5], math.nan, 1.0, "level_dbfs is not a number"),
        ([0.5, 0.5, 0.5], -20.0, -1.0, "does not run backwards"),
        ([0.5, 0.5, 0.5], -20.0, math.nan, "time_s=nan"),
    ],
)
def test_steps_that_cannot_be_are_refused(scores: list[float], level_dbfs: float, time_s: float, match: str) -> None:
    script = Script(PLAIN).play(hops(viola=1))
    with pytest.raises(ValueError, match=match):
        script.decision.step(NAMES, np.array(scores, dtype=np.float32), level_dbfs, time_s)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"unknown_threshold": 1.5}, "unknown_threshold=1.5"),
        ({"silence_dbfs": -math.inf}, "silence_dbfs=-inf"),
        ({"silence_hysteresis_db": -1.0}, "silence_hysteresis_db=-1"),
        ({"smoothing_s": math.nan}, "smoothing_s=nan"),
        ({"hold_s": -0.1}, "hold_s=-0.1"),
        ({"release_s": math.inf}, "release_s=inf"),
        ({"class_thresholds": {"viola": 2.0}}, "threshold 2.0 of class 'viola'"),
    ],
)
def test_settings_outside_their_range_are_refused(wrong: dict[str, object], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        DecisionSettings(**({"unknown_threshold": 0.5} | wrong))  # type: ignore[arg-type]


# --- whatever happens

options = st.builds(
    DecisionSettings,
    unknown_threshold=st.floats(0.0, 1.0),
    silence_hysteresis_db=st.floats(0.0, 10.0),
    smoothing_s=st.sampled_from([0.0, 0.05, 0.3, 2.0]),
    hold_s=st.sampled_from([0.0, 0.1, 0.2, 0.5]),
    release_s=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    class_thresholds=st.dictionaries(st.sampled_from(NAMES), st.floats(0.0, 1.0), max_size=2),
)
score = st.floats(0.0, 1.0, width=32)
some_hops = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from((*NAMES, "oboe")), score, max_size=4),
        st.sampled_from([-math.inf, -70.0, -54.0, -20.0, -20.0, -20.0]),
        st.floats(0.0, 1.5),
        st.integers(1, 6),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(options, some_hops)
def test_events_alternate_never_overlap_and_always_end(
    chosen: DecisionSettings, played: list[tuple[dict[str, float], float, float, int]]
) -> None:
    decision = Decision(chosen)
    changes: list[Change] = []
    running: str | None = None
    time_s = 0.0
    for scores_by_name, level_dbfs, hop_s, n in played:
        for _ in range(n):
            time_s += hop_s
            names, values = tuple(scores_by_name), np.array(list(scores_by_name.values()), dtype=np.float32)
            verdict = decision.step(names, values, level_dbfs, time_s)
            changes.extend(verdict.changes)
            for change in verdict.changes:
                running = change.label if change.kind == "start" else None
            assert verdict.label == (SILENCE if verdict.label == SILENCE else running or UNKNOWN)
            assert 0.0 <= verdict.confidence <= 1.0
            assert verdict.smoothed.shape == (len(names),)
            if level_dbfs < chosen.silence_dbfs:
                assert verdict.label == verdict.raw_label == SILENCE
                assert not verdict.smoothed.any()
    changes.extend(decision.close(time_s))
    assert [change.kind for change in changes] == ["start", "end"] * (len(changes) // 2)
    times_s = [change.time_s for change in changes]
    assert times_s == sorted(times_s)
    for start, end in zip(changes[::2], changes[1::2], strict=True):
        assert (start.event_id, start.label, start.start_s) == (end.event_id, end.label, end.start_s)
        assert start.time_s == start.start_s
        assert 0.0 <= end.mean_score <= end.peak_score <= 1.0
    assert len({change.event_id for change in changes}) == len(changes) // 2


@settings(max_examples=200, deadline=None)
@given(
    before=st.lists(st.tuples(score, score, score), max_size=30),
    hop_s=st.floats(0.02, 1.0),
    hold_s=st.floats(0.0, 1.0),
    release_s=st.floats(0.0, 3.0),
)
def test_a_switch_takes_at_most_the_hold_and_a_hop_once_the_scores_are_constant(
    before: list[tuple[float, float, float]], hop_s: float, hold_s: float, release_s: float
) -> None:
    chosen = DecisionSettings(unknown_threshold=0.5, smoothing_s=0.0, hold_s=hold_s, release_s=release_s)
    script = Script(chosen, hop_s)
    for values in before:
        script.hop(values)
    constant_s = script.n_steps * hop_s
    while script.n_steps * hop_s <= constant_s + hold_s + hop_s:
        script.hop(scores_of("harp"))
    assert script.labels[-1] == "harp"


@settings(max_examples=200, deadline=None)
@given(
    flickers=st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 4), st.integers(1, 3)), max_size=20),
    hop_s=st.floats(0.02, 0.3),
    smoothing_s=st.sampled_from([0.0, 0.1]),
)
def test_flicker_shorter_than_the_hold_makes_no_event(
    flickers: list[tuple[str, int, int]], hop_s: float, smoothing_s: float
) -> None:
    # With smoothing a flicker lasts longer: 0.1 s x ln 8 from 0.9 down to 0.2, so that much is added to the hold.
    hold_s = 4.0 * hop_s + (0.1 * math.log(8.0) if smoothing_s else 0.0)
    chosen = DecisionSettings(unknown_threshold=0.2, smoothing_s=smoothing_s, hold_s=hold_s)
    script = Script(chosen, hop_s)
    for label, n, n_rest in flickers:
        script.play([label] * n)
        for _ in range(n_rest + (math.ceil(0.1 * math.log(8.0) / hop_s) if smoothing_s else 0)):
            script.hop([0.0, 0.0, 0.0])
    assert script.close() == []


def test_the_first_step_may_speak_for_longer_than_a_hop() -> None:
    decision = Decision(PLAIN)
    verdict = decision.step(NAMES, np.array(scores_of("harp"), np.float32), LOUD_DBFS, 1.0, since_s=0.25)
    assert verdict.label == "harp"
    assert [(change.kind, change.start_s) for change in verdict.changes] == [("start", 0.25)]
    assert [(change.kind, change.time_s) for change in decision.close(1.0)] == [("end", 1.0)]


def test_a_first_step_that_is_too_short_waits_for_the_next() -> None:
    decision = Decision(PLAIN)
    verdict = decision.step(NAMES, np.array(scores_of("harp"), np.float32), LOUD_DBFS, 1.0, since_s=0.9)
    assert (verdict.label, verdict.changes) == (UNKNOWN, ())
