"""A whole daemon in this process while things go wrong: its source, overloads, a hung sound system, a slow disk."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from tests.daemon.conftest import RATE_HZ, Samples, file_capture, is_state, running

from mird.clients.control import ControlClient
from mird.clients.errors import RequestRefused
from mird.daemon.capture import CaptureState, CaptureStatus, SourceSpec, Stream, new_stream, open_capture
from mird.daemon.errors import SourceError
from mird.daemon.messages import Frame, Heartbeat, State
from mird.daemon.notify import Notifier
from mird.daemon.ring import Ring
from mird.daemon.sample_clock import SampleClock
from mird.daemon.settings import Settings
from mird.daemon.support import locked
from mird.daemon.support_store import SupportStore
from mird.kernels.encoder import Encoder


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
        one.join()
    assert isinstance(waiting, State)
    assert (waiting.source, waiting.stream_id, waiting.channels) == ("desk", "", ())
    assert [beat.seq for beat in beats] == [0, 1]
    assert one.failure is None


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
    monkeypatch.setattr("mird.daemon.processing.DEAF_S", 3.0)  # less would tell of a slow start, too
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
    assert told[0].startswith(f"requests and signals have waited for 3 s: is the disk of {store.path} slow or gone?")


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
