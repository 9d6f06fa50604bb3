"""What an encoder is measured against: MFCC statistics, and vectors of other networks that a file holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from mird.training.errors import TrainingError

N_MFCC = 13
N_BANDS = 40
FRAME, STEP = 1024, 512


def mfcc_statistics(window: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """Mean and standard deviation over time of 13 mel-frequency cepstral coefficients (Davis and Mermelstein 1980).

    Parameters
    ----------
    window : NDArray[float32], shape (n,)

    Returns
    -------
    NDArray[float32], shape (26,)
    """
    padded = np.pad(window, (0, max(0, FRAME - len(window))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::STEP] * np.hanning(FRAME).astype(np.float32)
    power = np.abs(scipy.fft.rfft(frames, axis=1)) ** 2
    bands = np.maximum(power @ _mel_bands(rate_hz).T, 1e-10)
    coefficients = scipy.fft.dct(10 * np.log10(bands), norm="ortho", axis=1)[:, :N_MFCC]
    return np.concatenate([coefficients.mean(0), coefficients.std(0)]).astype(np.float32)


@lru_cache(maxsize=4)
def _mel_bands(rate_hz: int) -> NDArray[np.float64]:
    """Triangles on the mel scale, shape (n_bands, 1 + frame / 2)."""
    hertz = np.fft.rfftfreq(FRAME, 1 / rate_hz)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate_hz / 2 / 700), N_BANDS + 2) / 2595) - 1)
    rising = (hertz[None] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz[None]) / (edges[2:] - edges[1:-1])[:, None]
    triangles: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return triangles


@dataclass(frozen=True)
class Peers:
    """Vectors of other networks.

    Attributes
    ----------
    names : tuple of str
    vectors : dict by (path, start of the window) of dict by name of NDArray[float32]
    starts : dict by path of tuple of int
        Windows, where the file chose its own.
    """

    names: tuple[str, ...]
    vectors: dict[tuple[str, int], dict[str, NDArray[np.float32]]]
    starts: dict[str, tuple[int, ...]]


def read_peers(files: Sequence[Path]) -> Peers:
    """Read files of vectors.

    Each is an .npz file with ``path`` (as in the manifest), for windows of long recordings ``sample_start``, and for
    each network an array of shape (n, n_dims).

    Raises
    ------
    TrainingError
        If a file cannot be read or its arrays do not fit each other.
    """
    names: dict[str, None] = {}
    vectors: dict[tuple[str, int], dict[str, NDArray[np.float32]]] = {}
    starts: dict[str, list[int]] = {}
    for file in files:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            paths = [str(path) for path in arrays.pop("path")]
        except (OSError, ValueError, KeyError) as error:
            raise TrainingError(f"{file}: is no .npz file of vectors with an array 'path': {error}") from None
        begins = arrays.pop("sample_start", None)
        wrong = [name for name, values in arrays.items() if values.ndim != 2 or len(values) != len(paths)]
        if wrong or (begins is not None and len(begins) != len(paths)):
            raise TrainingError(
                f"{file}: array {', '.join(wrong) or 'sample_start'} does not fit the {len(paths)} paths"
            )
        names.update(dict.fromkeys(arrays))
        for row, path in enumerate(paths):
            start = 0 if begins is None else int(begins[row])
            vectors.setdefault((path, start), {}).update(
                {name: np.asarray(values[row], np.float32) for name, values in arrays.items()}
            )
            if begins is not None:
                starts.setdefault(path, []).append(start)
    return Peers(tuple(names), vectors, {path: tuple(sorted(found)) for path, found in starts.items()})
