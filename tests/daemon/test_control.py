"""The control socket with real sockets: good requests are answered, and bad ones reach no handler."""

import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mird.daemon.control import REQUESTS, ControlServer
from mird.daemon.errors import ClipError, EndpointError
from mird.daemon.fields import Omissible
from mird.daemon.messages import MAX_REQUEST_BYTES

WINDOW = bytes(4 * 44_100)
ENROLL = {"name": "viola", "rate_hz": 44_100, "windows": [WINDOW], "origin": "viola.flac"}


class Daemon:
    """A control server whose handlers note what reaches them, with a DEALER that talks to it."""

    def __init__(self, endpoint: str) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.server = ControlServer(endpoint, {verb: self._handler(verb) for verb in REQUESTS})
        self.context = zmq.Context()
        self.dealer = self.context.socket(zmq.DEALER)
        self.dealer.linger = 0
        self.dealer.rcvtimeo = 5000
        self.dealer.connect(self.server.endpoint)

    def _handler(self, verb: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
        def handle(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
            self.calls.append((verb, dict(arguments)))
            if arguments.get("name") == "silence":
                raise ClipError("class name 'silence': means no sound;\nchoose another")
            if arguments.get("name") == "bug":
                raise KeyError("bug")
            if arguments.get("name") == "unpackable":
                return {"what": object()}
            return {"verb": verb}

        return handle

    def answer(self, *parts: bytes) -> dict[str, Any]:
        self.dealer.send_multipart(parts)
        assert self.server.poll(5.0) == 1
        reply = msgpack.unpackb(self.dealer.recv_multipart()[-1])
        assert isinstance(reply, dict)
        return reply

    def ask(self, **request: Any) -> dict[str, Any]:
        return self.answer(msgpack.packb(request))

    def close(self) -> None:
        self.dealer.close()
        self.context.term()
        self.server.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(f"ipc://{tmp_path_factory.mktemp('c') / 'control'}")
    yield daemon
    daemon.close()


@pytest.fixture
def daemon(shared: Daemon) -> Daemon:
    shared.calls.clear()
    return shared


def check_refused(daemon: Daemon, reply: Mapping[str, Any]) -> str:
    """The message of an error reply to a request that reached no handler; and the next good request works."""
    assert reply["ok"] is False
    assert set(reply) == {"id", "ok", "error"}
    assert reply["error"]["exit_status"] == 8
    assert daemon.calls == []
    assert daemon.ask(id=77, verb="undo") == {"id": 77, "ok": True, "result": {"verb": "undo"}}
    assert daemon.calls == [("undo", {})]
    daemon.calls.clear()
    message = reply["error"]["message"]
    assert isinstance(message, str)
    assert len(message) < 300
    assert "\n" not in message
    return message


def test_the_file_of_the_socket(daemon: Daemon) -> None:
    path = Path(daemon.server.endpoint.removeprefix("ipc://"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_good_requests(daemon: Daemon) -> None:
    assert daemon.ask(id="a", verb="status") == {"id": "a", "ok": True, "result": {"verb": "status"}}
    assert daemon.ask(id=-1, verb="rename", old="viola", new="Bratsche")["ok"]
    assert daemon.ask(id=0, verb="enroll", **ENROLL)["ok"]
    assert daemon.ask(id=1, verb="enroll_live", name="viola", seconds=3, channel=2)["ok"]
    assert daemon.ask(id=1, verb="threshold", name="viola", value=0.5)["ok"]
    assert daemon.ask(id=1, verb="threshold", name="viola", value=None)["ok"]
    assert daemon.calls == [
        ("status", {}),
        ("rename", {"old": "viola", "new": "Bratsche"}),
        ("enroll", {**ENROLL, "windows": (WINDOW,)}),
        ("enroll_live", {"name": "viola", "seconds": 3.0, "channel": 2}),
        ("threshold", {"name": "viola", "value": 0.5}),
        ("threshold", {"name": "viola", "value": None}),
    ]


def test_what_may_be_left_out_reaches_the_handler_as_none(daemon: Daemon) -> None:
    assert daemon.ask(id=1, verb="enroll_live", name="viola", seconds=0.5)["ok"]
    assert daemon.ask(id=1, verb="correct", name="viola")["ok"]
    assert daemon.ask(id=1, verb="correct", name="viola", event_id="0123456789abcdef", channel=None)["ok"]
    assert daemon.ask(id=1, verb="calibrate")["ok"]
    assert daemon.calls == [
        ("enroll_live", {"name": "viola", "seconds": 0.5, "channel": None}),
        ("correct", {"name": "viola", "event_id": None, "channel": None}),
        ("correct", {"name": "viola", "event_id": "0123456789abcdef", "channel": None}),
        ("calibrate", {"seconds": None, "reset": None}),
    ]


def test_a_req_socket_is_answered_too(daemon: Daemon) -> None:
    with daemon.context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.rcvtimeo = 5000
        socket.connect(daemon.server.endpoint)
        socket.send(msgpack.packb({"id": 1, "verb": "classes"}))
        assert daemon.server.poll(5.0) == 1
        assert msgpack.unpackb(socket.recv())["ok"]


def test_poll_returns_when_nothing_comes(daemon: Daemon) -> None:
    assert daemon.server.poll(0.0) == 0
    assert daemon.server.poll(0.01) == 0


def test_what_a_handler_raises_is_the_answer(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    reply = daemon.ask(id=1, verb="forget", name="silence")
    assert reply == {
        "id": 1,
        "ok": False,
        "error": {"message": "class name 'silence': means no sound; choose another", "exit_status": 5},
    }
    assert not caplog.records
    for name, error in (("bug", "KeyError"), ("unpackable", "TypeError")):
        reply = daemon.ask(id=2, verb="forget", name=name)
        assert reply["error"]["exit_status"] == 1
        assert reply["error"]["message"].startswith(f"a fault in mird: {error}: ")
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert daemon.ask(id=3, verb="status")["ok"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"verb": "status"}, "id: missing"),
        ({"id": None, "verb": "status"}, "id: missing, or neither text"),
        ({"id": 1.5, "verb": "status"}, "id: "),
        ({"id": True, "verb": "status"}, "id: "),
        ({"id": "x" * 65, "verb": "status"}, "id: "),
        ({"id": 1}, "unknown verb 'None'; there are calibrate, classes, correct, enroll"),
        ({"id": 1, "verb": "enrol"}, "unknown verb 'enrol'; did you mean enroll?"),
        ({"id": 1, "verb": ["status"]}, "unknown verb"),
        ({"id": 1, "verb": "status", "deep": 1}, "unknown argument 'deep' of status; it takes no arguments"),
        ({"id": 1, "verb": "rename", "old": "a", "nwe": "b"}, "unknown argument 'nwe' of rename; it takes old, new"),
        ({"id": 1, "verb": "rename", "old": "a"}, "argument new of rename: is missing"),
        ({"id": 1, "verb": "rename", "old": "a", "new": 7}, "argument new of rename: int 7 is not text"),
        ({"id": 1, "verb": "rename", "old": "a", "new": "b\n"}, "argument new of rename: str"),
        ({"id": 1, "verb": "forget", "name": "x" * 1025}, "1025 characters, not 1 to 1024"),
        ({"id": 1, "verb": "enroll", **ENROLL, "rate_hz": 0}, "argument rate_hz of enroll: 0 is not from 1"),
        ({"id": 1, "verb": "enroll", **ENROLL, "windows": []}, "0 items, not 1 to 64"),
        ({"id": 1, "verb": "enroll", **ENROLL, "windows": [b""]}, "0 bytes"),
        ({"id": 1, "verb": "enroll", **ENROLL, "windows": [bytes(5)]}, "5 bytes"),
        ({"id": 1, "verb": "enroll", **ENROLL, "windows": [[0.0] * 10]}, "list … is not bytes"),
        ({"id": 1, "verb": "enroll", **ENROLL, "windows": WINDOW}, "bytes … is not a list"),
        ({"id": 1, "verb": "enroll", **ENROLL, "windows": [bytes(4)] * 65}, "65 items, not 1 to 64"),
        ({"id": 1, "verb": "status", "x": [[]] * 1001}, "more than 1000 lists and maps"),
        ({"id": 1, "verb": "status", "x": [0] * 4097}, "not msgpack: 4097 exceeds max_array_len"),
        ({"id": 1, "verb": "enroll_live", "name": "a"}, "argument seconds of enroll_live: is missing"),
        ({"id": 1, "verb": "enroll_live", "name": "a", "seconds": 0.4}, "0.4 is not from 0.5 to 30"),
        ({"id": 1, "verb": "enroll_live", "name": "a", "seconds": 30.1}, "30.1 is not from 0.5 to 30"),
        ({"id": 1, "verb": "enroll_live", "name": "a", "seconds": 3, "channel": 0}, "0 is not from 1 to 65535"),
        ({"id": 1, "verb": "enroll_live", "name": "a", "seconds": 3, "channel": "2"}, "str '2' is not a whole number"),
        ({"id": 1, "verb": "correct", "channel": 1}, "argument name of correct: is missing"),
        ({"id": 1, "verb": "correct", "name": "a", "event_id": ""}, "0 characters, not 1 to 64"),
        ({"id": 1, "verb": "threshold", "name": "a"}, "argument value of threshold: is missing"),
        ({"id": 1, "verb": "threshold", "name": "a", "value": 1.5}, "1.5 is not from 0 to 1"),
        ({"id": 1, "verb": "threshold", "name": "a", "value": float("nan")}, "nan is not finite"),
        ({"id": 1, "verb": "calibrate", "seconds": 61}, "61 is not from 1 to 60"),
        ({"id": 1, "verb": "calibrate", "reset": 1}, "is neither true nor false"),
        ([1, "status"], "request: not a map"),
        ({1: 2}, "request: not msgpack"),
        ("status", "request: not a map"),
        (None, "request: not a map"),
    ],
)
def test_bad_requests(daemon: Daemon, request_: Any, reason: str) -> None:
    reply = daemon.answer(msgpack.packb(request_))
    assert reason in check_refused(daemon, reply)
    good_id = (
        isinstance(request_, dict) and request_.get("id") == 1 and "more than" not in reason and "exceeds" not in reason
    )
    assert reply["id"] == (1 if good_id and reason != "id: " else None)


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x91" * 5000, b"\xdf\xff\xff\xff\xff", b"\xdd\x00\x00\x0f\xff" * 9000]
)
def test_no_msgpack(daemon: Daemon, body: bytes) -> None:
    assert check_refused(daemon, daemon.answer(body)).startswith("request: not msgpack: ")


def test_a_request_that_is_too_large(daemon: Daemon) -> None:
    body = msgpack.packb({"id": 1, "verb": "enroll", **ENROLL, "windows": [bytes(MAX_REQUEST_BYTES)]})
    assert "send less at a time" in check_refused(daemon, daemon.answer(body))


def test_one_that_is_far_too_large_is_disconnected(daemon: Daemon) -> None:
    with daemon.context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        socket.connect(daemon.server.endpoint)
        socket.send(bytes(3 * MAX_REQUEST_BYTES))
        assert monitor.poll(5000)
        socket.disable_monitor()
        monitor.close()
    assert daemon.ask(id=1, verb="status")["ok"]


def test_many_parts(daemon: Daemon) -> None:
    body = msgpack.packb({"id": 1, "verb": "status"})
    assert daemon.answer(b"a", b"b", b"c", body)["ok"]
    daemon.calls.clear()
    check_refused(daemon, daemon.answer(body, b"junk"))


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from(["status", "rename", "old", "id"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def _is_good(request: Any) -> bool:
    """Whether a drawn request happens to be one that a handler should see."""
    if not isinstance(request, dict) or not isinstance(request.get("id"), int | str) or request["id"] in (True, False):
        return False
    rules = REQUESTS.get(request.get("verb", "")) if isinstance(request.get("verb"), str) else None
    return rules is not None and set(request) == {"id", "verb"} and all(map(_may_be_absent, rules.values()))


def _accepts(rule: Any, value: Any) -> bool:
    try:
        rule.from_wire(value)
    except ValueError:
        return False
    return True


def _may_be_absent(rule: Any) -> bool:
    return isinstance(rule, Omissible)


@settings(max_examples=150)
@given(body=st.binary(max_size=200))
def test_any_bytes(shared: Daemon, body: bytes) -> None:
    shared.calls.clear()
    check_refused(shared, shared.answer(body))


@settings(max_examples=150)
@given(request=JUNK.filter(lambda each: not _is_good(each)))
def test_any_values(shared: Daemon, request: Any) -> None:
    shared.calls.clear()
    check_refused(shared, shared.answer(msgpack.packb(request)))


@settings(max_examples=200)
@given(verb=st.sampled_from(sorted(REQUESTS)), data=st.data())
def test_a_good_request_with_one_thing_wrong(shared: Daemon, verb: str, data: st.DataObject) -> None:
    shared.calls.clear()
    good: dict[str, dict[str, Any]] = {
        "enroll": {**ENROLL, "windows": [bytes(8)]},
        "rename": {"old": "a", "new": "b"},
        "forget": {"name": "a"},
        "enroll_live": {"name": "a", "seconds": 3.0, "channel": 1},
        "correct": {"name": "a", "event_id": "b", "channel": 1},
        "threshold": {"name": "a", "value": 0.5},
        "calibrate": {"seconds": 5.0, "reset": False},
    }
    request: dict[str, Any] = {"id": 5, "verb": verb, **good.get(verb, {})}
    where = data.draw(st.sampled_from([*sorted(request), "more"]))
    wrong = st.none() | st.floats() | st.binary(max_size=3) | st.dictionaries(st.text(), st.none(), max_size=2)
    request[where] = data.draw(wrong | st.lists(wrong, min_size=1, max_size=3))
    rule = REQUESTS[verb].get(where)
    if rule is not None:
        assume(not _accepts(rule, request[where]))
    check_refused(shared, shared.answer(msgpack.packb(request)))


def test_address_in_use(daemon: Daemon) -> None:
    with pytest.raises(EndpointError, match=r"the address is in use; .* \(setting control, --control ADDRESS\)$"):
        ControlServer(daemon.server.endpoint, {})
    assert daemon.ask(id=1, verb="status")["ok"]


def test_closing_sends_the_last_reply_and_removes_the_file(tmp_path: Path) -> None:
    daemon = Daemon(f"ipc://{tmp_path / 'control'}")
    daemon.dealer.send(msgpack.packb({"id": 1, "verb": "stop"}))
    assert daemon.server.poll(5.0) == 1
    daemon.server.close()
    assert not (tmp_path / "control").exists()
    assert msgpack.unpackb(daemon.dealer.recv())["ok"]
    daemon.close()


def test_several_ask_at_once(daemon: Daemon) -> None:
    """As many requests before the first reply is read as the server keeps replies for a peer."""

    def ask() -> None:
        with daemon.context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.rcvtimeo = 5000
            socket.connect(daemon.server.endpoint)
            for number in range(16):
                socket.send(msgpack.packb({"id": number, "verb": "status"}))
            numbers.extend(msgpack.unpackb(socket.recv())["id"] for _ in range(16))

    numbers: list[int] = []
    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    n_answered = 0
    while n_answered < 5 * 16:
        n_answered += daemon.server.poll(5.0)
    for thread in threads:
        thread.join()
    assert sorted(numbers) == sorted(list(range(16)) * 5)
