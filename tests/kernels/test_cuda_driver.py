"""What the driver says: none, an old one, one without a GPU, a GPU that will not do. The driver is a C library's."""

import subprocess
from pathlib import Path

import pytest

from mird.kernels.cuda_driver import Gpu, find_gpu
from mird.kernels.errors import EngineError


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    library = tmp_path_factory.mktemp("driver") / "driver_stub.so"
    source = Path(__file__).with_name("driver.c")
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


def test_gpu_is_described(driver: str) -> None:
    assert find_gpu(driver) == Gpu("Stub 9000", (8, 9), 8_000_000_000, (13, 0))


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("STUB_VERSION", "12080", "the NVIDIA driver is too old: it speaks CUDA 12.8, and 13.0 is needed; install"),
        ("STUB_INIT", "100", "the NVIDIA driver sees no GPU"),
        ("STUB_COUNT", "0", "the NVIDIA driver sees no GPU"),
        ("STUB_INIT", "803", "the NVIDIA driver and its library are of different versions; restart the machine"),
        ("STUB_INIT", "999", r"the NVIDIA driver cannot start \(CUDA error 999\); `nvidia-smi` may say more"),
        ("STUB_GET", "101", r"the NVIDIA driver cannot open the GPU \(CUDA error 101\)"),
        ("STUB_CAPABILITY", "61", "Stub 9000 has compute capability 6.1, and 7.5 is the least"),
        ("STUB_MB", "500", "Stub 9000 has 0.5 GB of memory, and 2 GB are needed"),
    ],
)  # fmt: skip
def test_what_will_not_do_is_said_in_a_line(
    driver: str, variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(EngineError, match=f"^{message}") as raised:
        find_gpu(driver)
    assert "\n" not in str(raised.value)


def test_no_driver(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"^no NVIDIA driver is installed$"):
        find_gpu(str(tmp_path / "libcuda.so.1"))
