"""The shipped encoder, its support set and the demonstration, loaded once; made-up support sets; a daemon."""

import importlib.util
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mird.clients.subscriber import Subscriber
from mird.daemon.assembly import DEMONSTRATION, SHIPPED_SUPPORT, open_engine
from mird.daemon.capture import Capture, SourceSpec, open_capture
from mird.daemon.clip_store import ClipStore
from mird.daemon.messages import Message, State
from mird.daemon.notify import Notifier
from mird.daemon.paths import shipped
from mird.daemon.publisher import Publisher
from mird.daemon.service import Daemon
from mird.daemon.settings import Settings
from mird.daemon.support import Shot, SupportSet
from mird.daemon.support_store import SupportStore
from mird.kernels.encoder import Encoder
from mird.kernels.recognizer import Recognizer

FINGERPRINT = "light-0123456789abcdef"
N_DIMS = 4
RATE_HZ = 44_100
KINDS = ("frame", "event", "state", "hb")
Samples = NDArray[np.float32]


def shot(*values: float, origin: str = "clip.wav", added_utc_ns: int = 1_700_000_000_000_000_000) -> Shot:
    return Shot(np.array(values, dtype=np.float32), origin, added_utc_ns)


def shots(n: int, first: float = 0.0) -> tuple[Shot, ...]:
    return tuple(shot(first + index, 1.0, 2.0, 3.0) for index in range(n))


def empty() -> SupportSet:
    return SupportSet(FINGERPRINT, N_DIMS)


def viola_and_tuba() -> SupportSet:
    return empty().with_shots("viola", shots(2)).with_shots("tuba", shots(1, 9.0))


class Running:
    """A daemon in a thread, its addresses, and what a subscriber receives of it."""

    def __init__(self, daemon: Daemon, publish: str, control: str) -> None:
        self.daemon, self.publish, self.control = daemon, publish, control
        self.failure: BaseException | None = None
        self.messages: list[Message] = []
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float = 30.0) -> None:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.daemon.run()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.failure = error

    def first(self, subscriber: Subscriber, wanted: Callable[[Message], bool]) -> Message:
        """The next message of which something is true; those before it are kept too."""
        while True:
            message = subscriber.recv(30.0)
            assert message is not None, self.messages[-3:]
            self.messages.append(message)
            if wanted(message):
                return message


@contextmanager
def running(
    capture: Capture,
    store: SupportStore,
    encoder: Encoder,
    clips: ClipStore | None = None,
    notifier: Notifier | None = None,
    load: Callable[[], Settings] | None = None,
    **settings: Any,
) -> Iterator[tuple[Running, Subscriber]]:
    """A daemon that a subscriber awaited."""
    with tempfile.TemporaryDirectory(prefix="mird-", dir="/tmp") as folder:
        publish, control = f"ipc://{folder}/publish", f"ipc://{folder}/control"
        publisher = Publisher(publish)
        daemon = Daemon(
            Settings(**settings),
            capture,
            Recognizer(encoder),
            store,
            publisher,
            control,
            "desk",
            notifier=notifier,
            load=load,
            clips=clips,
        )
        one = Running(daemon, publish, control)
        with Subscriber(publish, KINDS) as subscriber:
            assert publisher.await_subscriber(10.0)
            one.start()
            try:
                yield one, subscriber
            finally:
                daemon.stop()
                one.join()


def file_capture(path: Path, samples: Samples, rate_hz: int = RATE_HZ, **spec: Any) -> Capture:
    soundfile.write(path, samples, rate_hz)
    return open_capture(SourceSpec("file", str(path), **spec))


def is_state(state: str) -> Callable[[Message], bool]:
    return lambda message: isinstance(message, State) and message.state == state


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    """The shipped encoder."""
    return open_engine(Settings())


@pytest.fixture(scope="session")
def recognizer(encoder: Encoder) -> Recognizer:
    """A recognizer for the thread of the tests."""
    return Recognizer(encoder)


@pytest.fixture
def store(encoder: Encoder, tmp_path: Path) -> SupportStore:
    """The shipped support set, with a file of this test's own for changes."""
    return SupportStore(Recognizer(encoder), tmp_path / "support.mird", shipped(SHIPPED_SUPPORT))


@pytest.fixture(scope="session")
def demonstration() -> NDArray[np.float32]:
    """The demonstration's samples at 44.1 kHz, shape (n,)."""
    samples, rate_hz = soundfile.read(shipped(DEMONSTRATION), dtype="float32")
    assert rate_hz == 44_100
    mono: NDArray[np.float32] = samples
    return mono


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A driver of NVIDIA's with a GPU that is described by variables."""
    library = tmp_path_factory.mktemp("driver") / "opener_stub.so"
    source = Path(__file__).parents[1] / "kernels" / "driver.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


@pytest.fixture
def cupy_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Something that is called so, where it is not installed: enough to be tried."""
    if importlib.util.find_spec("cupy") is None:
        (tmp_path / "packages").mkdir()
        (tmp_path / "packages" / "cupy.py").touch()
        monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    yield
    if getattr(sys.modules.get("cupy"), "__version__", None) is None:
        sys.modules.pop("cupy", None)
