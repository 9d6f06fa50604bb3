"""The GPU's comparison: its arithmetic, compiled by the C compiler, is that of NumPy; and with a GPU, the kernel's."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.kernels.encoder import EncoderCard
from mird.kernels.frontend import FrontEnd
from mird.kernels.similarity import Head, Prototypes, class_logits
from mird.kernels.support_resident import ResidentSupport

SOURCE = Path(__file__).parents[2] / "kernels" / "cuda" / "similarity.cu"
CAPACITY = 300

CASES = {
    "one class": (1, 1, 3, 256),
    "the default set": (64, 40, 18, 256),
    "no background": (3, 7, 0, 256),
    "no classes": (2, 0, 5, 256),
    "odd sizes": (5, 33, 35, 77),
    "many": (2, 300, 18, 256),
    "the paper's": (1, 40, 0, 18_432),
}


def case(name: str, power: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], Head]:
    """Queries, classes, background and head."""
    n, n_classes, n_background, n_dims = CASES[name]
    rng = np.random.default_rng(n_dims + n_classes)
    queries, vectors, background = (
        (each / np.linalg.norm(each, axis=1, keepdims=True)).astype(np.float32)
        for each in (rng.standard_normal((rows, n_dims)) for rows in (n, n_classes, n_background))
    )
    return queries, vectors, background, Head(-rng.uniform(0.2, 1.5, n_dims).astype(np.float32), 9.5, 2.5, power=power)


def averages_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.linspace(-0.4, 0.6, len(vectors), dtype=np.float32)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "a C compiler is needed: apt install gcc"
    library = tmp_path_factory.mktemp("host") / "similarity_host.so"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f'-DSOURCE="{SOURCE}"']
    shim = Path(__file__).with_name("similarity_host.c")
    subprocess.run([compiler, *flags, "-o", str(library), str(shim), "-lm"], check=True)
    return ctypes.CDLL(str(library))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_the_kernels_arithmetic_is_numpys(host: ctypes.CDLL, name: str, power: int) -> None:
    queries, vectors, background, head = case(name, power)
    odds = np.full((len(queries), CAPACITY), np.nan, np.float32)
    averages = averages_of(vectors)

    def pointer(array: NDArray[np.float32]) -> ctypes.c_void_p:
        return ctypes.c_void_p(np.ascontiguousarray(array).ctypes.data)

    host.host_compare(
        pointer(queries), len(queries), pointer(vectors), pointer(averages), len(vectors),
        pointer(background), len(background),
        pointer(head.gamma), ctypes.c_float(head.bias), ctypes.c_float(head.several), head.power,
        len(head.gamma), CAPACITY, pointer(odds),
    )  # fmt: skip
    wanted = class_logits(queries, vectors, head, background, averages)
    np.testing.assert_allclose(odds[:, : len(vectors)], wanted, rtol=1e-4, atol=1e-4)
    assert np.isnan(odds[:, len(vectors) :]).all()


@pytest.mark.gpu
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_compares_as_numpy_does(name: str, power: int, gpu: str) -> None:
    from mird.kernels.device_cuda import CudaDevice
    from mird.kernels.similarity_cupy import CupyComparison

    queries, vectors, background, head = case(name, power)
    device = CudaDevice()
    support = ResidentSupport(device, len(head.gamma))
    support.hold(Prototypes(tuple(map(str, range(len(vectors)))), vectors, averages_of(vectors)))
    device.wait(1)
    card = EncoderCard("", FrontEnd(), "", head, 0.5, background)
    source = device.empty(queries.shape, np.float32)
    device.upload(queries, source)
    odds, enqueue = CupyComparison(card, device, support).bind(len(queries), source)
    launch = device.record(enqueue)
    launch()
    device.wait(1)
    wanted = class_logits(queries, vectors, head, background, averages_of(vectors))
    np.testing.assert_allclose(odds.get()[:, : len(vectors)], wanted, rtol=1e-4, atol=1e-4)
