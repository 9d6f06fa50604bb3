"""Every start has its end: whatever becomes of the daemon, of the device and of single messages."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mird.clients.presence import Presence
from mird.daemon.messages import Event, Message

if TYPE_CHECKING:
    from tests.clients.conftest import Script


def told(presence: Presence, *messages: Message) -> list[str]:
    """What is handed on of events: ``+id`` for a start and ``-id`` for an end."""
    handed = [each for message in messages for each in presence.take(message, 0.0)]
    return [f"{'+' if each.event == 'start' else '-'}{each.event_id}" for each in handed if isinstance(each, Event)]


def test_events_pass_once(script: "type[Script]") -> None:
    start = script.start()
    shown = (start, replace(start, replay=True), script.heartbeat(), script.level(), script.frame(), script.end())
    assert told(Presence(), *shown) == ["+e1", "-e1"]


def test_an_end_whose_start_was_before_we_joined_passes(script: "type[Script]") -> None:
    assert told(Presence(), script.end()) == ["-e1"]


def test_other_messages_pass_as_they_are(script: "type[Script]") -> None:
    presence = Presence()
    for message in (script.state(), script.heartbeat(), script.level(), script.frame()):
        assert presence.take(message, 0.0) == [message]


def test_another_start_on_the_channel_ends_an_event_and_one_on_another_channel_does_not(script: "type[Script]") -> None:
    other = script.start("oboe", 1.0, "e2")
    assert told(Presence(), script.start(), other) == ["+e1", "-e1", "+e2"]
    assert told(Presence(), script.start(), replace(other, channel=2)) == ["+e1", "+e2"]


def test_another_daemon_ends_what_ran_in_the_one_before(script: "type[Script]") -> None:
    assert told(Presence(), script.start(), replace(script.heartbeat(), run_id="r2")) == ["+e1", "-e1"]
    other = script.start("oboe", 1.0, "e2", run_id="r2")
    assert told(Presence(), script.start(), other) == ["+e1", "-e1", "+e2"]


@pytest.mark.parametrize(
    ("state", "ends"),
    [("LOST", True), ("WAITING", True), ("ENDED", True), ("STALLED", False), ("SOMETHING_NEW", False)],
)
def test_states_without_sound_end_events(script: "type[Script]", state: str, *, ends: bool) -> None:
    presence = Presence()
    assert told(presence, script.start(), script.state(state)) == ["+e1", "-e1"][: 1 + ends]
    assert told(presence, script.end()) == ([] if ends else ["-e1"])  # the daemon's own end comes after all


def test_a_lost_end_shows_in_the_second_frame_of_another_label(script: "type[Script]") -> None:
    presence = Presence()
    shown = (script.start(), script.frame(end_s=2.0), script.frame("silence", 2.1))
    assert told(presence, *shown) == ["+e1"]  # the end comes right behind the frame
    second = script.frame("silence", 2.2)
    ended, passed = presence.take(second, 0.0)
    assert isinstance(ended, Event)
    assert (ended.event, ended.sample_end) == ("end", second.sample_end)
    assert ended.end_utc_ns == ended.start_utc_ns + 2_200_000_000
    assert passed is second


def test_frames_from_before_the_start_end_nothing(script: "type[Script]") -> None:
    before = [script.frame("silence", end_s) for end_s in (1.0, 1.1)]
    assert told(Presence(), *before, script.start(start_s=1.1), script.frame(end_s=1.2)) == ["+e1"]


def test_a_new_stream_ends_what_ran_in_the_old_one(script: "type[Script]") -> None:
    new = [script.frame(end_s=end_s, stream_id="s2") for end_s in (2.0, 2.1)]
    assert told(Presence(), script.start(), script.frame(end_s=9.0), *new) == ["+e1", "-e1"]


def test_silence_of_the_daemon_ends_events_and_its_return_takes_them_up(script: "type[Script]") -> None:
    presence = Presence()
    assert told(presence, script.frame(end_s=2.0), script.start()) == ["+e1"]
    assert presence.alive
    assert presence.check(3.0) == []
    (ended,) = presence.check(3.1)
    assert (ended.event, ended.event_id, ended.sample_end) == ("end", "e1", 2 * 44_100)
    assert not presence.alive
    assert presence.check(99.0) == []
    assert presence.take(script.heartbeat(), 100.0) == [script.start(replay=True), script.heartbeat()]
    assert presence.alive
    assert told(presence, script.end()) == ["-e1"]


def test_the_return_of_another_daemon_takes_nothing_up(script: "type[Script]") -> None:
    presence = Presence()
    told(presence, script.start())
    presence.check(5.0)
    assert told(presence, replace(script.heartbeat(), run_id="r2")) == []
    assert presence.alive


def test_a_daemon_that_says_that_it_ends_is_gone_at_once(script: "type[Script]") -> None:
    presence = Presence()
    told(presence, script.state(), script.state("ENDED"))
    assert not presence.alive
    told(presence, script.heartbeat())  # its last one
    assert not presence.alive
    told(presence, replace(script.heartbeat(), run_id="r2"))
    assert presence.alive


def test_who_writes_down_waits_for_the_real_end(script: "type[Script]") -> None:
    presence = Presence(lost_after_s=float("inf"))
    assert told(presence, script.start(), script.state("LOST"), script.end()) == ["+e1", "-e1"]
    assert told(presence, script.start("oboe", 3.0, "e2")) == ["+e2"]
    assert presence.check(1e9) == []
    assert [each.event_id for each in presence.release()] == ["e2"]
    assert presence.release() == []
