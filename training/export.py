"""Export: trained weights to one ONNX file that says what it is, in float32 and in int8."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mird.kernels.encoder import EncoderCard
from mird.training.errors import TrainingError
from mird.training.fit import Projection, Whitening
from mird.training.networks import STAGES, ResidualEncoder
from mird.training.whole import write_whole

# Before the import: ONNX Runtime would else report to its maker and leave an identity in the user's home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

INPUT, OUTPUT = "pictures", "embeddings"
MAX_BATCH = 64
CALIBRATION_BATCH = 16


class UnitEncoder(nn.Module):
    """A pooled encoder whose depths, whitened, make one vector of length one: what is exported."""

    def __init__(self, encoder: ResidualEncoder, projection: Projection) -> None:
        super().__init__()
        self.encoder = encoder
        self.whiten = nn.ModuleList(_linear(depth) for depth in projection.depths)
        n_dims = len(projection.turn)
        self.turn = nn.Linear(n_dims, n_dims)
        lengths = np.repeat(projection.lengths, [depth.matrix.shape[1] for depth in projection.depths])
        with torch.no_grad():
            self.turn.weight.copy_(torch.from_numpy((lengths[:, None] * projection.turn).T))
            self.turn.bias.copy_(torch.from_numpy(-projection.centre))

    def forward(self, pictures: Tensor) -> Tensor:
        """Unit vectors, shape (n, n_dims), of pictures, shape (n, 1, rows, columns)."""
        depths = self.encoder.depths(pictures)
        parts = [functional.normalize(whiten(x)) for whiten, x in zip(self.whiten, depths, strict=True)]
        return functional.normalize(self.turn(torch.cat(parts, 1)))


def _linear(whitening: Whitening) -> nn.Linear:
    layer = nn.Linear(*whitening.matrix.shape)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(whitening.matrix.T))
        layer.bias.copy_(torch.from_numpy(-whitening.mean @ whitening.matrix))
    return layer


def weights_fingerprint(network: nn.Module, front_end_fingerprint: str) -> str:
    """Sixteen hexadecimal digits of the weights and of the pictures that they were trained on."""
    digest = hashlib.sha256(front_end_fingerprint.encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def export_onnx(network: UnitEncoder, card: EncoderCard, shape: Sequence[int], path: Path) -> None:
    """Write the encoder in float32 with its card.

    Parameters
    ----------
    shape : (channels, rows, columns) of a picture
    path : Path
        Written whole, then renamed.

    Raises
    ------
    TrainingError
        If the file cannot be written.
    """
    network = network.cpu().eval()
    example = torch.rand(2, *shape)
    batch = torch.export.Dim("n", min=1, max=MAX_BATCH)
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes={"pictures": {0: batch}},
        optimize=True,
        verbose=False,
    )
    if program is None:
        raise TrainingError("torch.onnx exported nothing")
    with _temporary_folder() as folder:
        raw = folder / "encoder.onnx"
        program.save(str(raw), external_data=False)
        write_card(onnx.load(str(raw)), card, path)


def quantise(source: Path, pictures: NDArray[np.float32], card: EncoderCard, path: Path) -> None:
    """Write the encoder in int8 (explicit quantise and dequantise nodes), calibrated on real pictures.

    Where int8 loses most, float32 stays: stem and first stage (the weights of the first five layers alone lose half of
    it, and are 1 % of all), the last stage's 1 x 1 convolutions that lead on from one block to the next (what they read
    has the widest range), and the sums of the shortcuts. On 600 clips and three encoders the cosine to the float32 file
    is 0.9996 or more in the mean and 0.9990 or more at the first percentile, where all in int8 gave as little as 0.9984
    and 0.9960. Ranges reach as far as any picture of the calibration: cut at a percentile or averaged, a few loud
    pictures lose more than all others gain.

    Parameters
    ----------
    source : Path
        The float32 file.
    pictures : NDArray[float32], shape (n, channels, rows, columns), range [0, 1]
        A few hundred from the training pool.

    Raises
    ------
    TrainingError
        If the file cannot be written.
    """
    with _temporary_folder() as folder:
        prepared, result = folder / "prepared.onnx", folder / "int8.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        nodes = onnx.load(str(prepared)).graph.node
        quantize_static(
            str(prepared),
            str(result),
            _Pictures(np.array_split(pictures, max(1, len(pictures) // CALIBRATION_BATCH))),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv", "Relu"],
            nodes_to_exclude=_sensitive(nodes),
            calibrate_method=CalibrationMethod.MinMax,
        )
        write_card(onnx.load(str(result)), card, path)


def _sensitive(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """Names of the nodes that stay in float32; every block ends in a sum and its ReLU.

    The ReLU before such a convolution is quantised: it is the end of an int8 one, whose range it halves.
    """
    sums = [number for number, node in enumerate(nodes) if node.op_type == "Add"]
    last = nodes[sums[-STAGES[-1] - 1] :]
    return [node.name for node in (*nodes[: sums[STAGES[0] - 1]], *(node for node in last if _leads_on(node)))]


def _leads_on(node: onnx.NodeProto) -> bool:
    """Whether a node is a 1 x 1 convolution that keeps the size of the map."""
    attributes = {each.name: list(each.ints) for each in node.attribute}
    return node.op_type == "Conv" and attributes["kernel_shape"] == [1, 1] and attributes["strides"] == [1, 1]


def write_card(model: onnx.ModelProto, card: EncoderCard, path: Path) -> None:
    """Put a card's metadata into a model and write it: a new file, then renamed; TrainingError if it cannot be."""
    del model.metadata_props[:]
    for key, value in card.to_metadata().items():
        model.metadata_props.add(key=key, value=value)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, model.SerializeToString())
    except OSError as error:
        raise TrainingError(f"{path}: cannot write the encoder: {error.strerror}") from None


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for what one step leaves to the next; TrainingError if it cannot be written."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    except OSError as error:
        raise TrainingError(
            f"cannot write the export's temporary files: {error.strerror or error}; make room, or set TMPDIR to a "
            "folder that has some"
        ) from None


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Feeds the calibration with batches of pictures."""

    def __init__(self, batches: Sequence[NDArray[np.float32]]) -> None:
        self._batches: Iterator[NDArray[np.float32]] = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next batch, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}
