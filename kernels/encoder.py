"""Encoders: pictures to embeddings, on whatever this machine has.

An encoder is a file that carries its own description: the front end that it was trained on, the comparison's weights,
the calibrated threshold for ``unknown``, and a fingerprint that support sets are tied to. :func:`open_encoder` picks a
back end.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mird.kernels.errors import EngineError, KernelError, ParameterError
from mird.kernels.frontend import FrontEnd
from mird.kernels.similarity import Head

FORMAT = "1"
FORMAT_KEY, FRONT_END_KEY, FINGERPRINT_KEY = "mird.format", "mird.front_end", "mird.fingerprint"
HEAD_KEY, THRESHOLD_KEY, NAME_KEY = "mird.head", "mird.unknown_threshold", "mird.name"
BACKGROUND_KEY = "mird.background"

MOST = 1e30
"""No number of a head reaches it: float32 ends not far beyond."""


@dataclass(frozen=True)
class EncoderCard:
    """What an encoder's file says of itself.

    Attributes
    ----------
    name : str
        Name of the network and its precision, e.g. "light int8".
    front_end : FrontEnd
        The only pictures that it may be fed.
    fingerprint : str
        Sixteen hexadecimal digits of the trained weights, kept through every export and quantisation.
    head : Head
        The comparison's weights.
    unknown_threshold : float
        Best P(same) below which the answer is ``unknown``, range [0, 1].
    background : NDArray[float32], shape (n_background, n_dims)
        Embeddings of sounds that are no instrument: noise, rain, speech. What is more like one of them is ``unknown``.
    """

    name: str
    front_end: FrontEnd
    fingerprint: str
    head: Head
    unknown_threshold: float
    background: NDArray[np.float32]

    def to_metadata(self) -> dict[str, str]:
        """As strings, for an engine file's metadata."""
        return {
            FORMAT_KEY: FORMAT,
            NAME_KEY: self.name,
            FRONT_END_KEY: self.front_end.to_json(),
            FINGERPRINT_KEY: self.fingerprint,
            HEAD_KEY: json.dumps(
                {
                    "gamma": _to_text(self.head.gamma),
                    "bias": self.head.bias,
                    "several": self.head.several,
                    "attention": self.head.attention,
                    "attended": self.head.attended,
                    "power": self.head.power,
                }
            ),
            THRESHOLD_KEY: repr(self.unknown_threshold),
            BACKGROUND_KEY: _to_text(self.background),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> EncoderCard:
        """Read what :meth:`to_metadata` wrote.

        Raises
        ------
        EngineError
            If something is missing or of a newer format; ``where`` names the file in the message.
        """
        found = metadata.get(FORMAT_KEY)
        if found != FORMAT:
            what = "carries no mird metadata" if found is None else f"has format {found}, this mird reads {FORMAT}"
            raise EngineError(f"{where}: {what}; use an encoder that `mird train` exported")
        try:
            head, threshold = _read_head(metadata[HEAD_KEY]), float(metadata[THRESHOLD_KEY])
            if not 0 <= threshold <= 1:
                raise ValueError(f"threshold {threshold}")
            return cls(
                metadata[NAME_KEY],
                FrontEnd.from_json(metadata[FRONT_END_KEY]),
                metadata[FINGERPRINT_KEY],
                head,
                threshold,
                _from_text(metadata[BACKGROUND_KEY]).reshape(-1, len(head.gamma)),
            )
        except (KeyError, ValueError, TypeError, KernelError) as error:
            raise EngineError(f"{where}: its metadata are damaged ({error!r}); export the encoder again") from None


def _read_head(text: str) -> Head:
    """The comparison's weights out of their JSON; what an encoder of before does not say did not count."""
    found = json.loads(text)
    head = Head(
        _from_text(found["gamma"]),
        float(found["bias"]),
        float(found.get("several", 0.0)),
        float(found.get("attention", 0.0)),
        float(found.get("attended", 0.0)),
        found.get("power", 1),
    )
    numbers = {name: value for name, value in vars(head).items() if name != "gamma"}
    if not (all(abs(value) < MOST for value in numbers.values()) and head.attention >= 0 and head.power in (1, 2)):
        raise ValueError(str(numbers))
    return head


def _to_text(values: NDArray[np.float32]) -> str:
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def _from_text(text: str) -> NDArray[np.float32]:
    values = np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("a weight is not finite")
    return values


class Encoder(Protocol):
    """One loaded encoder. Calls from several threads are allowed."""

    name: str
    """Back end in one word: "onnxruntime"."""

    card: EncoderCard

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed pictures.

        Parameters
        ----------
        pictures : NDArray[float32], shape (n, channels, rows, columns), range [0, 1]

        Returns
        -------
        NDArray[float32], shape (n, n_dims)
            Unit vectors.
        """
        ...


def check_pictures(pictures: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    """Refuse pictures whose shape is not (n, *shape) or whose type is not float32; ParameterError."""
    if pictures.ndim != 4 or pictures.shape[1:] != shape or pictures.dtype != np.float32:
        raise ParameterError(
            f"pictures of shape {pictures.shape} and type {pictures.dtype}: "
            f"(n, {', '.join(map(str, shape))}) and float32 are needed"
        )


CPU_BACKENDS = ("onnxruntime", "openvino")
"""Encoder engines for a CPU; the second is an extra."""


def open_encoder(path: Path, *, threads: int = 1, name: str = "onnxruntime") -> Encoder:
    """Load an encoder file for the CPU.

    Parameters
    ----------
    path : Path
        An ONNX file that `mird train` exported.
    threads : int > 0
        Threads of one call; none of them waits busily.
    name : {"onnxruntime", "openvino"}
        Back end; :func:`mird.kernels.encoder_choice.choose_encoder` measures which is the faster.

    Raises
    ------
    EngineError
        If the file is missing, damaged or not mird's, or the back end is not installed.
    """
    if name == "openvino":
        try:
            from mird.kernels.encoder_openvino import OpenVinoEncoder
        except ImportError as error:
            reason = str(error).partition("\n")[0]
            raise EngineError(f"openvino cannot be loaded ({reason}); pip install 'mird[openvino]'") from None
        return OpenVinoEncoder(path, threads=threads)
    from mird.kernels.encoder_onnxruntime import OnnxRuntimeEncoder

    return OnnxRuntimeEncoder(path, threads=threads)
