"""The publisher with real sockets: numbering, late joiners, sleepers, and what must never be sent."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from mird.daemon.errors import EndpointError
from mird.daemon.message_codec import decode
from mird.daemon.messages import Event, Level, Message, State
from mird.daemon.publisher import Publisher
from mird.daemon.subscriptions import MAX_PER_CONNECTION

LEVEL = Level(source="desk", channel=1, stream_id="s1", sample_end=4410, rms_dbfs=-20.0, peak_dbfs=-6.0)
STATE = State(
    source="desk",
    channel=0,
    stream_id="s1",
    state="LIVE",
    detail="",
    version="0",
    engine="e",
    fingerprint="f",
    classes=("viola",),
    revision=0,
    channels=(1,),
    hop_s=0.1,
    window_s=1.0,
    counters={},
)
START = Event(
    source="desk",
    channel=1,
    stream_id="s1",
    event="start",
    event_id="e1",
    label="viola",
    sample_start=0,
    sample_end=None,
    start_utc_ns=0,
    end_utc_ns=None,
    score=0.5,
    peak_score=0.5,
    rate_hz=44_100,
)
END = dataclasses.replace(START, event="end", sample_end=44_100, end_utc_ns=1_000_000_000)

Join = Callable[..., zmq.Socket[bytes]]


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher("tcp://127.0.0.1:*") as each:
        yield each


@pytest.fixture
def join(publisher: Publisher) -> Iterator[Join]:
    """A function that makes a SUB socket whose subscription the publisher has, but has not looked at yet."""
    with zmq.Context() as context:
        sockets = []

        def connected(prefix: bytes = b"mird/1/", high_water_mark: int = 1000) -> zmq.Socket[bytes]:
            socket = context.socket(zmq.SUB)
            sockets.append(socket)
            socket.linger = 0
            socket.set_hwm(high_water_mark)
            socket.rcvtimeo = 30_000
            socket.subscribe(prefix)
            socket.connect(publisher.endpoint)
            assert publisher._socket.poll(30_000)
            return socket

        yield connected
        for socket in sockets:
            socket.close()


def received(socket: zmq.Socket[bytes]) -> Message:
    topic, payload = socket.recv_multipart()
    message = decode(payload)
    assert message.topic() == topic
    return message


def until(publisher: Publisher, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        publisher._monitor.poll(20)
        publisher.service()


def test_messages_are_numbered_by_topic_and_stamped(publisher: Publisher, join: Join) -> None:
    socket = join()
    before = time.monotonic_ns(), time.time_ns()
    for message in (
        LEVEL,
        dataclasses.replace(LEVEL, channel=2),
        dataclasses.replace(LEVEL, seq=99, replay=True),
        STATE,
    ):
        publisher.publish(message)
    messages = [received(socket) for _ in range(4)]
    assert [(each.channel, each.kind, each.seq) for each in messages] == [
        (1, "level", 0),
        (2, "level", 0),
        (1, "level", 1),
        (0, "state", 0),
    ]
    for each in messages:
        assert not each.replay
        assert each.run_id == publisher.run_id
        assert before[0] <= each.t_mono_ns <= time.monotonic_ns()
        assert before[1] <= each.t_utc_ns <= time.time_ns()
    assert publisher.n_published == 4


def test_a_late_joiner_gets_the_state_and_the_running_events(publisher: Publisher, join: Join) -> None:
    publisher.publish(dataclasses.replace(STATE, state="WAITING"))
    publisher.publish(STATE)
    publisher.publish(START)
    publisher.publish(dataclasses.replace(START, event_id="e2", channel=2))
    publisher.publish(END)
    publisher.publish(LEVEL)
    socket = join()
    publisher.service()
    state, event = received(socket), received(socket)
    assert isinstance(state, State)
    assert (state.state, state.seq, state.replay) == ("LIVE", 1, True)
    assert isinstance(event, Event)
    assert (event.event, event.event_id, event.seq, event.replay) == ("start", "e2", 0, True)
    publisher.publish(LEVEL)
    level = received(socket)
    assert (level.kind, level.seq, level.replay) == ("level", 1, False)


def test_each_who_joins_the_same_topic_gets_the_state(publisher: Publisher, join: Join) -> None:
    publisher.publish(STATE)
    for _ in range(3):
        socket = join(b"mird/1/desk/0/state/")
        publisher.service()
        assert received(socket).replay


def test_the_state_of_a_name_that_is_no_longer_used_is_not_replayed(publisher: Publisher, join: Join) -> None:
    publisher.publish(STATE)
    publisher.publish(dataclasses.replace(STATE, source="stage"))
    publisher.forget(STATE.source)
    socket = join(b"mird/1/")
    publisher.service()
    assert received(socket).source == "stage"


def test_only_what_was_asked_for_is_replayed(publisher: Publisher, join: Join) -> None:
    publisher.publish(STATE)
    publisher.publish(START)
    socket = join(b"mird/1/desk/1/")
    publisher.service()
    assert received(socket).kind == "event"
    publisher.publish(LEVEL)
    assert received(socket).kind == "level"


def test_subscribers_are_counted_and_their_topics_known(publisher: Publisher, join: Join) -> None:
    assert publisher.n_subscribers == 0
    assert not publisher.has_subscriber(LEVEL.topic())
    first = join(b"mird/1/desk/1/level/")
    first.subscribe(b"mird/1/desk/1/event/")
    until(publisher, lambda: publisher.has_subscriber(START.topic()))
    assert publisher.has_subscriber(LEVEL.topic())
    assert not publisher.has_subscriber(STATE.topic())
    second = join(b"")
    until(publisher, lambda: publisher.n_subscribers == 2)
    assert publisher.has_subscriber(STATE.topic())
    first.close()
    second.close()
    until(publisher, lambda: publisher.n_subscribers == 0)
    until(publisher, lambda: not publisher.has_subscriber(LEVEL.topic()))


def test_a_subscriber_is_awaited(publisher: Publisher, join: Join) -> None:
    assert not publisher.await_subscriber(0.01)
    join()
    assert publisher.await_subscriber(30.0)
    assert publisher.await_subscriber(0.0)


def test_what_subscribers_send_is_no_harm(publisher: Publisher) -> None:
    with zmq.Context() as context, context.socket(zmq.XSUB) as socket:
        socket.linger = 0
        socket.rcvtimeo = 30_000
        socket.connect(publisher.endpoint)
        for request in (b"", b"hello", b"\x02", b"\x00never", b"\x01\xff\xfe", b"\x01" + b"x" * 300, b"\x01mird/1/"):
            socket.send(request)
        until(publisher, lambda: publisher.has_subscriber(STATE.topic()))
        publisher.publish(LEVEL)
        assert decode(socket.recv_multipart()[1]).kind == "level"


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:*", "ipc://{}/publish"])
def test_who_asks_for_too_much_is_cut_off_and_nobody_else(
    tmp_path: Path, endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Publisher(endpoint.format(tmp_path)) as publisher, zmq.Context() as context, ExitStack() as stack:
        good, greedy = (stack.enter_context(context.socket(zmq.SUB)) for _ in range(2))
        for socket in (good, greedy):
            socket.linger = 0
            socket.set_hwm(0)
            socket.reconnect_ivl = -1
        for number in range(MAX_PER_CONNECTION - 1):
            good.subscribe(f"rare/{number}".encode())
        good.subscribe(b"mird/1/")
        good.connect(publisher.endpoint)
        until(publisher, lambda: publisher.has_subscriber(LEVEL.topic()))
        assert publisher.n_shut_out == 0, "so many are nobody's fault"
        for number in range(20 * MAX_PER_CONNECTION):
            greedy.subscribe(f"nonsense/{number}".encode())
        greedy.connect(publisher.endpoint)
        n_sent = 0
        while publisher.n_shut_out == 0 or publisher.n_subscribers > 1:
            publisher.publish(LEVEL)
            n_sent += 1
            publisher.service()
            time.sleep(0.01)
            assert n_sent < 2000
        until(
            publisher, lambda: not any(prefix.startswith(b"nonsense") for prefix in publisher._subscriptions.prefixes)
        )
        good.rcvtimeo = 30_000
        assert [received(good).seq for _ in range(n_sent)] == list(range(n_sent))
        assert publisher.has_subscriber(LEVEL.topic())
    (told,) = caplog.messages
    assert told.startswith(f"{publisher.endpoint}: a subscriber that asked for too much was cut off (1 so far)")


def test_subscriptions_of_all_together_are_bounded(
    publisher: Publisher, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mird.daemon.subscriptions.MAX_TOGETHER", 3)
    for number in range(3):
        join(b"mird/1/%d" % number)
        publisher.service()
    late = join(b"mird/1/late")
    until(publisher, lambda: publisher.n_shut_out > 0)
    assert not publisher.has_subscriber(b"mird/1/late")
    late.close()
    until(publisher, lambda: publisher.n_subscribers == 3)


def test_nan_is_dropped_counted_and_logged(publisher: Publisher, join: Join, caplog: pytest.LogCaptureFixture) -> None:
    socket = join()
    with caplog.at_level(logging.ERROR):
        for _ in range(101):
            publisher.publish(dataclasses.replace(START, score=math.nan))
        publisher.publish(dataclasses.replace(LEVEL, source="\ud800"))
        publisher.publish(dataclasses.replace(STATE, classes=("x" * 65,)))
    publisher.publish(START)
    event = received(socket)
    assert (event.kind, event.seq) == ("event", 0)
    assert publisher.n_unsendable == 103
    assert [record.getMessage() for record in caplog.records] == [
        "not published (1 so far): event message, field score: nan is not finite",
        "not published (101 so far): event message, field score: nan is not finite",
    ]


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_subscriber_that_never_reads_costs_little_and_takes_nothing_from_others() -> None:
    large = dataclasses.replace(STATE, classes=tuple(f"{i:060d}" for i in range(4000)))
    with (
        Publisher("tcp://127.0.0.1:*", high_water_mark=10) as publisher,
        zmq.Context() as context,
        context.socket(zmq.SUB) as sleeper,
        context.socket(zmq.SUB) as reader,
    ):
        for socket in (sleeper, reader):
            socket.linger = 0
            socket.set_hwm(10)
            socket.rcvtimeo = 30_000
            socket.subscribe(b"mird/1/")
            socket.connect(publisher.endpoint)
        publisher.publish(STATE)
        until(publisher, lambda: bool(sleeper.poll(0)) and bool(reader.poll(0)))  # it was replayed to both
        publisher.publish(LEVEL)
        while received(reader).kind != "level":
            pass
        before = _resident_bytes()
        n_bytes = 0
        for seq in range(1, 501):
            publisher.publish(large)
            _, payload = reader.recv_multipart()
            n_bytes += len(payload)
            assert decode(payload).seq == seq
        grown = _resident_bytes() - before
    assert n_bytes > 100_000_000
    assert grown < 40_000_000


def test_the_last_messages_arrive_when_closing_with_time_to_flush(join: Join, publisher: Publisher) -> None:
    socket = join()
    for _ in range(500):
        publisher.publish(LEVEL)
    publisher.publish(END)
    publisher.close(flush_s=30.0)
    messages = [received(socket) for _ in range(501)]
    assert messages[-1].kind == "event"


def test_closing_does_not_wait_for_a_sleeper(join: Join, publisher: Publisher) -> None:
    join(high_water_mark=1)
    large = dataclasses.replace(STATE, classes=tuple(f"{i:060d}" for i in range(4000)))
    for _ in range(100):
        publisher.publish(large)
    start = time.monotonic()
    publisher.close()
    publisher.close()
    assert time.monotonic() - start < 5.0


def test_address_in_use(publisher: Publisher) -> None:
    with pytest.raises(EndpointError, match=f"cannot listen at {publisher.endpoint}: the address is in use; stop"):
        Publisher(publisher.endpoint)


def test_ipc(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path / 'p'}"
    with Publisher(endpoint) as each, zmq.Context() as context, context.socket(zmq.SUB) as socket:
        assert each.endpoint == endpoint
        socket.subscribe(b"")
        socket.connect(endpoint)
        until(each, lambda: each.n_subscribers == 1 and each.has_subscriber(b"x"))
        each.publish(LEVEL)
        assert decode(socket.recv_multipart()[1]).kind == "level"
    assert not (tmp_path / "p").exists()
