"""The control socket when much is asked of it, and little read."""

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from mird.daemon.control import MAX_POLL_S, ControlServer


def test_replies_that_nobody_reads_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        ControlServer(f"ipc://{tmp_path}/control", {"undo": lambda _: {"long": bytes(100_000)}}) as server,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
    ):
        dealer.linger = 0
        dealer.rcvhwm = 1
        dealer.connect(server.endpoint)
        for number in range(200):
            dealer.send(msgpack.packb({"id": number, "verb": "undo"}))
        while server.n_requests < 200:
            server.poll(5.0)
        n_read = 0
        while n_read + server.n_replies_dropped < 200:
            assert dealer.poll(10_000)
            dealer.recv()
            n_read += 1
        assert not dealer.poll(100)
    assert server.n_replies_dropped > 0
    assert "control reply dropped (1 so far)" in caplog.text


def test_requests_that_take_long_are_not_all_answered_before_anything_else(tmp_path: Path) -> None:
    def take_long(_: Mapping[str, Any]) -> Mapping[str, Any]:
        time.sleep(2 * MAX_POLL_S)
        return {}

    with (
        ControlServer(f"ipc://{tmp_path}/control", {"undo": take_long}) as server,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
    ):
        dealer.linger = 0
        dealer.connect(server.endpoint)
        for number in range(5):
            dealer.send(msgpack.packb({"id": number, "verb": "undo"}))
        assert server.poll(5.0) == 1, "signals are looked at in between"
        assert sum(server.poll(5.0) for _ in range(4)) == 4


def test_a_peer_that_vanished_is_disconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose machine went off says nothing, neither good-bye nor that it is there."""
    monkeypatch.setattr("mird.daemon.endpoints.HEARTBEAT_MS", 100)
    monkeypatch.setattr("mird.daemon.endpoints.VANISHED_MS", 200)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
    ready = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03REQ"
    with (
        ControlServer(f"ipc://{tmp_path}/control", {"undo": lambda _: {}}),
        socket.socket(socket.AF_UNIX) as peer,
    ):
        peer.connect(f"{tmp_path}/control")
        peer.settimeout(10.0)
        peer.sendall(greeting + ready)
        received = b""
        while part := peer.recv(4096):  # to the end of the connection
            received += part
    assert b"READY" in received
    assert b"PING" in received
