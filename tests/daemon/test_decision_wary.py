"""The decision where nobody has won for long, as while somebody speaks: a class must win for longer then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.daemon.test_decision import HOP_S, PLAIN, Script

from mird.daemon.decision import SILENCE, UNKNOWN, DecisionSettings


def n_hops_to_start(options: DecisionSettings, before: Sequence[str], hop_s: float = HOP_S) -> int:
    """Hops that a viola must lead until its event starts, after what was heard before."""
    script = Script(options, hop_s).play(before)
    assert not script.changes
    return next(n for n in range(1, 200) if script.play(["viola"]).changes)


@pytest.mark.parametrize("hop_s", [0.02, 0.1])
def test_where_nobody_has_won_for_long_a_class_must_win_for_longer(hop_s: float) -> None:
    wary = replace(PLAIN, wary_hold_s=1.2)
    seconds = round(1 / hop_s)
    at_once = n_hops_to_start(wary, (), hop_s)
    assert at_once == round(0.2 / hop_s) + 1
    assert n_hops_to_start(wary, [UNKNOWN] * (3 * seconds), hop_s) == at_once  # a pause between two phrases
    after_speech = [n_hops_to_start(wary, [UNKNOWN] * (n * seconds), hop_s) * hop_s for n in (5, 8, 60)]
    assert 0.2 < after_speech[0] < after_speech[1] < after_speech[2]
    assert 0.8 < after_speech[2] < 1.2  # it is less wary with every hop that it is won


def test_a_pause_does_not_make_it_forget_speech_and_minutes_do() -> None:
    wary = replace(PLAIN, wary_hold_s=1.2)
    speech = [UNKNOWN] * 300
    at_once, later = n_hops_to_start(wary, ()), n_hops_to_start(wary, [*speech, *[SILENCE] * 10])
    assert later > 2 * at_once
    assert n_hops_to_start(wary, [*speech, *[SILENCE] * 1200]) == at_once


def test_after_an_event_the_next_class_must_win_no_longer_than_ever() -> None:
    script = Script(replace(PLAIN, wary_hold_s=1.2)).play([UNKNOWN] * 100).play(["viola"] * 60)
    n_before = len(script.verdicts)
    script.play(["tuba"] * 5)
    assert [each.kind for each in script.changes] == ["start", "end", "start"]
    assert script.labels[n_before:].index("tuba") == 2


def test_a_wary_hold_below_the_hold_shortens_nothing() -> None:
    plain, wary = replace(PLAIN, wary_hold_s=0.2), replace(PLAIN, wary_hold_s=0.0)
    assert (
        n_hops_to_start(wary, [UNKNOWN] * 300) == n_hops_to_start(plain, [UNKNOWN] * 300) == n_hops_to_start(plain, ())
    )
