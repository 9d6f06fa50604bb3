"""A whole daemon in this process: files to their end, subscribers that come late, requests, metrics, clips."""

import socket
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.daemon.conftest import RATE_HZ, Samples, file_capture, is_state, running

from mird.clients.control import ControlClient
from mird.clients.errors import RequestRefused
from mird.clients.subscriber import Subscriber
from mird.daemon.clip_store import ClipStore
from mird.daemon.errors import EndpointError
from mird.daemon.messages import Event, Frame, Heartbeat, Message, State
from mird.daemon.progress import STAGES
from mird.daemon.support_store import SupportStore
from mird.kernels.encoder import Encoder


def is_start(message: Message) -> bool:
    return isinstance(message, Event) and message.event == "start"


def test_a_late_subscriber_is_told_the_state_and_what_sounds(
    encoder: Encoder, store: SupportStore, demonstration: Samples, tmp_path: Path
) -> None:
    capture = file_capture(tmp_path / "piano.wav", demonstration[: 4 * RATE_HZ], loop=True)
    with running(capture, store, encoder) as (one, subscriber):
        start = one.first(subscriber, is_start)
        with Subscriber(one.publish, ("state", "event")) as late:
            told: dict[str, Message] = {}
            while len(told) < 2:
                message = late.recv(10.0)
                assert message is not None
                told.setdefault(message.kind, message)
    state, event = told["state"], told["event"]
    assert isinstance(state, State)
    assert isinstance(event, Event)
    assert isinstance(start, Event)
    assert (state.state, state.replay, state.channels) == ("LIVE", True, (1,))
    assert state.fingerprint == encoder.card.fingerprint
    assert set(state.classes) == set(store.snapshot.prototypes.names)
    assert event.replay
    assert (event.event_id, event.seq, event.label) == (start.event_id, start.seq, start.label)


def test_a_file_is_heard_to_its_end_and_the_end_is_told(
    encoder: Encoder, store: SupportStore, demonstration: Samples, tmp_path: Path
) -> None:
    capture = file_capture(tmp_path / "two.wav", demonstration[: 6 * RATE_HZ].reshape(-1, 1).repeat(2, 1), fast=True)
    with running(capture, store, encoder) as (one, subscriber):
        one.first(subscriber, is_state("ENDED"))
        last = one.first(subscriber, lambda message: isinstance(message, Heartbeat))
        one.join()
    assert one.failure is None
    frames = [message for message in one.messages if isinstance(message, Frame)]
    for channel in (1, 2):
        ends = [frame.sample_end for frame in frames if frame.channel == channel]
        assert ends == list(range(RATE_HZ, 6 * RATE_HZ + 1, 4_410))
    events = [message for message in one.messages if isinstance(message, Event)]
    starts, ends_ = ({e.event_id for e in events if e.event == kind} for kind in ("start", "end"))
    assert starts == ends_ != set()
    assert one.messages.index(events[-1]) < len(one.messages) - 2, "events end before the state says so"
    assert isinstance(last, Heartbeat)
    assert last.counters["n_hops"] == 51
    assert (last.counters["n_hops_skipped"], last.counters["n_lost_frames"], last.counters["n_opens"]) == (0, 0, 1)
    assert all(frame.latency_ms >= 0 for frame in frames)
    assert not any(frame.degraded or frame.n_gap_frames for frame in frames)


def test_requests_are_answered_meanwhile_and_a_bad_one_harms_nobody(
    encoder: Encoder, store: SupportStore, demonstration: Samples, tmp_path: Path
) -> None:
    capture = file_capture(tmp_path / "piano.wav", demonstration[: 4 * RATE_HZ], loop=True)
    with running(capture, store, encoder) as (one, subscriber), ControlClient(one.control) as client:
        one.first(subscriber, is_state("LIVE"))
        status = client.request("status")
        assert (status["state"], status["publish"], status["window"]) == ("LIVE", one.publish, RATE_HZ)
        for verb, arguments, exit_status in (
            ("forget", {"name": "nobody"}, 6),
            ("rename", {"old": "piano", "new": "a/b"}, 5),
            ("enroll", {"name": "x", "rate_hz": 44_100, "windows": [b"1234"], "origin": "x"}, 5),
            ("forget", {}, 8),
            ("explode", {}, 8),
        ):
            with pytest.raises(RequestRefused) as caught:
                client.request(verb, **arguments)
            assert caught.value.exit_status == exit_status
        listing = client.request("forget", name="piano")
        assert "piano" not in {known["name"] for known in listing["classes"]}
        state = one.first(
            subscriber, lambda message: isinstance(message, State) and message.revision == listing["revision"]
        )
        assert isinstance(state, State)
        assert "piano" not in state.classes
        frame = one.first(subscriber, lambda message: isinstance(message, Frame) and message.revision == state.revision)
        assert isinstance(frame, Frame)
        assert frame.label != "piano"
        assert client.request("stop") == {}
        one.first(subscriber, is_state("ENDED"))
        one.join()
    assert one.failure is None


def test_the_metrics_of_a_daemon_that_hears(
    encoder: Encoder, store: SupportStore, demonstration: Samples, tmp_path: Path
) -> None:
    capture = file_capture(tmp_path / "piano.wav", demonstration[: 4 * RATE_HZ], rate_hz=48_000, loop=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with running(capture, store, encoder, metrics=f"127.0.0.1:{port}") as (one, subscriber):
        one.first(subscriber, is_start)
        for _ in range(2):  # the times of a hop are taken in after its messages are out
            one.first(subscriber, lambda message: isinstance(message, Frame))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5.0) as answer:
            lines = answer.read().decode().splitlines()
    found = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}
    assert found["mird_hops_total"] > 0
    assert found["mird_hops_skipped_total"] >= 0
    assert found['mird_source_state{mird_source_state="LIVE"}'] == 1
    assert found["mird_subscribers"] == 1
    assert found["mird_classes"] == 40
    assert found['mird_gate_open{channel="1"}'] == 1
    for stage in STAGES:
        p50_s, p99_s = (found[f'mird_stage_seconds{{quantile="{share}",stage="{stage}"}}'] for share in ("0.5", "0.99"))
        assert 0 < p50_s <= p99_s < 30
    assert found['mird_stage_seconds_count{stage="encoder"}'] > 0


def test_metrics_that_cannot_be_served_end_the_daemon_before_it_listens(
    encoder: Encoder, store: SupportStore, demonstration: Samples, tmp_path: Path
) -> None:
    capture = file_capture(tmp_path / "piano.wav", demonstration[:RATE_HZ])
    with running(capture, store, encoder, metrics="10.0.0.1:7477") as (one, _):
        one.join()
    assert isinstance(one.failure, EndpointError)
    assert capture.status.n_opens == 0


def test_the_end_of_an_event_names_the_clip_that_has_its_sound(
    encoder: Encoder, store: SupportStore, demonstration: Samples, tmp_path: Path
) -> None:
    capture = file_capture(tmp_path / "piano.wav", demonstration[: 6 * RATE_HZ])
    clips = ClipStore(tmp_path / "clips", 10)
    with running(capture, store, encoder, clips) as (one, subscriber):
        end = one.first(subscriber, lambda message: isinstance(message, Event) and message.event == "end")
        one.join()
    start = next(message for message in one.messages if is_start(message))
    assert isinstance(start, Event)
    assert isinstance(end, Event)
    assert (start.clip, start.event_id) == ("", end.event_id)
    assert end.clip.endswith(f"-1-{end.label}-{end.event_id}.flac")
    kept, rate_hz = soundfile.read(clips.folder / end.clip, dtype="float32")
    assert end.sample_end is not None
    first = max(0, end.sample_start - RATE_HZ // 2)
    assert rate_hz == RATE_HZ
    np.testing.assert_allclose(kept, demonstration[first : end.sample_end][: len(kept)], atol=1e-4)
    assert len(kept) == end.sample_end - first
