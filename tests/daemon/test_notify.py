"""What systemd is told, received by a real datagram socket."""

import contextlib
import os
import resource
import socket as sockets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mird.daemon.notify import Notifier


class Manager:
    """The end of the notification socket that systemd has."""

    def __init__(self, address: str) -> None:
        self.socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.settimeout(30.0)

    def next(self) -> str:
        return self.socket.recv(65_536).decode()

    def assert_nothing(self) -> None:
        self.socket.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            self.socket.recv(65_536)
        self.socket.settimeout(30.0)


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    one = Manager(address)
    yield one
    one.socket.close()


@pytest.mark.usefixtures("manager")
def test_the_environment_says_where_and_how_often(address: str) -> None:
    here = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2500000"}
    assert Notifier.from_environment(here).watchdog_s == 2.5
    assert Notifier.from_environment(here | {"WATCHDOG_PID": str(os.getpid())}).watchdog_s == 2.5
    assert Notifier.from_environment(here | {"WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notifier.from_environment(here | {"WATCHDOG_USEC": "soon"}).watchdog_s is None
    assert Notifier.from_environment({"WATCHDOG_USEC": "2500000"}).watchdog_s is None


def test_a_life_s_messages(manager: Manager, address: str) -> None:
    notifier = Notifier(address)
    notifier.ready()
    assert manager.next() == "READY=1"
    notifier.status("LIVE: one\nline of text")
    assert manager.next() == "STATUS=LIVE: one line of text"
    notifier.status("LIVE: one line of text")
    notifier.alive()  # no watchdog was asked for
    notifier.stopping()
    assert manager.next() == "STOPPING=1"
    manager.assert_nothing()


def test_a_long_status_is_cut_between_characters(manager: Manager, address: str) -> None:
    Notifier(address).status("x" + "ä" * 1000)
    assert manager.next() == "STATUS=x" + "ä" * 255


def test_an_abstract_address(tmp_path: Path) -> None:
    address = f"@mird-{os.getpid()}-{tmp_path.name}"
    manager = Manager(address)
    Notifier(address).ready()
    assert manager.next() == "READY=1"
    manager.socket.close()


def test_signs_of_life_are_rationed(manager: Manager, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = Notifier(address, watchdog_s=1.0)
    for sixteenth in range(33):
        clock = SimpleNamespace(monotonic=lambda now_s=sixteenth / 16: now_s)
        monkeypatch.setattr("mird.daemon.notify.time", clock)
        for _ in range(3):
            notifier.alive()
        if sixteenth % 4 == 0:
            assert manager.next() == "WATCHDOG=1"
        manager.assert_nothing()


def test_a_reload_has_its_time_in_the_same_datagram(manager: Manager, address: str) -> None:
    notifier = Notifier(address)
    notifier.ready()
    assert manager.next() == "READY=1"
    before_us = time.monotonic_ns() // 1000
    with contextlib.suppress(ValueError), notifier.reloading():
        raise ValueError
    first, second = manager.next().split("\n")
    assert first == "RELOADING=1"
    assert before_us <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert manager.next() == "READY=1", "also after a failure, or systemd would wait for its end"


def test_a_long_start_asks_for_more_time_until_it_is_over(
    manager: Manager, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mird.daemon.notify.EXTENSION_S", 0.03)
    notifier = Notifier(address)
    with notifier.starting("building the engine"):
        assert manager.next() == "STATUS=building the engine"
        for _ in range(3):
            assert manager.next() == "EXTEND_TIMEOUT_USEC=30000"
        n_threads = threading.active_count()
    assert threading.active_count() == n_threads - 1


def test_a_start_that_hangs_gets_no_more_time(manager: Manager, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mird.daemon.notify.EXTENSION_S", 0.03)
    with Notifier(address).starting("building the engine", at_most_s=0.1):
        assert manager.next() == "STATUS=building the engine"
        assert manager.next() == "EXTEND_TIMEOUT_USEC=30000"
        manager.socket.settimeout(1.0)
        n_more = 0
        with contextlib.suppress(TimeoutError):
            while manager.next():
                n_more += 1
    assert n_more < 20


def until_ready(manager: Manager) -> list[str]:
    """All that came before READY=1."""
    return list(iter(manager.next, "READY=1"))


def test_what_is_held_back_comes_when_it_is_let_go(
    manager: Manager, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mird.daemon.notify.EXTENSION_S", 0.03)
    notifier = Notifier(address)
    notifier.status("warming up")
    notifier.hold("a GPU is looked for")
    notifier.ready()
    notifier.status("LIVE: desk")
    notifier.hold("tensorrt compiles the encoder")
    with notifier.reloading():  # whose end is not the start's
        for _ in range(3):
            while manager.next() != "EXTEND_TIMEOUT_USEC=30000":
                pass
    notifier.release()
    told = until_ready(manager)
    assert "STATUS=LIVE: desk" in told
    manager.assert_nothing()
    notifier.hold("tensorrt compiles the encoder anew")  # too late to be waited for
    notifier.release()
    notifier.status("LIVE: desk again")
    assert manager.next() == "STATUS=LIVE: desk again"
    with notifier.reloading():
        assert manager.next().startswith("RELOADING=1\n")
    assert manager.next() == "READY=1"


def test_the_status_says_what_is_waited_for(manager: Manager, address: str) -> None:
    notifier = Notifier(address)
    notifier.status("LIVE: desk")
    notifier.hold("a GPU is looked for")
    notifier.hold("tensorrt compiles the encoder")
    notifier.ready()
    notifier.release()
    told = [message for message in until_ready(manager) if message.startswith("STATUS=")]
    assert told == [
        "STATUS=LIVE: desk",
        "STATUS=LIVE: desk; a GPU is looked for",
        "STATUS=LIVE: desk; tensorrt compiles the encoder",
        "STATUS=LIVE: desk",
    ]


def test_what_is_held_back_too_long_comes_all_the_same(
    manager: Manager, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mird.daemon.notify.EXTENSION_S", 0.3)
    notifier = Notifier(address)
    notifier.hold("tensorrt compiles the encoder", at_most_s=1.0)
    notifier.ready()
    told = until_ready(manager)
    assert 3 <= told.count("EXTEND_TIMEOUT_USEC=300000") < 20
    assert "mird is ready after 1 s without waiting longer: tensorrt compiles the encoder" in caplog.text
    manager.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        manager.next()


@pytest.mark.parametrize("warm", [False, True])
def test_who_waits_and_is_stopped_is_not_ready(manager: Manager, address: str, *, warm: bool) -> None:
    notifier = Notifier(address)
    notifier.hold("tensorrt compiles the encoder")
    if warm:
        notifier.ready()
    notifier.stopping()
    notifier.release()
    manager.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        until_ready(manager)


def test_what_is_let_go_before_the_daemon_is_warm_holds_nothing(manager: Manager, address: str) -> None:
    notifier = Notifier(address)
    notifier.hold("a GPU is looked for")
    notifier.release()
    while manager.next() != "STATUS=":
        pass
    manager.assert_nothing()
    notifier.ready()
    assert manager.next() == "READY=1"


def test_a_manager_that_takes_nothing_does_not_hold_the_processing_thread(manager: Manager, address: str) -> None:
    notifier = Notifier(address, watchdog_s=1e-9)
    began_s = time.monotonic()
    for _ in range(5000):
        notifier.alive()
    assert notifier.n_unsent > 0
    assert time.monotonic() - began_s < 2.0


def test_a_status_that_was_not_taken_is_told_again(manager: Manager, address: str) -> None:
    notifier = Notifier(address, watchdog_s=1e-9)
    n_taken = 0
    while not notifier.n_unsent:
        n_taken += 1
        notifier.alive()
    notifier.status("LIVE")
    assert notifier.n_unsent == 2
    assert {manager.next() for _ in range(n_taken - 1)} == {"WATCHDOG=1"}
    for _ in range(2):
        notifier.status("LIVE")
    assert manager.next() == "STATUS=LIVE"
    manager.assert_nothing()


def test_a_manager_that_has_gone_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(str(tmp_path / "none"))
    notifier.ready()
    notifier.stopping()
    assert notifier.n_unsent == 2
    assert len(caplog.records) == 1
    assert "systemd cannot be told READY=1" in caplog.text


def test_without_systemd_nothing_is_sent() -> None:
    notifier = Notifier.from_environment({})
    notifier.hold("a GPU is looked for")
    notifier.release()
    with notifier.starting("building the engine"), notifier.reloading():
        notifier.ready()
        notifier.status("LIVE")
        notifier.alive()
    assert notifier.n_unsent == 0


def test_without_a_descriptor_left_it_is_untold_and_no_more(manager: Manager, address: str) -> None:
    notifier = Notifier(address, watchdog_s=1.0)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + 1, most[1])
    )
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        notifier.alive()
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    assert notifier.n_unsent == 1
    manager.assert_nothing()


def test_a_reload_before_it_is_ready_is_not_the_end_of_the_start(manager: Manager, address: str) -> None:
    notifier = Notifier(address)
    with notifier.reloading():
        pass
    manager.assert_nothing()
    notifier.ready()
    with notifier.reloading():
        pass
    assert manager.next() == "READY=1"
    assert manager.next().startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert manager.next() == "READY=1"
