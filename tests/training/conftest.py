"""A small orchestra that is made by formula, and an encoder that the command line trains on it."""

import csv
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from mird.kernels.frontend import FrontEnd
from mird.training.manifest import Recording, read_manifest
from mird.training.paper import PaperRecipe, read_paper_recipe

RATE_HZ = 16_000
WINDOW = 8_000
FRONT_END = FrontEnd(rate_hz=RATE_HZ, window=WINDOW, n_scales=48, n_columns=32)

INSTRUMENTS = {"bell": (1, 7), "flute": (1, 1), "horn": (3, 2), "oboe": (8, 1), "pluck": (6, 6), "reed": (9, 2)}
"""Partials, and decay per second."""

N_TAKES = 6

Wave = NDArray[np.float32]
PROGRAM = Path(sys.executable).with_name("mird")

RunMird = Callable[..., subprocess.CompletedProcess[str]]
WriteManifest = Callable[[Path, Iterable[Sequence[object]]], Path]


def note(label: str, take: int, source: str, seconds: float = WINDOW / RATE_HZ, rate_hz: int = RATE_HZ) -> Wave:
    """One note: the class decides the partials and the decay, the take the pitch, the source the colour of the room."""
    n_partials, decay = INSTRUMENTS[label]
    rng = np.random.default_rng([take, *source.encode()])
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    f0 = 180.0 * 2 ** (take / 7)
    odd = 2 if label in ("reed", "bell") else 1
    tone = np.zeros_like(t)
    for k in range(n_partials):
        colour = 0.7 if source == "attic" else 1.0
        tone += colour**k / (k + 1) * np.sin(2 * np.pi * f0 * (odd * k + 1) * t + rng.uniform(0, 6.3))
    tone *= np.exp(-decay * t) * np.minimum(t / 0.01, 1.0)
    tone += 0.002 * rng.standard_normal(len(t))
    wave: Wave = (0.4 * tone / np.abs(tone).max()).astype(np.float32)
    return wave


def write_manifest(path: Path, rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def paper_recipe(tmp_path: Path) -> PaperRecipe:
    """A recipe of the paper for four steps of a tiny network on the orchestra's half seconds."""
    path = tmp_path / "paper-tiny.toml"
    path.write_text("[front_end]\nrate_hz = 16000\nwindow = 8000\n[pairs]\nwidth = 2\nn_steps = 4\n")
    return read_paper_recipe(path)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small networks are the faster with one thread, above all beside other work."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def write() -> WriteManifest:
    """What writes a manifest: a row of columns, then a row a clip."""
    return write_manifest


@pytest.fixture(scope="session")
def play() -> Callable[..., Wave]:
    """What plays notes."""
    return note


@pytest.fixture(scope="session")
def front_end() -> FrontEnd:
    """A small front end."""
    return FRONT_END


@pytest.fixture(scope="session")
def orchestra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of six instruments in two rooms, six takes of each, and of eight hisses."""
    folder = tmp_path_factory.mktemp("orchestra")
    rows: list[Sequence[object]] = [("path", "class", "source", "remark", "original_name")]
    for label in INSTRUMENTS:
        for source in ("hall", "attic"):
            for take in range(N_TAKES):
                path = folder / source / f"{label}-{take}.flac"
                path.parent.mkdir(exist_ok=True)
                soundfile.write(path, note(label, take, source), RATE_HZ)
                rows.append((path.relative_to(folder), label, source, "", f"{source} {label} take {take}"))
    (folder / "noise").mkdir()
    rng = np.random.default_rng(9)
    for take in range(8):
        soundfile.write(folder / "noise" / f"{take}.flac", 0.1 * rng.standard_normal(WINDOW), RATE_HZ)
        rows.append((f"noise/{take}.flac", "_hiss", "noise", "", ""))
    return write_manifest(folder / "manifest.csv", rows)


RECIPE = """
[front_end]
rate_hz = 16000
window = 8000
n_scales = 48
n_columns = 32
[network]
width = 4
n_dims = 24
[data]
held_out_sources = ["attic"]
n_composed = 2
[augment]
noise_db = [20.0, 40.0]  # so small a network learns little through more noise
[optimiser]
n_steps = 240
n_classes = 4
n_per_class = 3
rate = 5e-3
average = 0.8
[fit]
depth_dims = 20
way = 4
shots = [1, 2]
"""


def run_mird(*arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=500
    )


@pytest.fixture(scope="session")
def mird() -> RunMird:
    """What runs the installed command in a process of its own."""
    return run_mird


@dataclass(frozen=True)
class Trained:
    """A complete run of `mird train`: its folder, picture cache and recipe, and what it printed."""

    folder: Path
    cache: Path
    recipe: Path
    printed: str


@pytest.fixture(scope="session")
def trained(orchestra: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small encoder, trained on the hall's recordings by the command line."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = folder / "tiny.toml"
    recipe.write_text(RECIPE)
    done = run_mird("train", orchestra, "--recipe", recipe, "--out", folder / "run", "--cache", folder / "cache")
    assert done.returncode == 0, done.stderr
    return Trained(folder / "run", folder / "cache", recipe, done.stdout + done.stderr)


@pytest.fixture(scope="session")
def recordings_of_orchestra(orchestra: Path) -> tuple[Recording, ...]:
    """The rows of the orchestra's manifest."""
    return read_manifest(orchestra)
