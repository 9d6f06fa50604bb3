"""The whole way on a GPU, by every back end there: agreement with the CPU, swaps, stalls, memory, other contexts."""

import ctypes
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.kernels.back_ends import BackEnd, open_on_device, survey
from mird.kernels.encoder import EncoderCard, open_encoder
from mird.kernels.encoder_graph import Precision, graph_in, load_graph
from mird.kernels.errors import EngineError
from mird.kernels.image import picture
from mird.kernels.plan_cache import PlanKey, model_hash, plan_file
from mird.kernels.recognizer import Recognizer
from mird.kernels.recognizer_device import DeviceRecognizer
from mird.kernels.recognizer_switching import SwitchingRecognizer
from mird.kernels.scalogram import open_scalogram
from mird.kernels.similarity import Prototypes
from mird.training.compile_engine import embed

pytestmark = pytest.mark.gpu

SHIPPED = Path(__file__).parents[2] / "configs" / "models" / "default.onnx"
BACK_ENDS = ("tensorrt", "tensorrt_rtx", "torch")
LEAST_COSINE: dict[Precision, float] = {"float16": 0.9999, "int8": 0.999}

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def card() -> EncoderCard:
    return open_encoder(SHIPPED).card


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def windows(card: EncoderCard) -> Samples:
    """Plucked and bowed notes, drums and noise; no two alike."""
    rng = np.random.default_rng(21)
    t = np.arange(card.front_end.window) / card.front_end.rate_hz
    made = []
    for _ in range(64):
        f, decay, bright = rng.uniform(60, 1500), rng.choice([0.3, 3, 12]), rng.uniform(0.5, 2)
        partials = [np.sin(2 * np.pi * f * h * t + h * h) / h**bright for h in range(1, 30) if h * f < 20_000]
        note = np.sum(partials, axis=0) * np.exp(-decay * t)
        made.append(0.1 * note + 10 ** rng.uniform(-4, -1.5) * rng.standard_normal(len(t)))
    return np.stack(made).astype(np.float32)


def opened(name: str, precision: Precision, folder: Path, windows: Samples, card: EncoderCard) -> DeviceRecognizer:
    """A back end's recognizer, compiled where it must be; a back end that is not there skips the test."""
    back_end = next(each for each in survey(SHIPPED, folder, precision=precision) if each.name == name)
    if not back_end.usable:
        pytest.skip(back_end.reason)
    if back_end.needs_compiling:
        from mird.training.compile_engine import CompileRequest, compile_engine

        pictures = picture(open_scalogram(card.front_end)(windows[:16]), card.front_end)
        library = "tensorrt" if name == "tensorrt" else "tensorrt_rtx"
        request = CompileRequest(SHIPPED, precision, library, None, folder)  # type: ignore[arg-type]
        result = compile_engine(request, lambda: pictures, lambda *_: None)
        assert result["engine_error"]["least_cosine"] >= LEAST_COSINE[precision]
        assert result["engine_layers"]
    return open_on_device(back_end, SHIPPED, folder, card, precision=precision)


@pytest.fixture(scope="module", params=BACK_ENDS)
def on_gpu(
    request: pytest.FixtureRequest, gpu: str, folder: Path, windows: Samples, card: EncoderCard
) -> DeviceRecognizer:
    return opened(request.param, "float16", folder, windows, card)


def support_of(embeddings: Samples, n: int, seed: int = 0) -> Prototypes:
    rows = np.random.default_rng(seed).permutation(len(embeddings))[:n]
    return Prototypes(tuple(map(str, rows)), embeddings[rows], np.linspace(-0.4, 0.6, n, dtype=np.float32))


def cosines(a: Samples, b: Samples) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (a.astype(np.float64) * b).sum(axis=1)
    return found


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("tensorrt", "float16"),
        ("tensorrt", "int8"),
        ("tensorrt_rtx", "float16"),
        ("tensorrt_rtx", "int8"),
        ("torch", "float16"),
    ],
)
def test_embeddings_are_those_of_the_cpu(
    name: str, precision: Precision, gpu: str, folder: Path, windows: Samples, card: EncoderCard
) -> None:
    """Of the same network: in float16 that of the weights in float32, in int8 that of the same quantisation."""
    graph = graph_in(load_graph(SHIPPED), "float32" if precision == "float16" else precision).SerializeToString()
    wanted = embed(graph, picture(open_scalogram(card.front_end)(windows), card.front_end))
    recognizer = opened(name, precision, folder, windows, card)
    for n in (1, 3, 8, 9, 33, 64):
        assert cosines(recognizer.embed(windows[:n]), wanted[:n]).min() >= LEAST_COSINE[precision]


def test_scores_are_those_of_the_cpu(on_gpu: DeviceRecognizer, windows: Samples) -> None:
    """With the shipped file in int8 on the CPU, whose rounding is the larger difference."""
    cpu = Recognizer(open_encoder(SHIPPED))
    support = support_of(cpu.embed(windows), 40)
    found, wanted = on_gpu.score(windows, support), cpu.score(windows, support)
    assert (found.argmax(axis=1) == wanted.argmax(axis=1)).mean() >= 0.98
    embeddings, scores = on_gpu.recognise(windows, support)
    np.testing.assert_allclose(scores, cpu.compare(embeddings, support), atol=1e-4)


def test_enrolments_stall_nothing_and_leave_nothing_behind(on_gpu: DeviceRecognizer, windows: Samples) -> None:
    import cupy

    embeddings = on_gpu.embed(windows)
    rng = np.random.default_rng(5)
    for n in (1, 8, 64):
        on_gpu.score(windows[:n], support_of(embeddings, 10))
    free = cupy.cuda.runtime.memGetInfo()[0]
    times_s = []
    for number in range(500):
        support = support_of(embeddings, int(rng.integers(1, 64)), seed=number)
        begun = time.perf_counter()
        scores = on_gpu.score(windows[:1], support)
        times_s.append(time.perf_counter() - begun)
        assert scores.shape == (1, len(support.names))
    assert cupy.cuda.runtime.memGetInfo()[0] >= free
    assert np.quantile(times_s, 0.99) < 5e-3


def test_a_plan_that_is_refused_is_one_line(gpu: str, folder: Path, windows: Samples, card: EncoderCard) -> None:
    from mird.kernels.encoder_tensorrt import TensorRtEncoder
    from mird.kernels.tensorrt_library import LIBRARIES, is_installed

    for library in LIBRARIES:
        if is_installed(library):
            for plan in (b"", b"no plan at all" * 1000):
                with pytest.raises(EngineError, match="refuses the plan") as raised:
                    TensorRtEncoder(library, plan, card)
                assert "\n" not in str(raised.value)
            return
    pytest.skip("neither tensorrt nor tensorrt_rtx is installed")


def test_memory_that_is_short_is_one_line_and_the_cpu_serves(
    gpu: str, folder: Path, windows: Samples, card: EncoderCard
) -> None:
    import cupy

    back_end = next((each for each in survey(SHIPPED, folder) if each.on_device and each.usable), None)
    if back_end is None:
        pytest.skip("no back end is there")
    hoard = []
    cupy.get_default_memory_pool().free_all_blocks()  # what others have let go of is not room
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()
    try:
        for size in (1 << 30, 1 << 26, 1 << 22):
            while cupy.cuda.runtime.memGetInfo()[0] > size + (8 << 20):
                try:
                    hoard.append(cupy.cuda.Memory(size))
                except cupy.cuda.memory.OutOfMemoryError:
                    break
        with pytest.raises(EngineError) as raised:
            opened(back_end.name, "float16", folder, windows, card)
        assert "\n" not in str(raised.value)
    finally:
        hoard.clear()
    switching = SwitchingRecognizer(open_encoder(SHIPPED))
    assert switching.embed(windows[:1]).shape == (1, len(switching.card.head.gamma))
    switching.offer(opened(back_end.name, "float16", folder, windows, card))  # and once there is room, the GPU again
    assert switching.embed(windows[:1]).shape == (1, len(switching.card.head.gamma))
    assert switching.on_device


def test_arrays_of_other_users_of_the_primary_context_are_read(on_gpu: DeviceRecognizer, windows: Samples) -> None:
    """What `pycuda.autoprimaryctx` does, by the driver's own interface: memory of one is memory of the other."""
    import cupy

    cuda = ctypes.CDLL("libcuda.so.1")
    device, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    assert cuda.cuDeviceGet(ctypes.byref(device), 0) == 0
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) == 0
    try:
        assert cuda.cuCtxPushCurrent_v2(context) == 0
        numbers = np.arange(1000, dtype=np.float32)
        assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(numbers.nbytes)) == 0
        assert cuda.cuMemcpyHtoD_v2(pointer, ctypes.c_void_p(numbers.ctypes.data), ctypes.c_size_t(numbers.nbytes)) == 0
        memory = cupy.cuda.UnownedMemory(pointer.value, numbers.nbytes, None)
        seen = cupy.ndarray(numbers.shape, np.float32, cupy.cuda.MemoryPointer(memory, 0))
        np.testing.assert_array_equal((2 * seen).get(), 2 * numbers)
        before = on_gpu.embed(windows[:2])
        assert cuda.cuMemFree_v2(pointer) == 0
        assert cuda.cuCtxPopCurrent_v2(ctypes.byref(context)) == 0
        np.testing.assert_array_equal(on_gpu.embed(windows[:2]), before)
    finally:
        cuda.cuDevicePrimaryCtxRelease_v2(device)


def test_pycuda_in_the_primary_context_shares_its_arrays(on_gpu: DeviceRecognizer, windows: Samples) -> None:
    pytest.importorskip("pycuda")
    import cupy
    import pycuda.autoprimaryctx
    import pycuda.gpuarray

    numbers = np.arange(1000, dtype=np.float32)
    theirs = pycuda.gpuarray.to_gpu(numbers)
    memory = cupy.cuda.UnownedMemory(int(theirs.gpudata), theirs.nbytes, theirs)
    seen = cupy.ndarray(numbers.shape, np.float32, cupy.cuda.MemoryPointer(memory, 0))
    np.testing.assert_array_equal((seen + 1).get(), numbers + 1)
    assert on_gpu.embed(windows[:1]).shape == (1, len(on_gpu.card.head.gamma))


def test_a_plan_that_was_cut_short_is_not_opened(
    gpu: str, folder: Path, windows: Samples, card: EncoderCard, tmp_path: Path
) -> None:
    from mird.kernels.cuda_driver import find_gpu
    from mird.kernels.tensorrt_library import LIBRARIES, is_installed, load_library

    library = next(itertools.compress(LIBRARIES, map(is_installed, LIBRARIES)), None)
    if library is None:
        pytest.skip("neither tensorrt nor tensorrt_rtx is installed")
    opened(library, "float16", folder, windows, card)
    capability = "{}.{}".format(*find_gpu().capability)
    key = PlanKey(library, load_library(library).__version__, capability, model_hash(SHIPPED), "float16")
    for suffix in (".plan", ".json"):
        there = plan_file(folder, key).with_suffix(suffix)
        plan_file(tmp_path, key).with_suffix(suffix).write_bytes(
            there.read_bytes()[: 5000 if suffix == ".plan" else None]
        )
    back_end = BackEnd(library, on_device=True, usable=True, reason="")
    with pytest.raises(EngineError, match="is cut short: 5000 bytes of"):
        open_on_device(back_end, SHIPPED, tmp_path, card)
