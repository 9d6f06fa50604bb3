"""Full disks: what cannot be written is said with the system's reason, and no part of a file stays behind.

A file may have a few bytes only here: what is written beyond them fails as on a full disk.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(sys.executable).with_name("mird")

pytestmark = pytest.mark.system

EXPORT = """
import sys
from pathlib import Path
import numpy as np, onnx
from mird.kernels.encoder import open_encoder
from mird.training.errors import TrainingError
from mird.training.export import quantise, write_card

source, path = map(Path, sys.argv[1:])
card, model = open_encoder(source).card, onnx.load(source)
pictures = np.random.default_rng(0).random((16, 1, 48, 32), np.float32)
for write in (lambda: write_card(model, card, path), lambda: quantise(source, pictures, card, path)):
    try:
        write()
    except TrainingError as error:
        print(error)
"""


def limited(n_kib: int, *command: str | Path) -> subprocess.CompletedProcess[str]:
    limit = ["sh", "-c", f'ulimit -f {2 * n_kib}; exec "$@"', "sh", *map(str, command)]
    return subprocess.run(limit, capture_output=True, text=True, timeout=500, check=False)


def last(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 10, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_checkpoint(trained: Any, orchestra: Path, tmp_path: Path) -> None:
    command = ["train", orchestra, "--recipe", trained.recipe, "--cache", trained.cache, "--out", tmp_path]
    said = f"mird: error: {tmp_path}/checkpoint.pt: cannot write the checkpoint: File too large; "
    assert last(limited(20, PROGRAM, *command, "--steps", "1")) == said + "there is none from before"
    assert list(tmp_path.glob("checkpoint*")) == []
    before = (trained.folder / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(before)
    assert last(limited(20, PROGRAM, *command, "--resume")) == said + "the previous one is untouched"
    assert [path.read_bytes() for path in tmp_path.glob("checkpoint*")] == [before]


def test_picture_cache(trained: Any, orchestra: Path, tmp_path: Path) -> None:
    command = ["train", orchestra, "--recipe", trained.recipe, "--cache", tmp_path / "cache", "--out", tmp_path]
    assert last(limited(20, PROGRAM, *command)) == (
        f"mird: error: {tmp_path}/cache: cannot write the picture cache: File too large; choose another folder with "
        "--cache"
    )
    assert list((tmp_path / "cache").iterdir()) == []


def test_encoder(trained: Any, tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    done = limited(20, sys.executable, "-c", EXPORT, trained.folder / "encoder.onnx", path)
    assert done.returncode == 0, done.stderr
    wanted, temporary = done.stdout.splitlines()
    assert wanted == f"{path}: cannot write the encoder: File too large"
    assert temporary.startswith("cannot write the export's temporary files: File too large; make room, or set TMPDIR")
    assert list(tmp_path.iterdir()) == []
