"""The shipped encoder, its support set and the demonstration, loaded once."""

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
from mird.daemon.support_store import SupportStore
from mird.kernels.encoder import Encoder
from mird.kernels.recognizer import Recognizer


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
