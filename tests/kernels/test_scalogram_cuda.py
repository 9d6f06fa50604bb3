"""The GPU's scalogram: its sources compile, and their arithmetic agrees, without a GPU; and with one, all of it."""

import ctypes
import importlib.metadata
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.kernels.errors import ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.image import parula, picture
from mird.kernels.scalogram import open_scalogram
from mird.kernels.scalogram_plan import make_plan
from mird.kernels.scalogram_scipy import ScipyScalogram
from mird.kernels.scalogram_tables import PAINT, SCALE, SOURCE, make_tables

FRONT_ENDS = {
    "default": FrontEnd(),
    "paper": FrontEnd.paper(),
    "odd": FrontEnd(window=4_411, n_scales=50, n_columns=21, n_rows=70, magnitude="linear"),
    "one column": FrontEnd(window=20_000, n_scales=60, n_columns=1),
    "few rows": FrontEnd(window=9_000, n_scales=0, n_columns=30, n_rows=24, range_db=60.0, colour="parula"),
}
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
KERNELS = {
    "scalogram.cu": ("order", "rotate", "bands", "means", "extremes", "paint", "paint_half"),
    "similarity.cu": ("compare",),
    "best.cu": ("best",),
}


def libraries(name: str) -> Iterator[Path]:
    for file in importlib.metadata.files("nvidia-cuda-nvrtc") or ():
        if file.name.startswith(name):
            yield Path(str(file.locate()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", KERNELS)
def test_the_sources_compile_to_machine_code(name: str, architecture: int) -> None:
    nvrtc = ctypes.CDLL(str(next(libraries("libnvrtc.so"))))
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    source = SOURCE.with_name(name)
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(), name.encode(), 0, None, None) == 0
    flags = (f"--gpu-architecture=sm_{architecture}".encode(), b"-std=c++17")
    status = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert status == 0, log.value.decode()
    assert nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)) == 0
    cubin = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetCUBIN(program, cubin) == 0
    assert cubin.raw.startswith(b"\x7fELF")
    for kernel in KERNELS[name]:
        assert b".text." + kernel.encode() + b"\0" in cubin.raw
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def test_all_sources_are_compiled() -> None:
    assert {path.name for path in SOURCE.parent.iterdir()} == set(KERNELS)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels' cell functions, compiled by the C compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "a C compiler is needed: apt install gcc"
    library = tmp_path_factory.mktemp("host") / "scalogram_host.so"
    shim = Path(__file__).with_name("scalogram_host.c")
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f'-DSOURCE="{SOURCE}"']
    subprocess.run([compiler, *flags, "-o", str(library), str(shim), "-lm"], check=True)
    return ctypes.CDLL(str(library))


def on_host(
    host: ctypes.CDLL, front_end: FrontEnd, windows: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Magnitudes and pictures by the GPU's functions, with NumPy's FFT in the place of cuFFT."""
    plan = make_plan(front_end)
    tables = make_tables(plan, front_end)
    n, window = windows.shape

    def pointer(array: NDArray[np.generic]) -> ctypes.c_void_p:
        assert array.flags.c_contiguous
        return ctypes.c_void_p(array.ctypes.data)

    ordered, spectrum = np.full((2, n, window), np.nan, np.float32)
    host.host_order(pointer(windows), n, window, pointer(ordered))
    wave = np.fft.rfft(ordered).astype(np.complex64)
    host.host_rotate(pointer(wave), pointer(tables.turns), n, window, pointer(spectrum))
    waves = np.full(n * tables.n_waves, np.nan, np.complex64)
    scales, bank = pointer(tables.scales), pointer(tables.bank)
    host.host_bands(scales, plan.n_scales, pointer(spectrum), bank, n, window, pointer(waves))
    for row in tables.scales[np.unique(tables.scales["group_first"])]:
        length, n_rows, first = int(row["length"]), n * int(row["group_rows"]), n * int(row["wave_at"])
        group = waves[first : first + n_rows * length].reshape(n_rows, length)
        group[...] = np.fft.fft(group)
    magnitudes = np.full((n, plan.n_scales, plan.n_columns), np.nan, np.float32)
    host.host_means(scales, plan.n_scales, pointer(waves), n, plan.n_columns, pointer(magnitudes))
    shape = (n, 3 if front_end.colour == "parula" else 1, int(tables.paint["n_rows"]), plan.n_columns)
    pictures = np.full(shape, np.nan, np.float32)
    colours = parula()
    host.host_paint(pointer(magnitudes), n, pointer(tables.paint), pointer(colours), pointer(pictures))
    return magnitudes, pictures


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_kernels_arithmetic_agrees_with_numpys(host: ctypes.CDLL, name: str) -> None:
    front_end = FRONT_ENDS[name]
    windows = np.random.default_rng(11).standard_normal((3, front_end.window)).astype(np.float32)
    windows[1] *= np.float32(1e-3)
    wanted = ScipyScalogram(front_end, dtype=np.float64)(windows)
    magnitudes, pictures = on_host(host, front_end, windows)
    for got, reference in zip(magnitudes, wanted, strict=True):
        assert np.abs(got - reference).max() <= 1e-6 * reference.max()
    agree(pictures, picture(magnitudes, front_end), front_end)


def agree(pictures: NDArray[np.float32], wanted: NDArray[np.float32], front_end: FrontEnd) -> None:
    assert pictures.shape == wanted.shape
    if front_end.colour == "grey":
        assert np.abs(pictures - wanted).max() <= 2e-6
    else:  # a level on the border between two entries of the colour map may fall on either side
        assert (np.abs(pictures - wanted).max(axis=1) > 1e-6).mean() < 1e-3
        assert np.abs(pictures - wanted).max() < 0.05


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_silence_gives_no_nan_on_the_gpu_either(host: ctypes.CDLL, name: str) -> None:
    front_end = FRONT_ENDS[name]
    magnitudes, pictures = on_host(host, front_end, np.zeros((1, front_end.window), np.float32))
    assert (magnitudes == 0).all()
    assert np.abs(pictures - picture(magnitudes, front_end)).max() < 1e-6


def test_float16_is_rounded_as_numpy_rounds(host: ctypes.CDLL) -> None:
    rng = np.random.default_rng(13)
    edges = np.array([0, 1, 2.0**-24, 2.0**-25, 3 * 2.0**-25, 2.0**-14, 6.1e-5, 6.104e-5, 0.5 + 2.0**-12, 1 - 2.0**-12])
    values = np.concatenate([edges, rng.random(20_000), 2.0 ** -rng.uniform(0, 26, 20_000)]).astype(np.float32)
    found = np.zeros(len(values), np.uint16)
    host.host_half(ctypes.c_void_p(values.ctypes.data), len(values), ctypes.c_void_p(found.ctypes.data))
    np.testing.assert_array_equal(found, values.astype(np.float16).view(np.uint16))


def test_the_tables_have_the_sources_layout() -> None:
    assert SCALE.itemsize == 40
    assert PAINT.itemsize == 24
    assert not any(dtype.isalignedstruct and dtype.hasobject for dtype in (SCALE, PAINT))


@pytest.mark.gpu
@pytest.mark.parametrize("n", [1, 2, 64])
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_gpu_agrees_with_numpy(name: str, n: int, gpu: str) -> None:
    from mird.kernels import scalogram_cupy

    front_end = FRONT_ENDS[name]
    windows = np.random.default_rng(12).standard_normal((n, front_end.window)).astype(np.float32)
    scalogram = open_scalogram(front_end, "cupy")
    assert isinstance(scalogram, scalogram_cupy.CupyScalogram)
    for _ in range(2):
        magnitudes = scalogram(windows)
        wanted = open_scalogram(front_end, "scipy")(windows)
        assert np.abs(magnitudes - wanted).max() <= 1e-6 * wanted.max()
        pictures = scalogram.pictures(windows)
        scalogram.stream.synchronize()
        agree(pictures.get(), picture(magnitudes, front_end), front_end)
        windows = windows[:, ::-1].copy()


@pytest.mark.gpu
def test_more_windows_than_fit_the_gpu_are_named_and_do_no_harm(gpu: str) -> None:
    import cupy

    front_end = FRONT_ENDS["paper"]
    scalogram = open_scalogram(front_end, "cupy")
    n = cupy.cuda.runtime.memGetInfo()[0] // (8 * make_tables(make_plan(front_end), front_end).n_waves) + 1
    with pytest.raises(ParameterError, match=f"{n} windows at once need about"):
        scalogram(np.broadcast_to(np.float32(0.5), (n, front_end.window)))
    assert np.isfinite(scalogram(np.ones((1, front_end.window), np.float32))).all()
