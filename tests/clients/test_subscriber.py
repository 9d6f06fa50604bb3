"""The subscriber against a real publisher: filters, gaps, age, replays, restarts, and hostile publishers."""

import dataclasses
import time
from collections.abc import Callable, Iterator

import msgpack
import pytest
import zmq

from mird.clients.errors import ClientError
from mird.clients.subscriber import Subscriber
from mird.daemon.message_codec import encode
from mird.daemon.messages import Event, Frame, Heartbeat, Level, Message, State
from mird.daemon.publisher import Publisher

LEVEL = Level(source="desk", channel=1, stream_id="s1", sample_end=4410, rms_dbfs=-20.0, peak_dbfs=-6.0)
FRAME = Frame(
    source="desk",
    channel=1,
    stream_id="s1",
    sample_start=0,
    sample_end=44_100,
    rate_hz=44_100,
    capture_utc_ns=0,
    latency_ms=1.0,
    hop_s=0.1,
    window_s=1.0,
    label="viola",
    confidence=0.5,
    raw_label="viola",
    raw_confidence=0.5,
    top=(),
    level_dbfs=-20.0,
    engine="e",
    revision=0,
    degraded=False,
    n_gap_frames=0,
)
EVENT = Event(
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
HEARTBEAT = Heartbeat(
    source="desk", channel=0, stream_id="s1", uptime_s=1.0, counters={}, latency_p50_ms=None, latency_p99_ms=None
)
ALL = ("frame", "event", "level", "state", "hb")

Join = Callable[..., Subscriber]


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher("tcp://127.0.0.1:*") as each:
        yield each


@pytest.fixture
def join(publisher: Publisher) -> Iterator[Join]:
    """A function that makes a subscriber which the publisher knows of."""
    subscribers = []

    def joined(**options: object) -> Subscriber:
        subscriber = Subscriber(publisher.endpoint, **options)  # type: ignore[arg-type]
        subscribers.append(subscriber)
        for _ in subscriber._prefixes():
            assert publisher._socket.poll(30_000)
            publisher.service()
            if all(prefix in publisher._subscriptions.prefixes for prefix in subscriber._prefixes()):
                break
        return subscriber

    yield joined
    for subscriber in subscribers:
        subscriber.close()


def take(subscriber: Subscriber, n: int) -> list[Message]:
    messages = []
    for _ in range(n):
        message = subscriber.recv(30.0)
        assert message is not None
        messages.append(message)
    return messages


def test_iterating_ends_with_close(publisher: Publisher, join: Join) -> None:
    subscriber = join(kinds=["level"])
    for _ in range(3):
        publisher.publish(LEVEL)
    seqs = []
    for message in subscriber:
        seqs.append(message.seq)
        if len(seqs) == 3:
            subscriber.close()
    assert seqs == [0, 1, 2]
    assert subscriber.n_received == 3


def test_recv_returns_none_when_its_time_is_over(join: Join) -> None:
    start = time.monotonic()
    assert join().recv(0.05) is None
    assert 0.04 < time.monotonic() - start < 2.0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("frame", "desk", 1), ("event", "desk", 1), ("frame", "desk", 10), ("frame", "desk2", 1)]),
        ({"kinds": "hb"}, [("hb", "desk", 0)]),
        ({"kinds": ALL, "source": "desk2"}, [("frame", "desk2", 1)]),
        ({"kinds": ("level",), "source": "desk"}, [("level", "desk", 1)]),
        ({"channel": 1}, [("frame", "desk", 1), ("event", "desk", 1), ("frame", "desk2", 1)]),
        ({"channel": 1, "source": "desk"}, [("frame", "desk", 1), ("event", "desk", 1)]),
        ({"channel": 10, "source": "desk", "kinds": ("frame", "state")}, [("frame", "desk", 10), ("state", "desk", 0)]),
    ],
)
def test_filters(
    publisher: Publisher, join: Join, options: dict[str, object], expected: list[tuple[str, str, int]]
) -> None:
    subscriber = join(**options)
    for message in (
        FRAME,
        EVENT,
        LEVEL,
        dataclasses.replace(FRAME, channel=10),
        dataclasses.replace(FRAME, source="desk2"),
        STATE,
        HEARTBEAT,
    ):
        publisher.publish(message)
    assert [(each.kind, each.source, each.channel) for each in take(subscriber, len(expected))] == expected
    assert subscriber.recv(0.02) is None
    assert subscriber.n_missed == subscriber.n_malformed == 0


def test_a_late_joiner_learns_the_state_and_is_not_told_twice(publisher: Publisher, join: Join) -> None:
    publisher.publish(STATE)
    publisher.publish(EVENT)
    first = join(kinds=ALL)
    state, event = take(first, 2)
    assert (state.kind, state.replay, event.kind, event.replay) == ("state", True, "event", True)
    second = join(kinds=ALL)
    assert [each.replay for each in take(second, 2)] == [True, True]
    publisher.publish(EVENT)
    for subscriber in (first, second):
        (message,) = take(subscriber, 1)
        assert (message.kind, message.seq, message.replay) == ("event", 1, False)
        assert subscriber.n_missed == 0


def test_a_replay_is_not_handed_out_to_one_who_had_the_original(publisher: Publisher, join: Join) -> None:
    first = join(kinds=ALL)
    publisher.publish(STATE)
    join(kinds=ALL)
    publisher.publish(LEVEL)
    assert [(each.kind, each.replay) for each in take(first, 2)] == [("state", False), ("level", False)]


def test_too_old_messages_are_dropped_and_counted(publisher: Publisher, join: Join) -> None:
    subscriber = join(kinds=("level",), max_age_s=0.2)
    for _ in range(5):
        publisher.publish(LEVEL)
    time.sleep(0.25)
    while subscriber.n_dropped < 5:
        assert subscriber.recv(0.05) is None
    message = None
    while message is None:  # on a busy machine one more may grow too old on its way
        publisher.publish(LEVEL)
        message = subscriber.recv(0.05)
    assert message.seq == subscriber.n_dropped
    assert subscriber.n_missed == 0


def test_a_slow_reader_sees_how_many_it_missed() -> None:
    with (
        Publisher("tcp://127.0.0.1:*", high_water_mark=5) as publisher,
        Subscriber(publisher.endpoint, kinds=("state",)) as subscriber,
    ):
        assert publisher._socket.poll(30_000)
        publisher.service()
        large = dataclasses.replace(STATE, classes=tuple(f"{i:060d}" for i in range(200)))
        for _ in range(3000):
            publisher.publish(large)
        n_read = 0
        while (message := subscriber.recv(0.2)) is None or message.seq < 3000:
            if message is None:  # all is read that was kept: there is room for one more
                publisher.publish(STATE)
            else:
                n_read += 1
        assert subscriber.n_missed > 0
        assert n_read + subscriber.n_missed == message.seq


def test_the_publisher_may_start_later_and_restart() -> None:
    with Publisher("tcp://127.0.0.1:*") as unused:
        endpoint = unused.endpoint
    with Subscriber(endpoint, kinds=("level", "state")) as subscriber:
        assert subscriber.recv(0.05) is None
        run_ids = []
        for n_before in (0, 20):
            with Publisher(endpoint) as publisher:
                publisher.publish(STATE)
                for _ in range(n_before):
                    publisher.publish(LEVEL)
                state = None
                for _ in range(500):  # it subscribes again in recv
                    publisher.service()
                    state = subscriber.recv(0.01)
                    if state is not None:
                        break
                assert state is not None
                assert (state.kind, state.replay) == ("state", True)
                for _ in range(10):
                    publisher.publish(LEVEL)
                assert [each.seq - n_before for each in take(subscriber, 10)] == list(range(10))
                run_ids.append(state.run_id)
        assert run_ids[0] != run_ids[1]
        assert subscriber.n_missed == 0


def test_a_hostile_publisher() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        with Subscriber(f"tcp://127.0.0.1:{port}", kinds=("level",)) as subscriber:
            assert socket.poll(30_000)
            topic, payload = encode(LEVEL)
            bad = [
                [topic],
                [topic, b"\xc1"],
                [topic, b""],
                [topic, payload, payload],
                [b"mird/1/desk/2/level/", payload],
                [b"mird/1/\xff\xfe/1/level/", payload],
                [topic, msgpack.packb([])],
                [topic, b"\x91" * 100_000],
            ]
            unknown = [[b"mird/1/", payload], [b"mird/1/desk/1/columns/", b"\xc1"], [b"mird/1/desk/1/\xff/", b""]]
            for parts in [*bad, *unknown]:
                socket.send_multipart(parts)
            socket.send_multipart([topic, payload])
            assert take(subscriber, 1) == [LEVEL]
            assert subscriber.n_malformed == len(bad)


@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp://", "tcp://127.0.0.1:x", "smtp://x"])
def test_addresses_that_are_none(endpoint: str) -> None:
    with pytest.raises(ClientError, match=r"is no address such as tcp://127\.0\.0\.1:7475") as caught:
        Subscriber(endpoint)
    assert caught.value.exit_status == 8


@pytest.mark.parametrize("kinds", [(), ("frames",), ("frame", "nothing")])
def test_kinds_that_are_none(kinds: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="must be some of frame, event, level, state, hb"):
        Subscriber(kinds=kinds)
