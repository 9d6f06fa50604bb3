"""Addresses that cannot be bound get an error that names them and says what to do; nothing is taken from anybody."""

import re
import socket as sockets
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from mird.daemon.endpoints import bind
from mird.daemon.errors import EndpointError


@pytest.fixture
def socket() -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.XPUB) as each:
        each.linger = 0
        yield each


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def check_refused(socket: zmq.Socket[bytes], endpoint: str, reason: str) -> None:
    with pytest.raises(EndpointError) as caught:
        bind(socket, endpoint, "publish")
    message = str(caught.value)
    assert message.startswith(f"cannot listen at {endpoint}: ")
    assert re.search(reason, message)
    assert message.endswith("(setting publish, --publish ADDRESS)")
    assert "\n" not in message
    assert caught.value.exit_status == 7


def test_a_free_port_is_found(socket: zmq.Socket[bytes]) -> None:
    assert re.fullmatch(r"tcp://127\.0\.0\.1:\d+", bind(socket, "tcp://127.0.0.1:*", "publish"))


def test_tcp_address_in_use(socket: zmq.Socket[bytes]) -> None:
    with sockets.create_server(("127.0.0.1", 0)) as other:
        endpoint = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        check_refused(socket, endpoint, "the address is in use; stop the mird .*, or choose another")


def test_ipc_address_in_use_is_not_taken_over(socket: zmq.Socket[bytes], folder: Path) -> None:
    path = folder / "control"
    with sockets.socket(sockets.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        check_refused(socket, f"ipc://{path}", "the address is in use")
        with sockets.socket(sockets.AF_UNIX) as friend:
            friend.connect(str(path))


def test_ipc_socket_left_behind_is_replaced(socket: zmq.Socket[bytes], folder: Path) -> None:
    path = folder / "control"
    with sockets.socket(sockets.AF_UNIX) as killed:
        killed.bind(str(path))
    assert path.is_socket()
    assert bind(socket, f"ipc://{path}", "control") == f"ipc://{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with sockets.socket(sockets.AF_UNIX) as friend:
        friend.connect(str(path))


def test_a_file_that_is_no_socket_is_left_alone(socket: zmq.Socket[bytes], folder: Path) -> None:
    path = folder / "thesis.txt"
    path.write_text("the only copy")
    check_refused(socket, f"ipc://{path}", "the file is there and no socket; remove it")
    assert path.read_text() == "the only copy"


def test_a_link_is_left_alone(socket: zmq.Socket[bytes], folder: Path) -> None:
    (folder / "link").symlink_to(folder / "nowhere")
    check_refused(socket, f"ipc://{folder / 'link'}", "no socket")
    assert (folder / "link").is_symlink()


def test_ipc_in_a_folder_that_does_not_exist(socket: zmq.Socket[bytes], folder: Path) -> None:
    check_refused(socket, f"ipc://{folder}/none/control", f"there is no folder {folder}/none; make it")
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("", "not an address"),
        ("7475", "not an address"),
        ("tcp://", "not an address"),
        ("tcp://127.0.0.1", "not an address"),
        ("tcp://127.0.0.1:", "not an address"),
        ("tcp://127.0.0.1:http", "not an address"),
        ("tcp://127.0.0.1:65536", "a port from 1 to 65535"),
        ("tcp://127.0.0.1:0", "a port from 1 to 65535"),
        ("tcp://0.0.0.0:7475", "whoever reaches this machine could connect"),
        ("tcp://*:7475", "whoever reaches this machine could connect"),
        ("tcp://[::]:7475", "whoever reaches this machine could connect"),
        ("tcp://192.0.2.1:7475", "use 127.0.0.1, and `ssh -L` from elsewhere"),
        ("tcp://localhost:7475", "use 127.0.0.1"),
        ("udp://127.0.0.1:7475", "begins with tcp:// or ipc://"),
        ("inproc://mird", "begins with tcp:// or ipc://"),
        ("ipc://", "not a file"),
        ("ipc://@mird", "not a file"),
        ("ipc:///tmp/" + "x" * 120, "path longer than 107 bytes"),
        ("ipc:///dev/null/control", "there is no folder /dev/null"),
        ("ipc:///proc/mird", "choose"),
    ],
)
def test_addresses_that_are_refused(socket: zmq.Socket[bytes], endpoint: str, reason: str) -> None:
    check_refused(socket, endpoint, reason)
