"""Enrolment: from a clip of any length, rate and number of channels to the windows that are worth keeping as shots.

A clip is one channel: several are never mixed, since what stands on them may differ in phase or be another instrument;
the loudest is taken unless one is asked for. Of a recording longer than two minutes, two minutes with much sound are
kept, and no more of it is read than is needed to find them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from mird.daemon.errors import ClipError, SourceError
from mird.daemon.recording import open_recording, read_blocks
from mird.daemon.shot import printable
from mird.kernels.windows import FLOOR_DBFS, choose_windows, frame_power, sounding_frames

KEPT_S: Final = 120
PLENTY_S: Final = 40
"""Seconds of sound within `KEPT_S` that end the search for more."""
FRAMES_PER_S: Final = 50
QUIET_DBFS: Final = -40.0
SHORT_S: Final = 0.5
CLIPPED_LEVEL: Final = 0.999
CLIPPED_SHARE: Final = 0.001
RESEMBLES: Final = 0.5
"""P(same) from which a new class is said to resemble another."""


@dataclass(frozen=True)
class Clip:
    """One channel of a recording, or of the last seconds heard.

    Attributes
    ----------
    samples : NDArray[float32], shape (n,)
        Finite; full scale at 1.
    rate_hz : int
    name : str
        The file's name, printable, or "live".
    channel : int
        Its number in the recording, from 1.
    n_channels : int
        Of the recording.
    is_loudest : bool
        The channel was taken because it is the loudest of several.
    start_s : float
        Where in the recording the samples begin.
    duration_s : float
        Of the whole recording; 0 where the samples are all of it.
    """

    samples: NDArray[np.float32]
    rate_hz: int
    name: str = "live"
    channel: int = 1
    n_channels: int = 1
    is_loudest: bool = False
    start_s: float = 0.0
    duration_s: float = 0.0


@dataclass(frozen=True)
class EnrolReport:
    """What a clip brought to a class.

    Attributes
    ----------
    name : str
        Of the class.
    n_windows : int
        Shots made of it.
    seconds_of_sound : float
    level_dbfs : float
        RMS of what sounds.
    clipped_share : float in [0, 1]
        Of the samples.
    channel : str
        Which channel of how many was taken, and why; empty where there is but one.
    warnings : tuple[str, ...]
        What may spoil recognition, with the remedy.
    """

    name: str
    n_windows: int
    seconds_of_sound: float
    level_dbfs: float
    clipped_share: float
    channel: str = ""
    warnings: tuple[str, ...] = ()

    def resembling(self, other: str, score: float) -> "EnrolReport":
        """The same report, with a warning where the new shots are taken for another class with `score` in [0, 1]."""
        if score < RESEMBLES:
            return self
        warning = f"resembles '{other}' by {score:.2f}: they may be mistaken for each other; enrol more clips of both"
        return replace(self, warnings=(*self.warnings, warning))

    def __str__(self) -> str:
        """One line for a person."""
        windows = f"{self.n_windows} window{'s' if self.n_windows != 1 else ''}"
        sound = f"{self.seconds_of_sound:.1f} s of sound at {self.level_dbfs:.1f} dBFS"
        channel = f", {self.channel}" if self.channel else ""
        warnings = "".join(f"; warning: {warning}" for warning in self.warnings)
        return f"{self.name}: {windows}, {sound}{channel}{warnings}"


def read_clip(path: Path, channel: int | None = None) -> Clip:
    """Read a clip.

    Parameters
    ----------
    path : Path
        A recording in any format that libsndfile reads.
    channel : int, optional
        From 1; the loudest where none is given.

    Returns
    -------
    Clip
        At most two minutes.

    Raises
    ------
    SourceError
        The file is missing, empty, without samples, no audio, cut short or damaged.
    ClipError
        Nothing in it sounds, or it does not have that channel.
    """
    with open_recording(path) as recording:
        if channel is not None and not 1 <= channel <= recording.channels:
            raise ClipError(
                f"channel {channel} of {path}: it has channels 1 to {recording.channels}; choose one of them"
            )
        rate_hz: int = recording.samplerate
        frame = max(1, rate_hz // FRAMES_PER_S)
        power = _power(recording, frame, None if channel is None else channel - 1)
        if not len(power):
            raise SourceError(f"{path} holds no samples: name an audio file with sound in it")
        loudest = int(np.argmax(power.mean(axis=0)))
        column = loudest if channel is None else channel - 1
        _check_sound(power[:, loudest], path, channel)
        first = _liveliest(sounding_frames(power[:, loudest]), KEPT_S * rate_hz // frame) * frame
        n = min(KEPT_S * rate_hz, recording.frames - first)
        samples = _concatenated((block[:, column] for block in read_blocks(recording, _block(frame), first, n)), n)
        return Clip(
            samples,
            rate_hz,
            printable(path.name),
            column + 1,
            recording.channels,
            is_loudest=channel is None and recording.channels > 1,
            start_s=first / rate_hz,
            duration_s=recording.frames / rate_hz if len(samples) < recording.frames else 0.0,
        )


def windows_of(clip: Clip, rate_hz: int, window: int, n_max: int) -> NDArray[np.float32]:
    """The windows of a clip that sound, at the front end's rate.

    Parameters
    ----------
    clip : Clip
    rate_hz : int
        Of the front end.
    window : int
        Samples in a window at that rate.
    n_max : int
        The most windows wanted.

    Returns
    -------
    NDArray[float32], shape (n, window)
        1 to `n_max` windows in their order; a clip shorter than a window is filled up with zeros at its end.

    Raises
    ------
    ClipError
        Nothing in the clip sounds.
    """
    samples = clip.samples
    if clip.rate_hz != rate_hz:
        samples = np.asarray(soxr.resample(samples, clip.rate_hz, rate_hz, quality="HQ"), dtype=np.float32)
    starts = choose_windows(samples, window, n_max)
    if not starts:
        raise ClipError(f"nothing sounds in clip '{clip.name}': play or record louder, or take another clip")
    windows = np.zeros((len(starts), window), dtype=np.float32)
    for row, start in zip(windows, starts, strict=True):
        part = samples[start : start + window]
        row[: len(part)] = part
    return windows


def report_of(name: str, clip: Clip, n_windows: int) -> EnrolReport:
    """Report on a clip of which `n_windows` were enrolled under `name`; :meth:`EnrolReport.resembling` adds to it."""
    frame = max(1, clip.rate_hz // FRAMES_PER_S)
    power = frame_power(clip.samples, frame)
    sounding = sounding_frames(power)
    seconds = min(int(sounding.sum()) * frame, clip.samples.size) / clip.rate_hz
    level_dbfs = _dbfs(float(power[sounding].mean())) if sounding.any() else _dbfs(0.0)
    clipped = float(np.mean(np.abs(clip.samples) >= CLIPPED_LEVEL)) if clip.samples.size else 0.0
    warnings = []
    if level_dbfs < QUIET_DBFS:
        warnings.append(f"quiet ({level_dbfs:.0f} dBFS): noise may hide it; play or record louder")
    if clipped > CLIPPED_SHARE:
        warnings.append(f"clipped ({100 * clipped:.1f} % of the samples): turn the gain down and record again")
    if seconds < SHORT_S:
        warnings.append(f"short ({seconds:.2f} s of sound): a second or more is recognised better")
    if clip.duration_s:
        kept_s = clip.samples.size / clip.rate_hz
        warnings.append(f"only {kept_s:.0f} s of {clip.duration_s:.0f} s were heard, from {clip.start_s:.0f} s on")
    channel = f"channel {clip.channel} of {clip.n_channels}" if clip.n_channels > 1 else ""
    reason = ", the loudest" if clip.is_loudest else ""
    return EnrolReport(name, n_windows, seconds, level_dbfs, clipped, channel + reason, tuple(warnings))


def _power(recording: soundfile.SoundFile, frame: int, column: int | None) -> NDArray[np.float64]:
    """Power of each frame, shape (n_frames, n_channels) or (n_frames, 1): of all, or until plenty sounds."""
    span, plenty = KEPT_S * FRAMES_PER_S, PLENTY_S * FRAMES_PER_S
    floor = 10.0 ** (FLOOR_DBFS / 10.0)
    powers: list[NDArray[np.float64]] = []
    audible = np.empty(0, dtype=np.bool_)
    for block in read_blocks(recording, _block(frame), 0, recording.frames):
        columns = block.T if column is None else block[:, column][np.newaxis]
        powers.append(np.stack([frame_power(one, frame) for one in columns], axis=1))
        audible = np.append(audible[-span:], (powers[-1] >= floor).any(axis=1))
        if audible.size >= span and int(audible.sum()) >= plenty:
            break
    return np.concatenate(powers) if powers else np.empty((0, 1))


def _block(frame: int) -> int:
    """Frames of the recording that are read at once: two seconds."""
    return 2 * FRAMES_PER_S * frame


def _check_sound(power: NDArray[np.float64], path: Path, channel: int | None) -> None:
    if not sounding_frames(power).any():
        where = f"{path}" if channel is None else f"channel {channel} of {path}"
        raise ClipError(
            f"nothing sounds in {where}: its loudest moment has {_dbfs(float(power.max())):.0f} dBFS, "
            f"{FLOOR_DBFS:.0f} are needed; play or record louder, or take another clip"
        )


def _liveliest(sounding: NDArray[np.bool_], span: int) -> int:
    """The earliest frame from which most of the next `span` frames sound."""
    if sounding.size <= span:
        return 0
    total = np.concatenate(([0], np.cumsum(sounding)))
    return int(np.argmax(total[span:] - total[:-span]))


def _concatenated(blocks: Iterable[NDArray[np.float32]], n: int) -> NDArray[np.float32]:
    """Blocks as one array; shorter than `n` where they end before."""
    samples = np.empty(n, dtype=np.float32)
    n_filled = 0
    for block in blocks:
        samples[n_filled : n_filled + len(block)] = block
        n_filled += len(block)
    return samples[:n_filled]


def _dbfs(power: float) -> float:
    return 10.0 * float(np.log10(max(power, 1e-20)))
