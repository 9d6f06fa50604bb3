"""Sources of sound in words: what the user writes, read into a `SourceSpec`."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal, get_args

from mird.daemon.errors import SettingsError, SourceError

_MAX_CHANNEL: Final = 256
_MAX_NAME: Final = 64

SourceKind = Literal["device", "file", "stdin"]
_KINDS: Final[tuple[SourceKind, ...]] = get_args(SourceKind)
SampleFormat = Literal["u8", "s16le", "s24le", "s32le", "f32le", "f64le"]
SAMPLE_FORMATS: Final[tuple[SampleFormat, ...]] = get_args(SampleFormat)
"""Formats of raw PCM: unsigned or signed integers and floating point, little-endian."""


@dataclass(frozen=True)
class SourceSpec:
    """What to capture, as the user asked for it.

    Parameters
    ----------
    kind : {"device", "file", "stdin"}
        Which implementation.
    argument : str
        Pattern of the device's name (empty: the default input), or path of the file; empty for stdin.
    rate_hz, n_channels : int or None
        Rate and interleaved channels of raw PCM on stdin; None elsewhere: other sources say it themselves.
    sample_format : SampleFormat
        Format of raw PCM on stdin.
    channels : tuple of int, or None
        Numbers of the selected channels, from 1, in the order of the ring's columns; None selects all.
    fast : bool
        Read a file as fast as the reader takes it, instead of in real time.
    loop : bool
        Begin a file again, without a gap, when it ends.
    name : str or None
        The source's name in the topic; None derives it from the source.
    """

    kind: SourceKind
    argument: str = ""
    rate_hz: int | None = None
    n_channels: int | None = None
    sample_format: SampleFormat = "s16le"
    channels: tuple[int, ...] | None = None
    fast: bool = False
    loop: bool = False
    name: str | None = None


def parse_source(
    text: str,
    *,
    channels: str = "all",
    stdin_rate_hz: int = 44_100,
    stdin_channels: int = 1,
    stdin_format: str = "s16le",
    fast: bool = False,
    loop: bool = False,
    name: str = "",
) -> SourceSpec:
    """Read a source as a person writes it.

    Parameters
    ----------
    text : str
        ``device``, ``device:PATTERN``, ``file:PATH`` or ``stdin``.
    channels : str
        ``all``, or numbers and ranges from 1: ``1,3-4``.
    stdin_rate_hz, stdin_channels : int
        What raw PCM on stdin is; other sources say it themselves.
    stdin_format : str
        One of `SAMPLE_FORMATS`.
    fast, loop : bool
        For a file: not in real time; for ever.
    name : str
        Name in the topic; empty derives one.

    Raises
    ------
    SettingsError
        If one of them is not understood.
    """
    written, _, argument = text.partition(":")
    kind = next((kind for kind in _KINDS if kind == written), None)
    if kind is None or (kind == "stdin" and argument):
        raise SettingsError(f"{text!r} is no source: write device, device:PATTERN, file:PATH or stdin")
    if kind == "file" and not argument:
        raise SettingsError("file: names no file: write file:PATH")
    if kind == "device" and argument.strip().isdigit():
        raise SettingsError(
            f"device:{argument} is a number, which changes when something is plugged in: "
            "write a part of the device's name (mird devices lists them)"
        )
    if not 1_000 <= stdin_rate_hz <= 768_000:
        raise SettingsError(f"a rate of {stdin_rate_hz} Hz on stdin is outside 1000 to 768000 Hz")
    if not 1 <= stdin_channels <= _MAX_CHANNEL:
        raise SettingsError(f"{stdin_channels} channels on stdin: there can be 1 to {_MAX_CHANNEL}")
    if stdin_format not in SAMPLE_FORMATS:
        raise SettingsError(f"sample format {stdin_format!r} is unknown: choose from {', '.join(SAMPLE_FORMATS)}")
    if name and name != topic_name(name):
        raise SettingsError(
            f"source name {name!r}: 1 to {_MAX_NAME} letters, digits, dots, hyphens and underscores are allowed"
        )
    return SourceSpec(
        kind=kind,
        argument=argument if kind == "file" else argument.strip(),
        rate_hz=stdin_rate_hz if kind == "stdin" else None,
        n_channels=stdin_channels if kind == "stdin" else None,
        sample_format=stdin_format,
        channels=parse_channels(channels),
        fast=fast,
        loop=loop,
        name=name or None,
    )


def parse_channels(text: str) -> tuple[int, ...] | None:
    """Read a selection of channels.

    Parameters
    ----------
    text : str
        ``all``, or numbers and ranges from 1 with commas between: ``1,3-4``.

    Returns
    -------
    tuple of int, or None
        The numbers in the order written; None for ``all``.

    Raises
    ------
    SettingsError
        If it is something else, or names a channel twice.
    """
    if text.strip().lower() == "all":
        return None
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part, re.ASCII)
        if match is None:
            raise SettingsError(f"channels {text!r}: {part.strip()!r} is not understood; write all, 1 or 1,3-4")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= _MAX_CHANNEL:
            raise SettingsError(
                f"channels {text!r}: {part.strip()!r} is outside 1 to {_MAX_CHANNEL}, or runs backwards"
            )
        numbers.extend(range(first, last + 1))
    if len(set(numbers)) < len(numbers):
        raise SettingsError(f"channels {text!r} names one of them twice")
    return tuple(numbers)


def select_channels(spec: SourceSpec, n_inputs: int, what: str) -> tuple[int, ...]:
    """Channels to capture out of those that a source has.

    Parameters
    ----------
    spec : SourceSpec
        Its `channels` are asked for.
    n_inputs : int
        Channels that the source has.
    what : str
        The source in words, for the message.

    Raises
    ------
    SourceError
        If a channel is asked for that the source does not have.
    """
    if spec.channels is None:
        return tuple(range(1, n_inputs + 1))
    missing = [channel for channel in spec.channels if channel > n_inputs]
    if missing:
        raise SourceError(
            f"channel {missing[0]} does not exist: {what} has {n_inputs} input channel{'s' if n_inputs != 1 else ''}; "
            f"choose from 1 to {n_inputs} (--channels)"
        )
    return spec.channels


def shown(name: object) -> str:
    r"""Make a file's name one that a message can carry: what is no character in it is escaped, as in ``b\udcffad.wav``.

    Parameters
    ----------
    name : object
        A path, or the text of one; names of files are bytes, and not all of them are UTF-8.
    """
    return str(name).encode(errors="backslashreplace").decode()


def topic_name(text: str) -> str:
    """Make a name that can stand in a topic: letters, digits, dot, underscore and hyphen; 1 to 64 characters.

    Parameters
    ----------
    text : str
        Any name. What has no place in a topic becomes a hyphen; nothing left over becomes ``source``.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain)[:_MAX_NAME].strip("-") or "source"
