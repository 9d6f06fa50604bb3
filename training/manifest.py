"""Manifests: which recording is of which instrument, and from whom.

A manifest is a CSV file in UTF-8 with the columns ``path`` (relative to the manifest), ``class`` and ``source``
(recording session, player or room: what is held out together); ``original_name`` is optional and names the take that a
clip was cut from; other columns are ignored. Classes that begin with ``_`` are no instruments.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from mird.training.errors import TrainingError

REQUIRED = ("path", "class", "source")

N_NAMED = 5
"""Sources that a message names at most."""


@dataclass(frozen=True)
class Recording:
    """One row of a manifest.

    Attributes
    ----------
    path : Path
    label, source : str
    take : str
        What the clip was cut from, within its source: the original name where one is given, else the path.
    original_name : str
        Empty where the manifest gives none.
    """

    path: Path
    label: str
    source: str
    take: str
    original_name: str = ""

    @property
    def is_instrument(self) -> bool:
        """Whether the class is an instrument's."""
        return not self.label.startswith("_")


def read_manifest(path: Path, *, check_files: bool = True) -> tuple[Recording, ...]:
    """Read a manifest.

    Parameters
    ----------
    path : Path
        The CSV file.
    check_files : bool
        Refuse rows whose file does not exist.

    Raises
    ------
    TrainingError
        If the file or a column is missing, a row is incomplete, or a row's file does not exist.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            missing = [name for name in REQUIRED if name not in columns]
            if missing:
                raise TrainingError(
                    f"{path}: column {', '.join(missing)} missing; a manifest has the columns {','.join(REQUIRED)}"
                )
            rows = list(reader)
    except OSError as error:
        raise TrainingError(f"{path}: cannot read the manifest: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(f"{path}: is not a CSV file in UTF-8: {error}") from None
    recordings = []
    for number, row in enumerate(rows, start=2):
        if not all(row.get(name) for name in REQUIRED):
            raise TrainingError(f"{path}:{number}: a row needs {', '.join(REQUIRED)}; got {dict(row)}")
        file_path = path.parent / row["path"]
        if check_files and not file_path.is_file():
            raise TrainingError(f"{path}:{number}: {file_path} does not exist; remove the row or restore the file")
        name = row.get("original_name") or ""
        take = f"{row['source']}/{name or row['path']}"
        recordings.append(Recording(file_path, row["class"], row["source"], take, name))
    if not recordings:
        raise TrainingError(f"{path}: the manifest has no rows")
    return tuple(recordings)


def write_manifest(path: Path, rows: Iterable[tuple[Path, str, str]]) -> Path:
    """Write path, class and source of each recording.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    TrainingError
        If it cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([REQUIRED, *rows])
    except OSError as error:
        raise TrainingError(f"{path}: cannot write the manifest: {error.strerror}") from None
    return path


def split_by_source(
    recordings: Iterable[Recording], held_out: Iterable[str]
) -> tuple[tuple[Recording, ...], tuple[Recording, ...]]:
    """Recordings of all other sources, and those of the held-out ones.

    Raises
    ------
    TrainingError
        If a held-out source does not occur: a misspelt name would train on what was meant to be unheard. The message
        names a few of those that do.
    """
    everything = tuple(recordings)
    away = set(held_out)
    sources = sorted({r.source for r in everything})
    unknown = away.difference(sources)
    if unknown:
        more = f" and {len(sources) - N_NAMED} more" if len(sources) > N_NAMED else ""
        raise TrainingError(
            f"held-out source {', '.join(sorted(unknown))} does not occur in the manifest; there are: "
            f"{', '.join(sources[:N_NAMED])}{more}; choose among them with --hold-out, or hold out none with "
            "--hold-out none"
        )
    return tuple(r for r in everything if r.source not in away), tuple(r for r in everything if r.source in away)


def choose_by_source(recordings: Sequence[Recording], n: int, seed: int) -> tuple[Recording, ...]:
    """At most ``n`` recordings, one source after the other, drawn with a seed."""
    rng = np.random.default_rng(seed)
    queues: dict[str, list[Recording]] = {}
    for recording in recordings:
        queues.setdefault(recording.source, []).append(recording)
    order = [[queue[i] for i in rng.permutation(len(queue))] for _, queue in sorted(queues.items())]
    turns = zip_longest(*order)
    return tuple(r for turn in turns for r in turn if r is not None)[:n]
