"""What goes wrong in months: a sound server dies, a device is away for a minute, the clock is set, readers misbehave.

Each daemon is the installed command in a process of its own, and captures through PortAudio from a null sink.
"""

import itertools
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq
from tests.conftest import NullSink
from tests.end_to_end.conftest import PATIENCE_S, User

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Demonstration, Listener

pytestmark = [pytest.mark.system, pytest.mark.pulseaudio]

AWAY_S = 60.0
NOTICED_S = 2.0
BACK_S = 20.0
"""The longest wait between two looks for a device is 10 s; the rest is for a machine that is busy."""
HOUR_S = 3600
STEPPED_CLOCK = Path(__file__).with_name("stepped_clock.c")
RATE_HZ = 44_100

Values = dict[str, Any]


class Stage:
    """A user whose microphone is a null sink with the demonstration playing into it, and what the daemon has told."""

    def __init__(self, sink: NullSink, user: User, listener: "Listener", process: "subprocess.Popen[bytes]") -> None:
        self.sink, self.user, self.listener, self.process = sink, user, listener, process

    def states(self) -> list[str]:
        return [message["state"] for message in self.listener.received("state")]

    def next(self, wanted: Callable[[Values], bool], timeout_s: float = 30.0) -> Values:
        """The first message from now on of which something is true."""
        now_ns = time.monotonic_ns()
        return self.listener.first(lambda message: message["t_mono_ns"] > now_ns and wanted(message), timeout_s)


@contextmanager
def stage(null_sink: NullSink, demonstration: "Demonstration", *options: str, **variables: str) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="mird-", dir="/tmp") as folder:
        user = User(Path(folder))
        user.environment |= null_sink.environment | variables
        with (
            null_sink.playing(demonstration.path),
            user.daemon("--hop-ms", "200", "--channels", "1", *options) as process,
            user.listening("frame", "event", "hb") as listener,
        ):
            one = Stage(null_sink, user, listener, process)
            listener.first(
                lambda message: message["kind"] == "frame" and message["label"] not in ("silence", "unknown")
            )
            yield one
            assert process.poll() is None


@pytest.fixture(scope="module")
def away(demonstration: "Demonstration") -> Iterator[tuple[Stage, float]]:
    """A daemon whose sound server was killed, and when: it stays away while the other tests run.

    That a machine pauses is no fault of the daemon's: of up to three times, the first that was told of in time.
    """
    with tempfile.TemporaryDirectory(prefix="mird-", dir="/tmp") as folder:
        sink = NullSink(Path(folder))
        sink.start()
        try:
            with stage(sink, demonstration) as one:
                killed_s, noticed_s = kill_server(one)
                for _ in range(2):
                    if noticed_s >= NOTICED_S:
                        sink.start()
                        one.next(lambda message: message["kind"] == "frame", PATIENCE_S)
                        killed_s, noticed_s = kill_server(one)
                yield one, killed_s
        finally:
            sink.kill()


def kill_server(one: Stage) -> tuple[float, float]:
    """When the sound server was killed, and how long it took until that was told."""
    killed_s = time.monotonic()
    one.sink.kill()
    lost = one.listener.first(is_lost(killed_s))
    return killed_s, lost["t_mono_ns"] / 1e9 - killed_s


def is_lost(since_s: float) -> Callable[[Values], bool]:
    """Whether a message says, after a time, that the device is gone."""
    return lambda message: (
        (message["kind"], message.get("state")) == ("state", "LOST") and message["t_mono_ns"] / 1e9 > since_s
    )


def is_end(event_id: str) -> Callable[[Values], bool]:
    return lambda message: (
        (message["kind"], message.get("event"), message.get("event_id")) == ("event", "end", event_id)
    )


def is_ahead(seconds: float) -> Callable[[Values], bool]:
    """Whether a frame was sent by a clock that is ahead of ours."""
    return lambda message: (
        message["kind"] == "frame" and abs(message["t_utc_ns"] / 1e9 - time.time() - seconds) < HOUR_S / 60
    )


def assert_every_hop(frames: list[Values]) -> None:
    """Each frame follows the one before it, by a hop on the stream's clock and by one in its number."""
    for before, after in itertools.pairwise(frames):
        assert after["seq"] == before["seq"] + 1
        hops, rest = divmod(after["sample_end"] - before["sample_end"], round(0.2 * RATE_HZ))
        assert rest == 0
        assert hops == 1 or after["degraded"]


def test_a_killed_sound_server_is_told_of_at_once(away: tuple[Stage, float]) -> None:
    one, killed_s = away
    lost = one.listener.first(is_lost(killed_s))
    assert lost["t_mono_ns"] / 1e9 - killed_s < NOTICED_S
    assert "it is looked for until it is back" in lost["detail"]
    started = {event["event_id"] for event in one.listener.received("event") if event["event"] == "start"}
    for event_id in started:
        one.listener.first(is_end(event_id))


def test_fifty_subscribers_come_and_go_and_one_never_reads(
    null_sink: NullSink, demonstration: "Demonstration", away: tuple[Stage, float]
) -> None:
    with stage(null_sink, demonstration) as one, zmq.Context() as context:
        files = Path(f"/proc/{one.process.pid}/fd")
        n_files = len(list(files.iterdir()))
        sleeper = context.socket(zmq.SUB)
        sleeper.set(zmq.RCVHWM, 1)
        sleeper.set(zmq.RCVBUF, 1024)
        sleeper.subscribe(b"mird/1/")
        sleeper.connect(one.user.publish)
        for _ in range(3):
            with ExitStack() as crowd:
                sockets = [crowd.enter_context(context.socket(zmq.SUB)) for _ in range(50)]
                for socket in sockets:
                    socket.linger = 0
                    socket.rcvtimeo = 30_000
                    socket.subscribe(b"mird/1/")
                    socket.connect(one.user.publish)
                for socket in sockets:
                    assert socket.recv_multipart()[0].startswith(b"mird/1/"), "each is told the state at once"
        first = one.next(lambda message: message["kind"] == "frame")
        one.next(lambda message: message["kind"] == "frame" and message["seq"] >= first["seq"] + 5)
        assert_every_hop(one.listener.received("frame"))
        deadline_s = time.monotonic() + 20.0
        while len(list(files.iterdir())) > n_files + 1:  # the sleeper's connection
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        sleeper.close(linger=0)


@pytest.fixture(scope="session")
def stepped_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that sets a process's wall clock."""
    library = tmp_path_factory.mktemp("clock") / "stepped_clock.so"
    compiler = shutil.which("cc") or "gcc"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, STEPPED_CLOCK, "-ldl"], check=True)
    return library


def test_a_clock_that_is_set_by_an_hour_stops_nothing(
    null_sink: NullSink, demonstration: "Demonstration", stepped_clock: Path, tmp_path: Path, away: tuple[Stage, float]
) -> None:
    ahead = tmp_path / "ahead"

    def step(seconds: int) -> None:
        (tmp_path / "new").write_text(str(seconds))
        (tmp_path / "new").replace(ahead)

    step(0)
    with stage(null_sink, demonstration, LD_PRELOAD=str(stepped_clock), STEPPED_CLOCK=str(ahead)) as one:
        for seconds in (HOUR_S, -HOUR_S):
            step(seconds)
            frame = one.next(is_ahead(seconds))
            assert (frame["t_utc_ns"] - frame["capture_utc_ns"]) / 1e6 < 5_000
            assert frame["latency_ms"] < 5_000
            one.next(lambda message: message["kind"] == "hb")
        frames, beats = one.listener.received("frame"), one.listener.received("hb")
        assert_every_hop(frames)
        assert len({frame["stream_id"] for frame in frames}) == 1
        assert beats[-1]["counters"]["n_opens"] == 1
        assert beats[-1]["counters"]["n_gaps"] == 0
        between_s = [(b["t_mono_ns"] - a["t_mono_ns"]) / 1e9 for a, b in itertools.pairwise(beats)]
        assert max(between_s) < 10.0, "a heartbeat each second, whatever the clock says"
        for event in one.listener.received("event"):
            assert event["end_utc_ns"] is None or event["end_utc_ns"] > event["start_utc_ns"]
        assert not {"LOST", "ENDED"} & set(one.states())


def test_a_device_that_was_away_for_a_minute_is_listened_to_again(
    away: tuple[Stage, float], demonstration: "Demonstration"
) -> None:
    one, killed_s = away
    deadline_s = time.monotonic() + AWAY_S
    while time.monotonic() - killed_s < AWAY_S:
        assert time.monotonic() < deadline_s
        assert one.process.poll() is None
        time.sleep(0.1)
    lost = one.listener.first(is_lost(killed_s))
    states = one.listener.received("state")
    assert {message["state"] for message in states[states.index(lost) :]} == {"LOST"}
    before = one.listener.received("frame")[-1]
    beats = [beat for beat in one.listener.received("hb") if beat["source"] == before["source"]]
    assert [beat["seq"] for beat in beats] == list(range(beats[0]["seq"], beats[0]["seq"] + len(beats)))
    assert beats[-1]["t_mono_ns"] / 1e9 > killed_s + AWAY_S - 10.0, "it beat all the while"
    n_opens = next(beat for beat in beats if beat["t_mono_ns"] > lost["t_mono_ns"])["counters"]["n_opens"]
    one.sink.start()
    returned_s = time.monotonic()
    with one.sink.playing(demonstration.path):
        frame = one.next(lambda message: message["kind"] == "frame", 60.0)
        assert frame["t_mono_ns"] / 1e9 - returned_s < BACK_S
        assert frame["stream_id"] != before["stream_id"]
        assert frame["seq"] > before["seq"]
        one.listener.first(
            lambda message: message["kind"] == "event" and message["stream_id"] == frame["stream_id"], 60.0
        )
    assert one.next(lambda message: message["kind"] == "hb")["counters"]["n_opens"] == n_opens + 1
    assert one.process.poll() is None, "the same process, all the while"
