"""Training clips of what is no instrument: speech by synthesisers and people, noise, mains hum, room tone.

An encoder that has only met instruments tells them from noise, but takes a reader's vowels for a singer's. So these are
classes of their own to train against; their names begin with ``_``, as those of all sounds that are no instrument.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mird.training.audio import CLIP_PEAK, SILENT, read_mono, write_clip
from mird.training.errors import TrainingError
from mird.training.layouts import SUFFIXES
from mird.training.manifest import write_manifest
from mird.training.noises import made_noises
from mird.training.speech import Speaker, cut_speech, read_aloud, speakers

RATE_HZ = 44_100
NOISES_EACH = 40
"""Windows of each colour of noise; hum and room tone have ten times as many."""
JOINED_S = 8
"""Seconds of recorded speech that are cut at a time: prompts are shorter than a window."""

Progress = Callable[[int, int, str], None]
Wave = NDArray[np.float32]
Report = Callable[[str], None]

_log = logging.getLogger(__name__)


def render_no_instruments(
    prompts: Sequence[Path],
    folder: Path,
    *,
    seconds: int,
    seed: int,
    progress: Progress | None = None,
    report: Report = _log.warning,
) -> Path:
    """Make noises, speak, and cut recorded speech, into one-second clips.

    Parameters
    ----------
    prompts : sequence of Path
        Folders of recorded speech, each of one speaker: a source. Looked through with all that is below them.
    folder : Path
        Gets ``manifest.csv`` and a FLAC file a clip.
    seconds : int > 0
        Clips of each recorded speaker and of each synthesiser's voice, at most.
    seed : int >= 0
    progress : callable (done, total, what) or None
    report : callable (line)
        Gets a line for each recorded file that is left out because it is damaged or without sound.

    Returns
    -------
    Path
        The manifest.

    Raises
    ------
    TrainingError
        If neither synthesiser is installed, a file cannot be written, or, before anything is made, a folder holds no
        speech that can be used.
    """
    voices = speakers()
    if not voices:
        raise TrainingError("neither espeak-ng nor flite is installed, which speak: apt install espeak-ng flite")
    for each in prompts:
        if next(_recorded(np.random.default_rng(seed), each, lambda _: None), None) is None:
            raise _too_little(each.name)
    rng = np.random.default_rng(seed)
    jobs: list[tuple[str, str, Iterator[Wave]]] = [
        (f"made-{name}", f"_{name}" if name in ("hum", "room") else "_noise", iter(windows))
        for name, windows in made_noises(rng, NOISES_EACH, RATE_HZ, RATE_HZ).items()
    ]
    jobs += [(name, "_speech", islice(_speaking(rng, say), seconds)) for name, say in voices.items()]
    jobs += [(each.name, "_speech", islice(_recorded(rng, each, report), seconds)) for each in prompts]
    rows = []
    for number, (source, label, windows) in enumerate(jobs):
        n_made = 0
        for n_made, window in enumerate(windows, start=1):
            path = folder / source / f"{n_made:04d}.flac"
            write_clip(path, window / np.abs(window).max() * CLIP_PEAK, RATE_HZ)
            rows.append((path.relative_to(folder), label, source))
        if not n_made:
            raise _too_little(source)
        if progress:
            progress(number + 1, len(jobs), source)
    return write_manifest(folder / "manifest.csv", rows)


def _too_little(speaker: str) -> TrainingError:
    return TrainingError(f"{speaker}: holds less than eight seconds of sound; give a folder for each speaker")


def _speaking(rng: np.random.Generator, speaker: Speaker) -> Iterator[Wave]:
    while True:
        yield from read_aloud(rng, speaker, RATE_HZ, RATE_HZ)


def _recorded(rng: np.random.Generator, folder: Path, report: Report) -> Iterator[Wave]:
    """Windows of what is recorded below ``folder``, files joined in a drawn order: prompts are short."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    parts: list[Wave] = []
    for number in rng.permutation(len(paths)):
        path = paths[int(number)]
        try:
            samples = read_mono(path, RATE_HZ)
        except TrainingError as error:
            report(f"left out: {error}")
            continue
        if np.abs(samples).max() <= SILENT:
            report(f"left out, without sound: {path}")
            continue
        parts.append(samples)
        if sum(map(len, parts)) > JOINED_S * RATE_HZ:
            yield from cut_speech(np.concatenate(parts), RATE_HZ)
            parts = []
