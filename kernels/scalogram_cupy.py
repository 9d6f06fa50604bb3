"""The scalogram and its picture on an NVIDIA GPU: all from the windows to the encoder's input stays there.

All work of a call is one CUDA graph, captured once for each number of windows: copy from pinned memory, the kernels of
``cuda/scalogram.cu``, and cuFFT plans that are held; groups run side by side. No memory is allocated after that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cupy
import numpy as np
from cupy.cuda import cufft
from numpy.typing import NDArray

from mird.kernels.device import Launch
from mird.kernels.device_cuda import CudaDevice
from mird.kernels.errors import EngineError, ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.image import parula
from mird.kernels.scalogram_bands import check_windows
from mird.kernels.scalogram_plan import make_plan
from mird.kernels.scalogram_tables import SOURCE, Tables, make_tables

THREADS = 256
"""Threads of a block."""

N_STREAMS = 4
"""Streams that the groups' FFTs are spread over inside the graph."""


class CupyScalogram:
    """See :class:`mird.kernels.scalogram.Scalogram`. Holds device memory: calls from one thread at a time.

    Parameters
    ----------
    front_end : FrontEnd
    device : int
        Number of the GPU.

    Raises
    ------
    EngineError
        If there is no usable GPU.
    ParameterError
        If the front end cannot be computed.
    """

    name = "cupy"

    def __init__(self, front_end: FrontEnd, device: int = 0) -> None:
        self.plan = make_plan(front_end)
        self.frequencies_hz = self.plan.frequencies_hz
        self._front_end = front_end
        self._tables = make_tables(self.plan, front_end)
        self._runs: dict[int, tuple[Run, NDArray[np.float32], Launch]] = {}
        try:
            self._device = CudaDevice(device)
        except EngineError as error:
            raise EngineError(f"{error}; take the scalogram 'scipy' or 'ducc0'") from error
        self._kernels = load_kernels(SOURCE)

    def __call__(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Transform windows; see the protocol."""
        magnitudes: NDArray[np.float32] = cupy.asnumpy(self._launch(windows).magnitudes, stream=self.stream)
        return magnitudes

    def pictures(self, windows: NDArray[np.floating]) -> Any:
        """Pictures of windows, on the GPU.

        Parameters
        ----------
        windows : NDArray[floating], shape (n, window)

        Returns
        -------
        cupy.ndarray[float32], shape (n, 1 or 3, rows, columns), range [0, 1]
            As :func:`mird.kernels.image.picture` gives them; ready once :attr:`stream` has come so far, and overwritten
            by the next call with as many windows.
        """
        return self._launch(windows).pictures

    @property
    def stream(self) -> Any:
        """The stream that all work is on."""
        return self._device.stream

    def _launch(self, windows: NDArray[np.floating]) -> Run:
        checked = check_windows(windows, self.plan.window)
        n = len(windows)
        if n == 0:
            raise ParameterError("windows are none at all; a GPU needs at least one")
        if n not in self._runs:
            try:
                self._runs[n] = self._recorded(n)
            except cupy.cuda.memory.OutOfMemoryError as error:
                wanted = 8 * n * self._tables.n_waves // 1_000_000
                raise ParameterError(f"{n} windows at once need about {wanted} MB on the GPU: {error}") from error
        run, pinned, launch = self._runs[n]
        self.stream.synchronize()  # the copy of the call before may still be under way
        pinned[...] = checked
        launch()
        return run

    def _recorded(self, n: int) -> tuple[Run, NDArray[np.float32], Launch]:
        """The work for ``n`` windows, the page-locked array that it begins with, and its launch."""
        device, shape = self._device, (n, self.plan.window)
        samples = device.empty(shape, np.float32)
        run = Run(self._tables, self._front_end, self._kernels, n, samples)
        pinned: NDArray[np.float32] = device.pinned(shape, np.float32)

        def enqueue() -> None:
            device.upload(pinned, samples)
            run.enqueue(device.stream)

        return run, pinned, device.record(enqueue)


class CupyPictures:
    """The way from windows to pictures as a stage (:class:`mird.kernels.device.Stage`) of a recognizer.

    Parameters
    ----------
    front_end : FrontEnd
    device : CudaDevice
    dtype : float16 or float32
        Of the pictures, as the encoder takes them.
    """

    name = "cupy"
    capture = None

    def __init__(self, front_end: FrontEnd, device: CudaDevice, dtype: np.dtype[Any]) -> None:
        self._front_end, self._device, self._half = front_end, device, dtype == np.float16
        self._tables = make_tables(make_plan(front_end), front_end)
        self._kernels = load_kernels(SOURCE)

    def bind(self, n: int, source: Any) -> tuple[Any, Launch]:
        """See the protocol; windows of shape (n, window) to pictures of shape (n, 1 or 3, rows, columns)."""
        run = Run(self._tables, self._front_end, self._kernels, n, source, half=self._half)
        return run.pictures, lambda: run.enqueue(self._device.stream)


def load_kernels(source: Path) -> Any:
    """Compile a file of kernels for this GPU, or take them from CuPy's cache."""
    kernels = cupy.RawModule(code=source.read_text(), backend="nvrtc", options=("-std=c++17",))
    kernels.compile()
    return kernels


class Run:
    """Device memory and FFT plans for one number of windows.

    Attributes
    ----------
    magnitudes : cupy.ndarray[float32], shape (n, n_scales, n_columns)
    pictures : cupy.ndarray[float32 or float16], shape (n, 1 or 3, rows, columns)
    """

    def __init__(
        self, tables: Tables, front_end: FrontEnd, kernels: Any, n: int, samples: Any, *, half: bool = False
    ) -> None:
        paint, window = tables.paint, front_end.window
        n_scales, n_columns, n_rows = (int(paint[name]) for name in ("n_scales", "n_columns", "n_rows"))
        self._n, self._window, self._kernels = n, window, kernels
        self._n_scales, self._n_columns, self._n_cells = n_scales, n_columns, n_rows * n_columns
        self._paint = cupy.asarray(paint.reshape(1).view(np.uint8))
        self._scales = cupy.asarray(tables.scales.view(np.uint8))
        self._bank, self._turns = cupy.asarray(tables.bank), cupy.asarray(tables.turns)
        self._colours = cupy.asarray(parula())
        self._ordered, self._spectrum = (cupy.empty((n, window), np.float32) for _ in range(2))
        self._samples = samples
        self._wave = cupy.empty((n, window // 2 + 1), np.complex64)
        self._waves = cupy.empty(n * tables.n_waves, np.complex64)
        self._extremes = cupy.empty((n, 2), np.int32)
        self.magnitudes = cupy.empty((n, n_scales, n_columns), np.float32)
        self._painter, dtype = ("paint_half", np.float16) if half else ("paint", np.float32)
        self.pictures = cupy.empty((n, 3 if paint["coloured"] else 1, n_rows, n_columns), dtype)
        self._whole = cufft.Plan1d(window, cufft.CUFFT_R2C, n)
        self._groups = [
            (cufft.Plan1d(int(row["length"]), cufft.CUFFT_C2C, n * int(row["group_rows"])), row)
            for number, row in enumerate(tables.scales)
            if row["group_first"] == number
        ]
        self._sides = [cupy.cuda.Stream(non_blocking=True) for _ in self._groups[:N_STREAMS]]
        self._longest = int(tables.scales["length"].max())
        cupy.cuda.get_current_stream().synchronize()  # the tables are there before another stream reads them

    def _start(self, kernel: str, grid: tuple[int, ...], *arguments: Any) -> None:
        self._kernels.get_function(kernel)(grid, (THREADS,), arguments)

    def enqueue(self, stream: Any) -> None:
        """Put the way from the samples to the pictures into a stream, which must be the current one."""
        n, window = self._n, np.int32(self._window)
        n_scales, n_columns = np.int32(self._n_scales), np.int32(self._n_columns)
        blocks, cells = -(-self._window // THREADS), -(-self._n_cells // THREADS)
        self._start("order", (blocks, n), self._samples, window, self._ordered, self._extremes)
        self._whole.fft(self._ordered, self._wave, cufft.CUFFT_FORWARD)
        self._start("rotate", (blocks, n), self._wave, self._turns, window, self._spectrum)
        grid = (-(-self._longest // THREADS), self._n_scales, n)
        self._start("bands", grid, self._scales, self._spectrum, self._bank, window, self._waves)
        self._transform(stream)
        self._start("means", (8, self._n_scales, n), self._scales, self._waves, n_scales, n_columns, self.magnitudes)
        self._start("extremes", (min(cells, 32), n), self.magnitudes, self._paint, self._extremes)
        self._start(
            self._painter, (cells, n), self.magnitudes, self._extremes, self._paint, self._colours, self.pictures
        )

    def _transform(self, stream: Any) -> None:
        """All groups' FFTs, on streams beside each other that begin and end with the main one."""
        begun = stream.record()
        for number, (plan, row) in enumerate(self._groups):
            side = self._sides[number % len(self._sides)]
            length, n_rows = int(row["length"]), self._n * int(row["group_rows"])
            first = self._n * int(row["wave_at"])
            with side:
                side.wait_event(begun)
                waves = self._waves[first : first + n_rows * length]
                plan.fft(waves, waves, cufft.CUFFT_FORWARD)
        for side in self._sides:
            stream.wait_event(side.record())
