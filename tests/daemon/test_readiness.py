"""systemd hears that a daemon is ready when its first try at a GPU is over; meanwhile the CPU publishes."""

import socket as sockets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mird.clients.subscriber import Subscriber
from mird.daemon.assembly import engine_file
from mird.daemon.capture import SourceSpec, open_capture
from mird.daemon.engine_opener import EngineOpener
from mird.daemon.messages import Frame
from mird.daemon.notify import Notifier
from mird.daemon.publisher import Publisher
from mird.daemon.service import Daemon
from mird.daemon.settings import Settings
from mird.daemon.support_store import SupportStore
from mird.kernels.back_ends import BackEnd
from mird.kernels.encoder import Encoder
from mird.kernels.errors import EngineError
from mird.kernels.recognizer import Recognizer
from mird.kernels.recognizer_device import DeviceRecognizer
from mird.kernels.recognizer_switching import SwitchingRecognizer

EXTEND = "EXTEND_TIMEOUT_USEC=1500000"


class Slow(EngineOpener):
    """Its back ends are found as always, and take as long to be opened as the test wants; then none can be."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.tried: list[str] = []
        self.go_on = threading.Event()
        self.built: Recognizer | None = None

    def _opened(self, back_end: BackEnd) -> DeviceRecognizer:
        self.tried.append(back_end.name)
        self._notifier.hold(f"{back_end.name} compiles the encoder, and the CPU serves")
        assert self.go_on.wait(30)
        if self.built is None:
            raise EngineError("refuses the plan")
        return self.built  # type: ignore[return-value]


class Running:
    """A daemon that plays a file again and again, its opener, and what it tells and publishes."""

    def __init__(self, opener: EngineOpener, daemon: Daemon, socket: sockets.socket, subscriber: Subscriber) -> None:
        self.opener, self.daemon, self.socket, self.subscriber = opener, daemon, socket, subscriber
        self.told: list[str] = []

    def until(self, wanted: str, timeout_s: float = 20.0, ending: str = "") -> None:
        """Read what systemd is told, up to a message that begins and ends so."""
        deadline_s = time.monotonic() + timeout_s
        while not (self.told and self.told[-1].startswith(wanted) and self.told[-1].endswith(ending)):
            self.socket.settimeout(max(0.01, deadline_s - time.monotonic()))
            self.told.append(self.socket.recv(65_536).decode())

    def frame(self) -> Frame:
        """The next that is published."""
        message = self.subscriber.recv(20.0)
        assert isinstance(message, Frame)
        return message


@pytest.fixture
def run(
    encoder: Encoder,
    store: SupportStore,
    demonstration: NDArray[np.float32],
    driver: str,
    cupy_is_there: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Running]:
    monkeypatch.setattr("mird.daemon.notify.EXTENSION_S", 1.5)  # ten messages, and nobody reads yet: the socket is full
    soundfile.write(tmp_path / "show.wav", demonstration, 44_100)
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM) as socket:
        socket.bind(str(tmp_path / "notify"))
        recognizer, notifier = SwitchingRecognizer(encoder), Notifier(str(tmp_path / "notify"), 1.0)
        settings = Settings(hop_ms=50)
        publisher = Publisher(f"ipc://{tmp_path}/publish")
        capture = open_capture(SourceSpec("file", str(tmp_path / "show.wav"), loop=True))
        daemon = Daemon(
            settings, capture, recognizer, store, publisher, f"ipc://{tmp_path}/control", "show", notifier=notifier
        )
        thread = threading.Thread(target=daemon.run)
        opener = request.param(recognizer, settings, engine_file(settings), tmp_path, driver, notifier=notifier)
        with opener, Subscriber(f"ipc://{tmp_path}/publish", ("frame",)) as subscriber:
            assert publisher.await_subscriber(10.0)
            thread.start()
            try:
                yield Running(opener, daemon, socket, subscriber)
            finally:
                if isinstance(opener, Slow):
                    opener.go_on.set()
                daemon.stop()
                thread.join(10.0)
        assert not thread.is_alive()


@pytest.mark.parametrize("run", [Slow], indirect=True)
@pytest.mark.parametrize("builds", [True, False])
def test_ready_waits_for_the_engine_and_frames_do_not(run: Running, encoder: Encoder, *, builds: bool) -> None:
    assert isinstance(run.opener, Slow)
    of_cpu = run.frame().engine
    run.until("STATUS=LIVE: ", ending="; tensorrt_rtx compiles the encoder, and the CPU serves")
    for _ in range(3):
        run.until(EXTEND)
        run.until("WATCHDOG=1")
        assert run.frame().engine == of_cpu
        run.told.append("")
    assert "READY=1" not in run.told
    if builds:
        run.opener.built = Recognizer(encoder)
    run.opener.go_on.set()
    run.until("READY=1")
    assert "compiles" not in [each for each in run.told if each.startswith("STATUS=")][-1]
    assert run.frame().seq > 0
    assert run.opener.tried == (["tensorrt_rtx"] if builds else ["tensorrt_rtx", "torch"])
    run.daemon.stop()
    run.until("STOPPING=1")
    assert run.told.count("READY=1") == 1


@pytest.mark.parametrize("run", [EngineOpener], indirect=True)
def test_what_cannot_be_compiled_holds_nothing_up(run: Running, caplog: pytest.LogCaptureFixture) -> None:
    """`mird compile` is run, and finds no real driver; nor does torch."""
    run.until("READY=1", 60)
    told = [each for each in run.told if each.startswith("STATUS=")]
    assert any("tensorrt_rtx compiles the encoder, and the CPU serves" in each for each in told)
    assert EXTEND in run.told
    assert "compiles" not in told[-1]
