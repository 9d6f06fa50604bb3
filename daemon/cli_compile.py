"""``mird compile``: an encoder for an NVIDIA GPU, by TensorRT or TensorRT-RTX."""

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mird.daemon.cli_settings import add_setting_arguments, settings_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

N_WINDOWS = 32

EPILOG = """\
The daemon does this by itself where there is a GPU, and listens on the CPU meanwhile. The engine is kept for this very
encoder, library and kind of GPU. Its error is measured on the demonstration recording: `network_error` is that of the
encoder in its new precision against the file itself, both computed by ONNX Runtime; where this machine has the GPU,
`engine_error` is that of the engine against the former, and `whole_error` that of the engine against the file. An int8
whose embeddings fall below a cosine of 0.999 to the file's is compiled with a warning.

--capability compiles for a GPU that is elsewhere, by TensorRT-RTX.

`mird --help` lists the exit statuses.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--library", choices=("tensorrt", "tensorrt_rtx"), help="what compiles (default: the best that is installed)"
    )
    parser.add_argument(
        "--capability",
        type=_capability,
        metavar="X.Y",
        help="compute capability of the GPU, such as 8.9 (default: this machine's)",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the engine (default: the user's cache)")
    parser.add_argument("--json", action="store_true", help="one JSON object in the place of the table")
    add_setting_arguments(parser, "engine", "precision")
    parser.epilog = EPILOG


def run(args: argparse.Namespace) -> int:
    """Compile and say what came of it."""
    import json

    from rich.console import Console
    from rich.progress import Progress

    from mird.daemon.assembly import engine_file
    from mird.daemon.paths import engine_cache
    from mird.kernels.errors import EngineError

    settings = settings_of(args).settings
    try:
        from mird.training.compile_engine import CompileRequest, compile_engine, warning_of
    except ModuleNotFoundError as error:
        raise EngineError(f"compiling needs {error.name}; install it with: pip install 'mird[tensorrt-rtx]'") from None
    path = engine_file(settings)
    log = Console(stderr=True)
    with Progress(console=log, transient=True, disable=not log.is_terminal) as bar:
        task = bar.add_task("reading the encoder", total=1.0)
        request = CompileRequest(
            path,
            "float16" if settings.precision == "auto" else settings.precision,
            args.library,
            args.capability,
            args.out or engine_cache(),
        )
        result = compile_engine(
            request,
            lambda: _demonstration(path),
            lambda share, what: bar.update(task, completed=share, description=what),
        )
    if warning := warning_of(result):
        print("mird: warning:", warning, file=sys.stderr)
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
        return 0
    print(f"{result['name']} ({result['fingerprint']}) in {result['precision']} by {result['library']}:")
    print(f"  {result['plan']}, {result['plan_bytes'] / 1e6:.1f} MB, in {result['seconds']} s")
    telling = ("convolution", "matrix_multiply", "quantize")
    print("  layers: " + ", ".join(f"{n} {what}" for what, n in result["layers"].items() if what.startswith(telling)))
    for key, what in (
        ("network", "network to the file"),
        ("engine", "engine to the network"),
        ("whole", "engine to the file"),
    ):
        found = "not measured, which needs the GPU"
        if (measured := result[f"{key}_error"]) is not None:
            found = f"cosine {measured['median_cosine']} at the median, {measured['least_cosine']} at the least"
        print(f"  {what}: {found}")
    return 0


def _capability(text: str) -> str:
    """A compute capability."""
    if not re.fullmatch(r"[1-9]\d?\.\d", text):
        raise argparse.ArgumentTypeError(f"{text!r}: must be two numbers and a point, such as 8.9")
    return text


def _demonstration(path: Path) -> "NDArray[np.float32]":
    """Pictures of the demonstration recording for an encoder, shape (n, channels, rows, columns)."""
    from mird.daemon.assembly import DEMONSTRATION
    from mird.daemon.enroll import read_clip, windows_of
    from mird.daemon.paths import shipped
    from mird.kernels.encoder import open_encoder
    from mird.kernels.image import picture
    from mird.kernels.scalogram import open_scalogram

    front_end = open_encoder(path).card.front_end
    windows = windows_of(read_clip(shipped(DEMONSTRATION)), front_end.rate_hz, front_end.window, N_WINDOWS)
    return picture(open_scalogram(front_end)(windows), front_end)
