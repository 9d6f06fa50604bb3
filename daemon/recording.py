"""Recordings: opening a file of any format that libsndfile reads, and saying in one line why one cannot be."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

from mird.daemon.errors import SourceError
from mird.daemon.source import shown

MIN_RATE_HZ: Final = 1_000
MAX_RATE_HZ: Final = 768_000

# What libsndfile logs of a WAV, AIFF or Wave64 file with less in it than its header declares.
_CUT_SHORT: Final = re.compile(r"^ *(?:data|SSND|riff) : (\d+) \(should be (\d+)\)", re.MULTILINE)
# A writer that did not know the length beforehand declares this much or more.
_UNKNOWN_BYTES: Final = 0x7FFF_0000


def open_recording(path: Path) -> soundfile.SoundFile:
    """Open a recording.

    Returns
    -------
    soundfile.SoundFile
        The caller closes it.

    Raises
    ------
    SourceError
        It is missing, no file, empty, no audio, cut short according to its own header, or has a rate outside 1 to
        768 kHz.
    """
    name = shown(path)
    try:
        if not path.is_file():
            what = "is no file" if path.exists() else "does not exist"
            raise SourceError(f"{name} {what}: name an audio file")
        if not path.stat().st_size:
            raise SourceError(f"{name} is empty: name an audio file with sound in it")
        with path.open("rb"):
            pass
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror}") from error
    try:
        recording = soundfile.SoundFile(os.fsencode(path))  # of text it takes UTF-8 alone, and not every name is that
    except TypeError as error:  # libsndfile knows the suffix of a format without a header
        raise SourceError(
            f"{name} has no header that tells its rate and channels: convert it to WAV or FLAC"
        ) from error
    except soundfile.LibsndfileError as error:
        raise SourceError(f"{name} is no audio that libsndfile reads: convert it to WAV or FLAC") from error
    wrong = ""
    if not MIN_RATE_HZ <= recording.samplerate <= MAX_RATE_HZ:
        wrong = f"has a rate of {recording.samplerate} Hz, outside {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz: convert it"
    for declared, there in _CUT_SHORT.findall(recording.extra_info):
        if int(there) < int(declared) < _UNKNOWN_BYTES:
            wrong = f"is cut short: {int(declared) - int(there)} bytes are missing at its end; copy or export it again"
    if wrong:
        recording.close()
        raise SourceError(f"{name} {wrong}")
    return recording


def read_blocks(
    recording: soundfile.SoundFile, n_block: int, start: int, n_frames: int
) -> Iterator[NDArray[np.float32]]:
    """Read a part of a recording, block by block.

    Parameters
    ----------
    recording : soundfile.SoundFile
    n_block : int
        Frames in a block; the last one may be shorter.
    start, n_frames : int
        The first frame, and how many.

    Yields
    ------
    NDArray[float32], shape (n, n_channels)
        Overwritten by the next.

    Raises
    ------
    SourceError
        The file is damaged, ends before the part does (but for MPEG, which only guesses its length), or holds values
        that are not finite.
    """
    block = np.empty((n_block, recording.channels), dtype=np.float32)
    name = shown(os.fsdecode(recording.name))
    n_read = 0
    while n_read < n_frames:
        at_s = (start + n_read) / recording.samplerate
        try:
            if not n_read:
                recording.seek(start)
            there = recording.read(out=block[: min(n_block, n_frames - n_read)])
        except soundfile.LibsndfileError as error:
            raise SourceError(f"{name} is damaged after {at_s:.2f} s: copy or export it again") from error
        if not len(there):
            if recording.format in {"MP3", "MPEG"}:
                return
            declared_s = recording.frames / recording.samplerate
            raise SourceError(
                f"{name} is cut short: {at_s:.2f} s of {declared_s:.2f} s are there; copy or export it again"
            )
        if not np.isfinite(there).all():
            raise SourceError(f"{name} holds values that are not finite after {at_s:.2f} s: export it again")
        n_read += len(there)
        yield there
