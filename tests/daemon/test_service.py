"""A whole daemon in this process: sources that end, hurry or fail, subscribers that come late, requests meanwhile."""

import logging
import socket
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mird.clients.control import ControlClient
from mird.clients.errors import RequestRefused
from mird.clients.subscriber import Subscriber
from mird.daemon.capture import Capture, CaptureState, CaptureStatus, SourceSpec, Stream, new_stream, open_capture
from mird.daemon.clip_store import ClipStore
from mird.daemon.errors import EndpointError, SourceError
from mird.daemon.messages import Event, Frame, Heartbeat, Message, State
from mird.daemon.notify import Notifier
from mird.daemon.progress import STAGES
from mird.daemon.publisher import Publisher
from mird.daemon.ring import Ring
from mird.daemon.sample_clock import SampleClock
from mird.daemon.service import Daemon
from mird.daemon.settings import Settings
from mird.daemon.support import locked
from mird.daemon.support_store import SupportStore
from mird.kernels.encoder import Encoder
from mird.kernels.recognizer import Recognizer

RATE_HZ = 44_100
KINDS = ("frame", "event", "state", "hb")
Samples = NDArray[np.float32]


class Running:
    """A daemon in a thread, its addresses, and what a subscriber receives of it."""

    def __init__(self, daemon: Daemon, publish: str, control: str) -> None:
        self.daemon, self.publish, self.control = daemon, publish, control
        self.failure: BaseException | None = None
        self.messages: list[Message] = []
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float = 30.0) -> None:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.daemon.run()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.failure = error

    def first(self, subscriber: Subscriber, wanted: Callable[[Message], bool]) -> Message:
        """The next message of which something is true; those before it are kept too."""
        while True:
            message = subscriber.recv(30.0)
            assert message is not None, self.messages[-3:]
            self.messages.append(message)
            if wanted(message):
                return message


@contextmanager
def running(
    capture: Capture,
    store: SupportStore,
    encoder: Encoder,
    clips: ClipStore | None = None,
    notifier: Notifier | None = None,
    load: Callable[[], Settings] | None = None,
    **settings: Any,
) -> Iterator[tuple[Running, Subscriber]]:
    """A daemon that a subscriber awaited."""
    with tempfile.TemporaryDirectory(prefix="mird-", dir="/tmp") as folder:
        publish, control = f"ipc://{folder}/publish", f"ipc://{folder}/control"
        publisher = Publisher(publish)
        daemon = Daemon(
            Settings(**settings),
            capture,
            Recognizer(encoder),
            store,
            publisher,
            control,
            "desk",
            notifier=notifier,
            load=load,
            clips=clips,
        )
        one = Running(daemon, publish, control)
        with Subscriber(publish, KINDS) as subscriber:
            assert publisher.await_subscriber(10.0)
            one.start()
            try:
                yield one, subscriber
            finally:
                daemon.stop()
                one.join()


def file_capture(path: Path, samples: Samples, rate_hz: int = RATE_HZ, **spec: Any) -> Capture:
    soundfile.write(path, samples, rate_hz)
    return open_capture(SourceSpec("file", str(path), **spec))


def is_state(state: str) -> Callable[[Message], bool]:
    return lambda message: isinstance(message, State) and message.state == state


def is_start(message: Message) -> bool:
    return isinstance(message, Event) and message.event == "start"


class HurriedCapture:
    """A live source that brings sound faster than any machine follows, then no more: what an overload looks like."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        ring = Ring(3 * RATE_HZ, 1)
        self.stream: Stream | None = new_stream("desk", RATE_HZ, (1,), ring, SampleClock(RATE_HZ), lossless=False)
        self.status = CaptureStatus(CaptureState.LIVE, "in a hurry", n_opens=1)

    def start(self) -> None:
        assert self.stream is not None
        self.stream.ring.write(self._samples[:, None])

    def stop(self) -> None:
        assert self.stream is not None
        self.stream.ring.close()


class BrokenCapture(HurriedCapture):
    """A source whose thread left something behind that nobody foresaw."""

    def start(self) -> None:
        self.status = None  # type: ignore[assignment]


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


def test_a_file_that_is_cut_short_is_heard_as_far_as_it_goes_and_is_an_error(
    encoder: Encoder, store: SupportStore, demonstration: Samples, tmp_path: Path
) -> None:
    path = tmp_path / "cut.wav"
    soundfile.write(path, demonstration[: 4 * RATE_HZ], RATE_HZ)
    path.write_bytes(path.read_bytes()[: 3 * RATE_HZ * 2])
    capture = open_capture(SourceSpec("file", str(path), fast=True))
    with running(capture, store, encoder) as (one, subscriber):
        end = one.first(subscriber, is_state("ENDED"))
        one.join()
    assert isinstance(end, State)
    assert "cut short" in end.detail
    assert isinstance(one.failure, SourceError)
    assert "cut short" in str(one.failure)
    assert sum(isinstance(message, Frame) for message in one.messages) == 20


def test_an_overload_is_counted_and_left_behind(encoder: Encoder, store: SupportStore, demonstration: Samples) -> None:
    """Ten seconds at once into a ring of three: some are lost, some hops are skipped, and the newest is answered."""
    with running(HurriedCapture(demonstration[: 10 * RATE_HZ]), store, encoder) as (one, subscriber):
        frame = one.first(
            subscriber, lambda message: isinstance(message, Frame) and message.sample_end > 10 * RATE_HZ - 4_410
        )
        beat = one.first(subscriber, lambda message: isinstance(message, Heartbeat) and message.counters["n_hops"] > 0)
    assert one.failure is None
    assert isinstance(frame, Frame)
    frames = [message for message in one.messages if isinstance(message, Frame)]
    assert any(frame.degraded for frame in frames)
    assert len(frames) < 25
    assert isinstance(beat, Heartbeat)
    assert beat.counters["n_lost_frames"] > 6 * RATE_HZ
    assert beat.counters["n_gaps"] == 1
    assert beat.counters["n_hops_skipped"] > 5
    assert beat.latency_p99_ms is not None


def test_a_fault_in_processing_ends_the_daemon_with_it(
    encoder: Encoder, store: SupportStore, demonstration: Samples
) -> None:
    with running(BrokenCapture(demonstration[:RATE_HZ]), store, encoder) as (one, _):
        one.join()
    assert isinstance(one.failure, AttributeError)


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


def test_a_daemon_without_sound_beats_and_stops(encoder: Encoder, store: SupportStore, demonstration: Samples) -> None:
    capture = HurriedCapture(demonstration)
    capture.stream = None
    capture.start = lambda: None  # type: ignore[method-assign]
    capture.stop = lambda: None  # type: ignore[method-assign]
    capture.status = CaptureStatus(CaptureState.WAITING, "there is no audio input")
    with running(capture, store, encoder) as (one, subscriber):
        waiting = one.first(subscriber, is_state("WAITING"))
        beats = [one.first(subscriber, lambda message: isinstance(message, Heartbeat)) for _ in range(2)]
        one.daemon.stop()
        one.first(subscriber, is_state("ENDED"))
        one.join(2.0)
    assert isinstance(waiting, State)
    assert (waiting.source, waiting.stream_id, waiting.channels) == ("desk", "", ())
    assert [beat.seq for beat in beats] == [0, 1]
    assert one.failure is None


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


def test_an_overload_is_told_in_state_and_heartbeat(
    encoder: Encoder, store: SupportStore, demonstration: Samples
) -> None:
    with running(HurriedCapture(demonstration[: 10 * RATE_HZ]), store, encoder) as (one, subscriber):
        state = one.first(subscriber, lambda message: isinstance(message, State) and message.degraded)
        beat = one.first(subscriber, lambda message: isinstance(message, Heartbeat) and message.degraded)
    assert isinstance(state, State)
    assert isinstance(beat, Heartbeat)
    assert state.state == "LIVE"
    assert state.counters["n_hops_skipped"] > 0
    assert any(isinstance(message, State) and not message.degraded for message in one.messages)


def test_sound_that_the_source_lost_is_marked_in_the_frames(
    encoder: Encoder, store: SupportStore, demonstration: Samples
) -> None:
    capture = HurriedCapture(demonstration)
    ring = Ring(8 * RATE_HZ, 1)
    capture.stream = new_stream("desk", RATE_HZ, (1,), ring, SampleClock(RATE_HZ), lossless=False)
    capture.start = lambda: ring.write(demonstration[: round(1.25 * RATE_HZ), None])  # type: ignore[method-assign]
    with running(capture, store, encoder) as (one, subscriber):
        one.first(subscriber, lambda message: isinstance(message, Frame))
        one.first(subscriber, lambda message: isinstance(message, Heartbeat) and message.counters["n_hops"] > 0)
        capture.status = replace(capture.status, n_overflows=1)
        told = one.first(
            subscriber, lambda message: isinstance(message, State) and message.counters["n_overflows"] == 1
        )
        ring.write(demonstration[RATE_HZ : 4 * RATE_HZ, None])
        marked = one.first(subscriber, lambda message: isinstance(message, Frame) and message.n_gap_frames > 0)
        assert isinstance(marked, Frame)
        ring.write(demonstration[4 * RATE_HZ : 6 * RATE_HZ, None])
        later = one.first(
            subscriber, lambda message: isinstance(message, Frame) and message.sample_start > marked.sample_end
        )
    assert isinstance(told, State)
    assert isinstance(later, Frame)
    assert (marked.n_gap_frames, later.n_gap_frames) == (1, 0)


@pytest.mark.parametrize("watchdog_s", [10.0, None])
def test_a_sound_system_that_hangs_ends_a_daemon_that_systemd_starts_anew(
    encoder: Encoder, store: SupportStore, demonstration: Samples, watchdog_s: float | None
) -> None:
    capture = HurriedCapture(demonstration[:RATE_HZ])
    capture.stream = None
    capture.start = lambda: None  # type: ignore[method-assign]
    capture.stop = lambda: None  # type: ignore[method-assign]
    capture.status = CaptureStatus(CaptureState.LOST, "'desk' has not closed for 60 s", n_opens=1, stuck=True)
    with running(capture, store, encoder, notifier=Notifier("", watchdog_s)) as (one, subscriber):
        if watchdog_s is None:
            for _ in range(2):
                one.first(subscriber, lambda message: isinstance(message, Heartbeat))
        else:
            one.first(subscriber, is_state("ENDED"))
            one.join()
    if watchdog_s is None:
        assert one.failure is None
    else:
        assert isinstance(one.failure, SourceError)
        assert str(one.failure) == "'desk' has not closed for 60 s; systemd is to start mird anew"


def test_a_request_that_takes_long_is_told_of_and_frames_go_on(
    encoder: Encoder,
    store: SupportStore,
    demonstration: Samples,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mird.daemon.processing.DEAF_S", 1.0)
    capture = file_capture(tmp_path / "show.wav", demonstration, loop=True)
    with locked(store.path), running(capture, store, encoder, hop_ms=200) as (one, subscriber):
        one.first(subscriber, is_state("LIVE"))
        with (
            ControlClient(one.control, timeout_s=30.0) as client,
            pytest.raises(RequestRefused, match="edited by another process"),
        ):
            client.request("forget", name="piano")  # waits 5 s for who holds the lock
        one.first(subscriber, lambda message: isinstance(message, Heartbeat) and message.counters["n_hops"] > 15)
    told = [each.getMessage() for each in caplog.records if "have waited for" in each.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(f"requests and signals have waited for 1 s: is the disk of {store.path} slow or gone?")


def test_whatever_a_reload_meets_the_daemon_goes_on(
    encoder: Encoder, store: SupportStore, demonstration: Samples, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Exception | Settings] = [OSError(5, "Input/output error"), Settings(hop_ms=200, top_k=1)]

    def load() -> Settings:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    capture = file_capture(tmp_path / "show.wav", demonstration, loop=True)
    with caplog.at_level(logging.INFO), running(capture, store, encoder, load=load, hop_ms=200) as (one, subscriber):
        one.daemon.ask_reload()
        one.first(subscriber, lambda _: "Input/output error" in caplog.text)
        one.daemon.ask_reload()
        one.first(subscriber, lambda message: isinstance(message, Frame) and len(message.top) == 1)
    assert one.failure is None
    assert not answers


def test_a_trouble_is_logged_once_and_as_a_warning(
    encoder: Encoder, store: SupportStore, demonstration: Samples, caplog: pytest.LogCaptureFixture
) -> None:
    capture = HurriedCapture(demonstration[:RATE_HZ])
    capture.stream = None
    capture.start = lambda: None  # type: ignore[method-assign]
    capture.stop = lambda: None  # type: ignore[method-assign]
    capture.status = CaptureStatus(CaptureState.LOST, "'desk' has not closed for 10 s", n_opens=1)
    with caplog.at_level(logging.INFO), running(capture, store, encoder) as (one, subscriber):
        one.first(subscriber, is_state("LOST"))
        capture.status = replace(capture.status, detail="'desk' has not closed for 20 s")
        one.first(subscriber, lambda message: isinstance(message, State) and message.detail.endswith("20 s"))
        capture.status = replace(capture.status, state=CaptureState.LIVE, detail="'desk'")
        one.first(subscriber, is_state("LIVE"))
    told = [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "mird.daemon.announcer"]
    assert told[:2] == [("WARNING", "LOST: 'desk' has not closed for 10 s"), ("INFO", "LIVE: 'desk'")]
