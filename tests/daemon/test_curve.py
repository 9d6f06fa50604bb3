"""Off this machine: who shows a key on the allow-list is let in, everybody else gets nothing and is counted."""

import asyncio
import logging
import os
import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from mird.clients.async_subscriber import AsyncSubscriber
from mird.clients.control import ControlClient
from mird.clients.errors import ClientError, DaemonUnreachable
from mird.clients.keys import is_local
from mird.clients.subscriber import Subscriber
from mird.clients.web_feed import Feed
from mird.daemon import keys
from mird.daemon.cli import main
from mird.daemon.control import ControlServer
from mird.daemon.curve import LOOK_S
from mird.daemon.errors import EndpointError
from mird.daemon.messages import Heartbeat
from mird.daemon.publisher import Publisher

ANYWHERE = "tcp://0.0.0.0:*"
PATIENCE_S = 20.0
BEAT = Heartbeat(
    source="desk", channel=0, stream_id="", uptime_s=1.0, counters={}, latency_p50_ms=None, latency_p99_ms=None
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keys.make_server(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def stage(folder: Path, tmp_path: Path) -> Path:
    """The keys of a client that is let in."""
    keys.make_client(folder, "stage", tmp_path / "stage")
    return tmp_path / "stage"


@pytest.fixture
def stranger(tmp_path: Path, folder: Path) -> Path:
    """The keys of a client that is not, though it knows the daemon's."""
    keys.make_client(folder, "stranger", tmp_path / "stranger")
    keys.remove_client(folder, "stranger")
    return tmp_path / "stranger"


class Beating:
    """A publisher that publishes a heartbeat each 10 ms in a thread of its own, as the processing thread does."""

    def __init__(self, folder: Path) -> None:
        self.publisher = Publisher(ANYWHERE, keys=folder)
        self.endpoint = self.publisher.endpoint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self.publisher.publish(BEAT)
            self.publisher.service()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.publisher.close()


@pytest.fixture
def beating(folder: Path) -> Iterator[Beating]:
    one = Beating(folder)
    yield one
    one.close()


@pytest.fixture
def server(folder: Path) -> Iterator[ControlServer]:
    one = ControlServer(ANYWHERE, {"status": lambda _: {"state": "LIVE"}}, keys=folder)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            one.poll(0.02)

    thread = threading.Thread(target=serve)
    thread.start()
    yield one
    stop.set()
    thread.join()
    one.close()


def until(true: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


def refused(subscriber: Subscriber) -> str:
    """What a subscriber says that the daemon does not let in; it has received nothing."""
    with pytest.raises(ClientError) as caught:
        subscriber.recv(PATIENCE_S)
    assert subscriber.n_received == 0
    return str(caught.value)


def is_cut_off(subscriber: Subscriber) -> bool:
    try:
        subscriber.recv(0.1)
    except ClientError as error:
        return "refuses our key" in str(error)
    return False


def test_the_right_key_is_let_in(beating: Beating, stage: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Subscriber(beating.endpoint, ("hb",), keys=stage) as subscriber:
        assert isinstance(subscriber.recv(PATIENCE_S), Heartbeat)
        assert isinstance(subscriber.recv(PATIENCE_S), Heartbeat)
    assert "let in stage" in caplog.text
    assert beating.publisher.n_shut_out == 0


def test_the_commands_on_the_daemon_s_machine_have_a_key(beating: Beating, folder: Path) -> None:
    with Subscriber(beating.endpoint, ("hb",), keys=folder) as subscriber:
        assert subscriber.recv(PATIENCE_S) is not None


def test_asyncio_too(beating: Beating, stage: Path, stranger: Path) -> None:
    async def receive() -> None:
        async with AsyncSubscriber(beating.endpoint, ("hb",), keys=stage) as subscriber:
            assert await subscriber.recv(PATIENCE_S) is not None
        async with AsyncSubscriber(beating.endpoint, ("hb",), keys=stranger) as subscriber:
            with pytest.raises(ClientError, match="refuses our key"):
                await subscriber.recv(PATIENCE_S)

    asyncio.run(receive())


def test_the_page_s_feed_ends_where_it_is_not_let_in(beating: Beating, stranger: Path) -> None:
    with pytest.raises(ClientError, match="refuses our key"):
        asyncio.run(Feed(beating.endpoint, lambda *_, **__: {}, stranger).run())


def test_a_wrong_key_gets_nothing_and_is_counted_and_told(
    beating: Beating, stranger: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Subscriber(beating.endpoint, ("hb",), keys=stranger) as subscriber:
        assert "refuses our key; whoever runs it lets us in with: mird keys add" in refused(subscriber)
    until(lambda: beating.publisher.n_shut_out, "it is counted")
    assert "refused key " in caplog.text
    assert "mird keys add" in caplog.text


def test_another_daemon_s_key_is_noticed_by_the_client(beating: Beating, stage: Path, tmp_path: Path) -> None:
    keys.make_server(tmp_path / "other")
    (stage / "server.key").write_bytes((tmp_path / "other" / "server.key").read_bytes())
    with Subscriber(beating.endpoint, ("hb",), keys=stage) as subscriber:
        assert "does not prove the key in server.key" in refused(subscriber)


def test_without_a_key_nothing_comes(beating: Beating) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.subscribe(b"")
        socket.connect(beating.endpoint)
        until(lambda: beating.publisher.n_shut_out, "it is counted")
        assert not socket.poll(300), "nor does anything come afterwards"


def test_a_client_without_keys_is_told_so_at_once(beating: Beating) -> None:
    with pytest.raises(ClientError, match="is off this machine and needs keys"):
        Subscriber(beating.endpoint, ("hb",))
    with pytest.raises(ClientError, match="is off this machine and needs keys"):
        ControlClient(beating.endpoint)


def test_no_file_here_is_edited_for_a_daemon_elsewhere(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sockets.create_server(("0.0.0.0", 0)) as free:
        endpoint = f"tcp://0.0.0.0:{free.getsockname()[1]}"
    support = tmp_path / "support.mird"
    options = ["--control", endpoint, "--keys", str(folder), "--support", str(support)]
    assert main(["classes", "forget", "piano", *options]) == 8
    assert f"no mird answers at {endpoint}" in capsys.readouterr().err
    assert not support.exists()


def test_keys_that_are_missing_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        ClientError, match=rf"key {tmp_path}/none/server\.key cannot be read: No such file or directory; see"
    ):
        Subscriber("tcp://192.0.2.1:7475", keys=tmp_path / "none")


def test_the_allow_list_is_heeded_while_the_daemon_runs(beating: Beating, folder: Path, stage: Path) -> None:
    """Who is added gets in; who is removed is cut off, though connected; who stays is connected again by itself."""
    with ExitStack() as stack:
        local = stack.enter_context(Subscriber(beating.endpoint, ("hb",), keys=folder))
        removed = stack.enter_context(Subscriber(beating.endpoint, ("hb",), keys=stage))
        assert local.recv(PATIENCE_S) is not None
        assert removed.recv(PATIENCE_S) is not None
        public = folder / "clients" / "stage.key"
        text = public.read_bytes()
        keys.remove_client(folder, "stage")
        until(lambda: is_cut_off(removed), "who was removed is cut off")
        n_before = local.n_received
        until(lambda: local.recv(1.0) and local.n_received > n_before + 50, "who stays receives on")
    (folder.parent / "back.key").write_bytes(text)
    keys.add_client(folder, "back", folder.parent / "back.key")

    def gets_in() -> bool:
        with Subscriber(beating.endpoint, ("hb",), keys=stage) as again:
            try:
                return again.recv(1.0) is not None
            except ClientError:
                return False

    until(gets_in, "who was added gets in, without a restart")


def test_a_disk_that_does_not_answer_keeps_no_message_waiting(beating: Beating, folder: Path) -> None:
    with Subscriber(beating.endpoint, ("hb",), keys=folder) as subscriber:
        assert subscriber.recv(PATIENCE_S) is not None
        hanging = folder / "clients" / "hanging.key"
        os.mkfifo(hanging)  # whoever reads it waits for somebody to write
        until_s = time.monotonic() + 3 * LOOK_S
        try:
            while time.monotonic() < until_s:
                message = subscriber.recv(PATIENCE_S)
                assert isinstance(message, Heartbeat), "it waits for the disk"
        finally:
            with hanging.open("wb"):  # waits for who reads: so it was looked at meanwhile
                hanging.unlink()


def test_the_control_socket(server: ControlServer, stage: Path, stranger: Path, folder: Path) -> None:
    with ControlClient(server.endpoint, PATIENCE_S, stage) as client:
        assert client.request("status") == {"state": "LIVE"}
        with ControlClient(server.endpoint, PATIENCE_S, stranger) as other, pytest.raises(ClientError) as caught:
            other.request("status")
        assert "refuses our key" in str(caught.value)
        assert client.request("status") == {"state": "LIVE"}
    keys.remove_client(folder, "stage")

    def is_refused() -> bool:
        with ControlClient(server.endpoint, 1.0, stage) as client:
            try:
                client.request("status")
            except DaemonUnreachable:
                return False
            except ClientError:
                return True
            return False

    until(is_refused, "who was removed is refused")
    assert server.n_requests >= 2


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:*", "tcp://*:*", "tcp://[::]:*"])
@pytest.mark.parametrize("make", [Publisher, lambda endpoint, **options: ControlServer(endpoint, {}, **options)])
def test_an_address_off_this_machine_is_refused_without_keys(
    make: Callable[..., object], endpoint: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(EndpointError, match="whoever reaches this machine could connect, and there are no keys"):
        make(endpoint)
    with pytest.raises(
        EndpointError,
        match=rf"^cannot listen at .*: whoever reaches this machine could connect, and there are no keys in "
        rf"{tmp_path}/none; make them with: mird keys server --keys {tmp_path}/none; or use 127\.0\.0\.1",
    ):
        make(endpoint, keys=tmp_path / "none")
    (folder / "server.key_secret").chmod(0o644)
    with pytest.raises(EndpointError, match="can be read by others than its owner"):
        make(endpoint, keys=folder)


def test_on_this_machine_no_keys_are_asked_for(folder: Path) -> None:
    with Publisher("tcp://127.0.0.1:*", keys=folder) as publisher, Subscriber(publisher.endpoint, ("hb",)) as other:
        assert publisher.await_subscriber(PATIENCE_S)
        publisher.publish(BEAT)
        assert other.recv(PATIENCE_S) is not None


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("tcp://127.0.0.1:7475", True),
        ("tcp://127.0.1.1:7475", True),
        ("tcp://[::1]:7475", True),
        ("tcp://localhost:7475", True),
        ("ipc:///run/mird/control", True),
        ("tcp://", True),
        ("tcp://0.0.0.0:7475", False),
        ("tcp://192.0.2.1:7475", False),
        ("tcp://[2001:db8::1]:7475", False),
        ("tcp://stage.local:7475", False),
        ("tcp://localhost.example:7475", False),
    ],
)
def test_which_addresses_are_of_this_machine(endpoint: str, local: bool) -> None:
    assert is_local(endpoint) == local
