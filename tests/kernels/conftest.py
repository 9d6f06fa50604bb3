"""A reference scalogram, from the formulas and at full length in float64, the sounds it is compared on; an encoder."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import pytest
import scipy.fft
from numpy.typing import NDArray

from mird.kernels.cuda_driver import find_gpu
from mird.kernels.encoder import EncoderCard
from mird.kernels.errors import EngineError
from mird.kernels.frontend import FrontEnd
from mird.kernels.scalogram import installed_backends
from mird.kernels.similarity import Head

Array = NDArray[np.float64]
Reference = Callable[[Array, FrontEnd], Array]


class WriteEncoder(Protocol):
    """As `write_encoder`."""

    def __call__(self, path: Path, metadata: Mapping[str, str], n_dims: int = 16) -> None: ...


RATE_HZ = 44_100
GAMMA, BETA = 3.0, 20.0
PEAK = (BETA / GAMMA) ** (1 / GAMMA)
HALF = 2.167664111136252
"""Angular frequency above the peak where the wavelet with gamma = 3, time-bandwidth 60 has fallen to one half."""

BACKENDS = [name for name in installed_backends() if name != "cupy"]
"""Of the scalogram on a CPU, those that are installed."""

SHORT = FrontEnd(window=4_410, n_scales=0, n_columns=21)


def wavelet(w: Array) -> Array:
    out = np.zeros_like(w)
    out[w > 0] = 2 * np.exp(BETA * np.log(w[w > 0] / PEAK) - w[w > 0] ** GAMMA + PEAK**GAMMA)
    return out


def reference_coefficients(samples: Array, voices: int, n_scales: int) -> Array:
    """Complex wavelet coefficients, (n_scales, window), of the half-sample symmetric extension."""
    n = len(samples)
    coarsest, finest = n / (2 * np.sqrt(GAMMA * BETA / 2)), HALF / np.pi
    count = int(np.floor(voices * np.log2(coarsest / finest) + 1e-9)) + 1
    spectrum = scipy.fft.fft(np.concatenate([samples, samples[::-1]]))
    w = 2 * np.pi * scipy.fft.fftfreq(2 * n)
    scales = finest * 2 ** (np.arange(n_scales or count) / voices)
    return np.stack([scipy.fft.ifft(spectrum * wavelet(w * scale))[:n] for scale in scales])


def column_means(values: Array, n_columns: int) -> Array:
    """Mean over each column of what is constant during each sample, also where a column's edge cuts a sample."""
    n = values.shape[-1]
    total = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    edges = np.arange(n_columns + 1) * (n / n_columns)
    whole = np.minimum(np.floor(edges).astype(int), n - 1)
    at_edges = total[..., whole] + (edges - whole) * values[..., whole]
    means: Array = np.diff(at_edges, axis=-1) / (n / n_columns)
    return means


def relative(value: NDArray[np.floating], wanted: NDArray[np.floating]) -> float:
    return float(np.linalg.norm(value.astype(np.float64) - wanted) / np.linalg.norm(wanted))


SMALL = FrontEnd(rate_hz=16_000, window=8_000, n_scales=40, n_columns=24)


def write_encoder(path: Path, metadata: Mapping[str, str], n_dims: int = 16) -> None:
    """A linear encoder with fixed weights for the pictures of `SMALL`, whose embeddings are of length one."""
    rows, columns = SMALL.n_scales, SMALL.n_columns
    weights = np.random.default_rng(5).standard_normal((rows * columns, n_dims)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["pictures"], ["flat"]),
            onnx.helper.make_node("Gemm", ["flat", "weights", "bias"], ["projected"]),
            onnx.helper.make_node("ReduceL2", ["projected"], ["length"], axes=[1], keepdims=1),
            onnx.helper.make_node("Div", ["projected", "length"], ["embeddings"]),
        ],
        "linear",
        [onnx.helper.make_tensor_value_info("pictures", onnx.TensorProto.FLOAT, ["n", 1, rows, columns])],
        [onnx.helper.make_tensor_value_info("embeddings", onnx.TensorProto.FLOAT, ["n", n_dims])],
        [
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(np.ones(n_dims, np.float32), "bias"),
        ],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


@pytest.fixture(scope="session")
def gpu() -> str:
    """The GPU's name; a test that needs one is skipped where there is none."""
    try:
        found = find_gpu()
    except EngineError as error:
        pytest.skip(str(error))
    pytest.importorskip("cupy")
    return found.name


@pytest.fixture(scope="session")
def card() -> EncoderCard:
    """The card of `encoder_file`."""
    rng = np.random.default_rng(6)
    background = rng.standard_normal((3, 16)).astype(np.float32)
    return EncoderCard(
        name="linear float32",
        front_end=SMALL,
        fingerprint="0123456789abcdef",
        head=Head(-rng.uniform(0.5, 1.5, 16).astype(np.float32), 3.25, 2.5, 4.0, 0.5, 2),
        unknown_threshold=0.4375,
        background=background / np.linalg.norm(background, axis=1, keepdims=True),
    )


@pytest.fixture(scope="session")
def encoder_file(card: EncoderCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder."""
    path = tmp_path_factory.mktemp("encoder") / "linear.onnx"
    write_encoder(path, card.to_metadata())
    return path


@pytest.fixture(scope="session")
def write() -> WriteEncoder:
    """What writes encoders, for those with something wrong."""
    return write_encoder


@pytest.fixture(scope="session")
def reference() -> Reference:
    @lru_cache(maxsize=64)
    def compute(samples: bytes, front_end: FrontEnd) -> Array:
        waves = reference_coefficients(np.frombuffer(samples), front_end.voices, front_end.n_scales)
        return column_means(np.abs(waves), front_end.n_columns)

    def of(samples: Array, front_end: FrontEnd) -> Array:
        return compute(np.asarray(samples, np.float64).tobytes(), front_end)

    return of


@pytest.fixture(scope="session")
def sounds() -> dict[str, Array]:
    """Fifteen kinds of one second of sound."""
    rng = np.random.default_rng(7)
    t = np.arange(RATE_HZ) / RATE_HZ
    noise = rng.standard_normal(RATE_HZ)
    pink = scipy.fft.irfft(scipy.fft.rfft(noise) / np.sqrt(np.maximum(np.arange(RATE_HZ // 2 + 1), 1)), RATE_HZ)

    def decays(times: Array, rate: float, body: Callable[[Array], Array]) -> Array:
        since = [(t - t0).clip(0) for t0 in times]
        chord: Array = np.sum([(s > 0) * np.exp(-rate * s) * body(s) for s in since], axis=0).astype(np.float64)
        return chord

    def harmonics(f0: float, phase: Array, n: int = 25) -> Array:
        audible = [h for h in range(1, n + 1) if h * f0 < 20_000]
        chord: Array = np.sum([np.sin(2 * np.pi * h * f0 * phase + h * h) / h for h in audible], axis=0).astype(
            np.float64
        )
        return chord

    onsets = np.arange(0.02, 0.95, 0.13)
    vibrato = t + 0.01 / (2 * np.pi * 5.5) * np.sin(2 * np.pi * 5.5 * t)
    log_sweep = np.sin(2 * np.pi * 30 / np.log(600) * (600**t - 1))
    impulses = np.zeros(RATE_HZ)
    impulses[[5_000, 22_050, 40_001]] = 1
    return {
        "white noise": 0.1 * noise,
        "pink noise": pink / np.abs(pink).max(),
        "two tones": 0.5 * np.sin(2 * np.pi * 440 * t) + 0.3 * np.sin(2 * np.pi * 3000.3 * t + 1),
        "beating tones": 0.4 * np.sin(2 * np.pi * 440 * t) + 0.4 * np.sin(2 * np.pi * 447 * t),
        "sweep": 0.5 * log_sweep,
        "impulses": impulses,
        "plucked notes": decays(onsets, 5, lambda s: 0.3 * harmonics(196.0, s)),
        "plucked chords": decays(onsets[::2], 7, lambda s: 0.1 * (harmonics(110, s) + harmonics(277.2, s))),
        "kick drums": decays(onsets, 18, lambda s: np.sin(2 * np.pi * (55 * s + 0.3 * (1 - np.exp(-40 * s))))),
        "snare drums": decays(onsets, 30, lambda s: 0.2 * noise),
        "vibrato": 0.2 * harmonics(233.0, vibrato, 39),
        "tremolo": 0.3 * (1 + 0.8 * np.sin(2 * np.pi * 6 * t)) * harmonics(523.3, t),
        "onset after silence": np.where(t > 0.7, 0.3 * harmonics(98.0, t) + 0.01 * noise, 0.0),
        "clipped organ": np.clip(harmonics(65.4, t), -0.5, 0.5),
        "speech-like": 0.2 * harmonics(120.0, t + 0.002 * np.sin(9 * t)) * (1 + np.sin(2 * np.pi * 4 * t))
        + 0.02 * pink,
    }
