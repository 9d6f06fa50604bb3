"""The shipped encoder, its support set and the demonstration, loaded once; small support sets that are made up."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mird.daemon.assembly import DEMONSTRATION, SHIPPED_SUPPORT, open_engine
from mird.daemon.paths import shipped
from mird.daemon.settings import Settings
from mird.daemon.support import Shot, SupportSet
from mird.daemon.support_store import SupportStore
from mird.kernels.encoder import Encoder
from mird.kernels.recognizer import Recognizer

FINGERPRINT = "light-0123456789abcdef"
N_DIMS = 4


def shot(*values: float, origin: str = "clip.wav", added_utc_ns: int = 1_700_000_000_000_000_000) -> Shot:
    return Shot(np.array(values, dtype=np.float32), origin, added_utc_ns)


def shots(n: int, first: float = 0.0) -> tuple[Shot, ...]:
    return tuple(shot(first + index, 1.0, 2.0, 3.0) for index in range(n))


def empty() -> SupportSet:
    return SupportSet(FINGERPRINT, N_DIMS)


def viola_and_tuba() -> SupportSet:
    return empty().with_shots("viola", shots(2)).with_shots("tuba", shots(1, 9.0))


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
