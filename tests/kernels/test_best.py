"""The best few classes: the GPU's places, compiled by the C compiler, are those of a stable sort; and the way back."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.kernels.best import N_BEST, best_pairs, found_classes, spread
from mird.kernels.errors import EngineError
from mird.kernels.similarity import Prototypes, probabilities
from mird.kernels.support_resident import ResidentSupport

SOURCE = Path(__file__).parents[2] / "kernels" / "cuda" / "best.cu"
CAPACITY = 1024

CASES = {
    "one class": (1, 1, 32),
    "no classes": (2, 0, 32),
    "the default set": (64, 40, N_BEST),
    "as many as come back": (3, 32, 32),
    "one more": (3, 33, 32),
    "many": (4, 1000, N_BEST),
    "one comes back": (5, 200, 1),
}


def case(name: str, kind: str) -> tuple[NDArray[np.float32], int]:
    """Logits, shape (n, n_classes), and how many come back."""
    n, n_classes, n_best = CASES[name]
    rng = np.random.default_rng(n_classes)
    odds = (8 * rng.standard_normal((n, n_classes))).astype(np.float32)
    if kind == "ties":
        odds = np.round(odds / 8)
    if kind == "no numbers":
        odds[rng.random(odds.shape) < 0.1] = np.nan
        odds[rng.random(odds.shape) < 0.1] = -np.inf
    return odds, n_best


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "a C compiler is needed: apt install gcc"
    library = tmp_path_factory.mktemp("host") / "best_host.so"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f'-DSOURCE="{SOURCE}"']
    subprocess.run([compiler, *flags, "-o", str(library), str(Path(__file__).with_name("best_host.c"))], check=True)
    return ctypes.CDLL(str(library))


@pytest.mark.parametrize("kind", ["numbers", "ties", "no numbers"])
@pytest.mark.parametrize("name", CASES)
def test_the_kernels_places_are_those_of_a_stable_sort(host: ctypes.CDLL, name: str, kind: str) -> None:
    odds, n_best = case(name, kind)
    roomy = np.full((len(odds), CAPACITY), 99.0, np.float32)  # what is beyond the classes is not looked at
    roomy[:, : odds.shape[1]] = odds
    pairs = np.full((len(odds), n_best, 2), np.nan, np.float32)
    host.host_best(
        ctypes.c_void_p(roomy.ctypes.data), len(odds), odds.shape[1], CAPACITY, n_best,
        ctypes.c_void_p(pairs.ctypes.data),
    )  # fmt: skip
    np.testing.assert_array_equal(pairs, best_pairs(odds, n_best))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["numbers", "ties", "no numbers"])
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_finds_the_same(name: str, kind: str, gpu: str) -> None:
    from mird.kernels.best_cupy import CupyBest
    from mird.kernels.device_cuda import CudaDevice

    odds, n_best = case(name, kind)
    device = CudaDevice()
    support = ResidentSupport(device, 4)
    support.hold(Prototypes(tuple(map(str, range(odds.shape[1]))), np.zeros((odds.shape[1], 4), np.float32)))
    device.wait(1)
    host = device.pinned((len(odds), support.capacity), np.float32)
    host[:, : odds.shape[1]] = odds
    source = device.empty(host.shape, np.float32)
    device.upload(host, source)
    pairs, enqueue = CupyBest(device, support, n_best).bind(len(odds), source)
    launch = device.record(enqueue)
    launch()
    device.wait(1)
    np.testing.assert_array_equal(pairs.get(), best_pairs(odds, n_best))


def come_back(odds: NDArray[np.float32], n_best: int) -> NDArray[np.float32]:
    n_classes = odds.shape[1]
    return spread(*found_classes(best_pairs(odds, n_best), n_classes), n_classes)


def test_few_classes_come_back_whole() -> None:
    odds, n_best = case("the default set", "numbers")
    np.testing.assert_array_equal(come_back(odds, n_best), probabilities(odds))
    assert come_back(odds[:, :0], n_best).shape == (64, 0)
    assert come_back(odds[:0], n_best).shape == (0, odds.shape[1])


def test_of_many_classes_the_best_come_back_and_the_others_are_zero() -> None:
    odds, n_best = case("many", "numbers")
    scores, wanted = come_back(odds, n_best), probabilities(odds)
    least = np.sort(wanted, axis=1)[:, -n_best, None]
    np.testing.assert_array_equal(scores, np.where(wanted >= least, wanted, 0))


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((np.nan, 0.0), "gave what is no number"),
        ((1.0, np.inf), "gave what is no number"),
        ((-1.0, 0.0), "gave the classes -1 to 2 of 3"),  # fewer than there are
        ((7.0, 0.0), "gave the classes 1 to 7 of 3"),
    ],
)
def test_what_no_support_set_gives_is_a_fault(pair: tuple[float, float], message: str) -> None:
    pairs = best_pairs(np.array([[1.0, 3.0, 2.0]], np.float32), 4)
    pairs[0, 2] = pair
    with pytest.raises(EngineError, match=message):
        found_classes(pairs, 3)
