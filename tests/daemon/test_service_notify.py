"""A daemon tells systemd that it is ready without a device, and is alive only as long as its processing loop turns."""

import socket as sockets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mird.clients.subscriber import Subscriber
from mird.daemon.capture import Capture, CaptureState, CaptureStatus, Stream
from mird.daemon.messages import State
from mird.daemon.notify import Notifier
from mird.daemon.publisher import Publisher
from mird.daemon.service import Daemon
from mird.daemon.settings import Settings
from mird.daemon.support_store import SupportStore
from mird.kernels.encoder import Encoder
from mird.kernels.recognizer import Recognizer

WATCHDOG_S = 0.4


class NoDevice:
    """A source without a device; whoever asks for its stream may be made to hang."""

    def __init__(self) -> None:
        self.status = CaptureStatus(CaptureState.WAITING, "there is no audio input")
        self.let_go = threading.Event()
        self.let_go.set()

    @property
    def stream(self) -> Stream | None:
        self.let_go.wait()
        return None

    def start(self) -> None:
        """Nothing comes."""

    def stop(self) -> None:
        self.let_go.set()


class Told:
    """What systemd was told so far."""

    def __init__(self, path: Path) -> None:
        self.socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.messages: list[str] = []

    def until(self, wanted: Callable[[str], bool], timeout_s: float = 20.0) -> None:
        deadline_s = time.monotonic() + timeout_s
        while True:
            self.socket.settimeout(max(0.01, deadline_s - time.monotonic()))
            self.messages.append(self.socket.recv(65_536).decode())
            if wanted(self.messages[-1]):
                return

    def silent(self, seconds: float) -> bool:
        """Whether nothing came for a time."""
        self.socket.settimeout(seconds)
        try:
            self.messages.append(self.socket.recv(65_536).decode())
        except TimeoutError:
            return True
        return False


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    one = Told(tmp_path / "notify")
    yield one
    one.socket.close()


def daemon_of(capture: Capture, encoder: Encoder, store: SupportStore, folder: Path) -> Daemon:
    return Daemon(
        Settings(),
        capture,
        Recognizer(encoder),
        store,
        Publisher(f"ipc://{folder}/publish"),
        f"ipc://{folder}/control",
        "desk",
        Notifier(str(folder / "notify"), WATCHDOG_S),
    )


def test_a_life_without_a_device(encoder: Encoder, store: SupportStore, told: Told, tmp_path: Path) -> None:
    daemon = daemon_of(NoDevice(), encoder, store, tmp_path)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    told.until(lambda message: message == "READY=1")
    assert told.messages[:2] == ["STATUS=warming up", "EXTEND_TIMEOUT_USEC=30000000"]
    told.until(lambda message: message == "STATUS=WAITING: there is no audio input")
    for _ in range(4):  # it is alive while it waits
        told.until(lambda message: message == "WATCHDOG=1")
    daemon.stop()
    told.until(lambda message: message == "STOPPING=1")
    thread.join()


def test_a_loop_that_hangs_is_no_longer_alive(
    encoder: Encoder, store: SupportStore, told: Told, tmp_path: Path
) -> None:
    capture = NoDevice()
    daemon = daemon_of(capture, encoder, store, tmp_path)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    told.until(lambda message: message == "WATCHDOG=1")
    capture.let_go.clear()
    deadline_s = time.monotonic() + 20.0
    while not told.silent(3 * WATCHDOG_S):  # though the main thread still answers
        assert time.monotonic() < deadline_s
    capture.let_go.set()
    told.until(lambda message: message == "WATCHDOG=1")
    daemon.stop()
    thread.join()


def test_a_state_that_systemd_was_too_busy_to_take_is_told_again(
    encoder: Encoder, store: SupportStore, told: Told, tmp_path: Path
) -> None:
    capture = NoDevice()
    daemon = daemon_of(capture, encoder, store, tmp_path)
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        told.until(lambda message: message == "STATUS=WAITING: there is no audio input")
        other = Notifier(str(tmp_path / "notify"), watchdog_s=1e-9)
        while not other.n_unsent:  # until the queue is full
            other.alive()
        capture.status = CaptureStatus(CaptureState.LOST, "it went away")
        with Subscriber(f"ipc://{tmp_path}/publish", ("state",)) as subscriber:
            while not (isinstance(message := subscriber.recv(20.0), State) and message.state == "LOST"):
                assert message is not None
        told.until(lambda message: message == "STATUS=LOST: it went away")
    finally:
        daemon.stop()
        thread.join()
