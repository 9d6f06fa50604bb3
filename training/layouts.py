"""Folders that are data sets by their layout: a folder for each class, and IRMAS with its codes.

`mird` commands take such a folder wherever they take a manifest.
"""

from __future__ import annotations

import re
from pathlib import Path

import soundfile

from mird.training.errors import TrainingError
from mird.training.manifest import Recording, read_manifest

IRMAS = {
    "cel": "cello",
    "cla": "clarinet",
    "flu": "flute",
    "gac": "guitar",
    "gel": "guitar-electric",
    "org": "organ",
    "pia": "piano",
    "sax": "saxophone-alto",
    "tru": "trumpet",
    "vio": "violin",
    "voi": "voice",
}
"""Classes by IRMAS' codes (Bosch, Janer, Fuhrmann and Herrera 2012); its saxophones are mostly altos."""

IRMAS_NAME = re.compile(r"(?:\[.{1,12}\])*(?P<number>\d+)__(?P<part>\d+)")
SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} | {".aif", ".oga", ".opus"}


def read_recordings(path: Path) -> tuple[Recording, ...]:
    """Recordings of a manifest, or of a folder that is a data set by its layout; TrainingError if it is neither."""
    return read_folder(path) if path.is_dir() else read_manifest(path)


def read_folder(folder: Path) -> tuple[Recording, ...]:
    """Recordings of a folder that has one folder for each class, as the Kaggle set of the paper and IRMAS have.

    A class's name is its folder's in small letters with hyphens, or what IRMAS' code means; files without an extension
    of sound are passed over. The source is the folder itself. In IRMAS' names, ``[cel][cla]0008__1.wav``, the parts of
    one recording are one take.

    Raises
    ------
    TrainingError
        If it has no folder with sound in it.
    """
    recordings = []
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        label = IRMAS.get(inner.name.lower()) or re.sub(r"[\s_-]+", "-", inner.name.strip().lower())
        for path in sorted(inner.rglob("*")):
            if not path.is_file() or path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                continue
            name = IRMAS_NAME.search(path.stem)
            piece = f"{inner.name}/{name['number']}" if name else path.relative_to(folder).as_posix()
            recordings.append(Recording(path, label, folder.name, f"{folder.name}/{piece}", piece if name else ""))
    if not recordings:
        raise TrainingError(f"{folder}: has no folder with recordings in it; wanted is one folder for each class")
    return tuple(recordings)
