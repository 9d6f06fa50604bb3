"""The control client against a real control server, against none, and against something else."""

import itertools
import socket as sockets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from mird.clients.control import ControlClient
from mird.clients.errors import ClientError, DaemonUnreachable, RequestRefused
from mird.daemon.control import ControlServer
from mird.daemon.errors import ClipError
from mird.daemon.keys import make_client, make_server, remove_client
from mird.daemon.messages import MAX_REQUEST_BYTES


def _forget(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    raise ClipError(f"there is no class {arguments['name']!r}; `mird classes` lists them")


def _answer(server: ControlServer, n_requests: int) -> None:
    n_answered = 0
    while n_answered < n_requests:
        n_answered += server.poll(5.0)


def _answer_and_end(server: ControlServer) -> None:
    with server:
        _answer(server, 1)


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """The address of a server that a thread polls."""
    server = ControlServer(
        f"ipc://{tmp_path / 'control'}",
        {"status": lambda _: {"state": "LIVE"}, "forget": _forget, "rename": dict},
    )
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            server.poll(0.05)

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.endpoint
    stop.set()
    thread.join()
    server.close()


def test_requests(endpoint: str) -> None:
    with ControlClient(endpoint) as client:
        assert client.request("status") == {"state": "LIVE"}
        assert client.request("rename", old="a", new="b") == {"old": "a", "new": "b"}


def test_a_refusal_has_the_daemons_exit_status(endpoint: str) -> None:
    with ControlClient(endpoint) as client:
        with pytest.raises(RequestRefused, match=r"^there is no class 'oboe'; `mird classes` lists them$") as caught:
            client.request("forget", name="oboe")
        assert caught.value.exit_status == 5
        with pytest.raises(RequestRefused, match="did you mean status") as caught:
            client.request("state")
        assert caught.value.exit_status == 8
        assert client.request("status") == {"state": "LIVE"}


def test_what_cannot_be_sent_is_told(endpoint: str) -> None:
    with ControlClient(endpoint) as client:
        with pytest.raises(ClientError, match="send less"):
            client.request("enroll", windows=[bytes(MAX_REQUEST_BYTES)])
        with pytest.raises(ClientError, match="an argument cannot be sent"):
            client.request("correct", name="viola", channel=2**70)
        assert client.request("status") == {"state": "LIVE"}


def test_no_daemon_shows_at_once(tmp_path: Path) -> None:
    stale = tmp_path / "stale"
    with sockets.socket(sockets.AF_UNIX) as killed:
        killed.bind(str(stale))
    with sockets.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    start = time.monotonic()
    for endpoint in (f"ipc://{tmp_path / 'none'}", f"ipc://{stale}", f"tcp://127.0.0.1:{port}"):
        with ControlClient(endpoint, timeout_s=30) as client:
            with pytest.raises(
                DaemonUnreachable, match=f"^no mird answers at {endpoint}: .*; start one with"
            ) as caught:
                client.request("status")
            assert "Errno" not in str(caught.value)
            assert caught.value.exit_status == 8
    assert time.monotonic() - start < 10


def test_a_daemon_that_hangs(tmp_path: Path) -> None:
    n_asked = itertools.count()
    with (
        ControlServer(f"ipc://{tmp_path / 'control'}", {"status": lambda _: {"n": next(n_asked)}}) as server,
        ControlClient(server.endpoint, timeout_s=2.0) as client,
    ):
        with pytest.raises(DaemonUnreachable, match="did not answer within 2 s"):
            client.request("status")
        client.timeout_s = 30.0
        thread = threading.Thread(target=_answer, args=(server, 2))
        thread.start()
        assert client.request("status") == {"n": 1}  # and not the late reply to the first
        thread.join()


def test_the_last_answer_of_a_daemon_that_ends_is_heard(tmp_path: Path) -> None:
    for n in range(200):  # with ZMQ_IMMEDIATE, 2 to 10 of a hundred were lost
        server = ControlServer(f"ipc://{tmp_path / str(n)}", {"stop": lambda _: {}})
        thread = threading.Thread(target=_answer_and_end, args=(server,))
        thread.start()
        with ControlClient(server.endpoint) as client:
            client.stop()
        thread.join()


def test_what_was_given_up_is_not_for_a_daemon_that_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with ControlClient(f"ipc://{path}", timeout_s=0.1) as client:
        with sockets.socket(sockets.AF_UNIX) as other:
            other.bind(str(path))
            other.listen()
            with pytest.raises(DaemonUnreachable, match="did not answer"):
                client.request("stop")
        path.unlink()
        with ControlServer(f"ipc://{path}", {"status": lambda _: {"state": "LIVE"}}) as server:
            thread = threading.Thread(target=_answer, args=(server, 1))
            thread.start()
            client.timeout_s = 5.0
            assert client.request("status") == {"state": "LIVE"}
            thread.join()
            assert server.poll(0.5) == 0
            assert server.n_requests == 1


def test_keys_that_are_away_for_a_while(tmp_path: Path) -> None:
    """A request that was given up is followed by a connection of its own, which reads the keys anew."""
    make_server(tmp_path / "daemon")
    folder = tmp_path / "stage"
    make_client(tmp_path / "daemon", "stage", folder)
    with sockets.create_server(("127.0.0.1", 0)) as other:
        endpoint = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with ControlClient(endpoint, timeout_s=0.1, keys=folder) as client:
            for _ in range(2):
                with pytest.raises(DaemonUnreachable, match="did not answer"):
                    client.request("status")
            folder.rename(tmp_path / "away")
            for _ in range(2):
                with pytest.raises(ClientError, match="cannot be read"):
                    client.request("status")
            (tmp_path / "away").rename(folder)
            with pytest.raises(DaemonUnreachable, match="did not answer"):
                client.request("status")


def test_a_key_that_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """ZeroMQ has nobody to send to then, and would wait for ever."""
    make_server(tmp_path / "daemon")
    make_client(tmp_path / "daemon", "stranger", tmp_path / "stranger")
    remove_client(tmp_path / "daemon", "stranger")
    with (
        ControlServer("tcp://0.0.0.0:*", {}, keys=tmp_path / "daemon") as server,
        ControlClient(server.endpoint, keys=tmp_path / "stranger") as client,
    ):
        assert client._socket is not None
        while client._socket.poll(10, zmq.POLLOUT):
            server.poll(0.01)
        with pytest.raises(ClientError, match="refuses our key"):
            client.request("status")


def test_something_that_is_no_zeromq(tmp_path: Path) -> None:
    with (
        sockets.create_server(("127.0.0.1", 0)) as other,
        ControlClient(f"tcp://127.0.0.1:{other.getsockname()[1]}", timeout_s=0.1) as client,
        pytest.raises(DaemonUnreachable, match="did not answer"),
    ):
        client.request("status")


@pytest.mark.parametrize("reply", [b"\xc1", b"", msgpack.packb([1]), b"\x91" * 5000])
def test_something_that_is_no_mird(tmp_path: Path, reply: bytes) -> None:
    endpoint = f"ipc://{tmp_path / 'other'}"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as other:
        other.bind(endpoint)

        def answer() -> None:
            other.send_multipart([other.recv_multipart()[0], reply])

        thread = threading.Thread(target=answer)
        thread.start()
        with ControlClient(endpoint) as client, pytest.raises(ClientError, match="is no mird"):
            client.request("status")
        thread.join()


@pytest.mark.parametrize("endpoint", ["", "control", "tcp://127.0.0.1:x"])
def test_addresses_that_are_none(endpoint: str) -> None:
    with pytest.raises(DaemonUnreachable, match="is no address of a control socket"):
        ControlClient(endpoint)
