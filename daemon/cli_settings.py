"""Settings as options of a command.

The texts stand here and not in :mod:`mird.daemon.settings`, so that ``--help`` need not import what checks settings; a
test holds the two together.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mird.daemon.settings import EffectiveSettings

OPTIONS = {
    "source": ("SOURCE", "where sound comes from: device[:PATTERN], file:PATH or stdin (default device)"),
    "name": ("NAME", "the source's name in topics (default: made from the source)"),
    "channels": ("LIST", "channels that are listened to, such as 1,3-4 (default all)"),
    "stdin_rate_hz": ("HZ", "sampling rate of standard input (default 44100)"),
    "stdin_channels": ("N", "interleaved channels of standard input (default 1)"),
    "stdin_format": ("FORMAT", "u8, s16le, s24le, s32le, f32le or f64le (default s16le)"),
    "publish": ("ADDRESS", "where frames and events are published (default tcp://127.0.0.1:7475)"),
    "control": ("ADDRESS", "control socket (default: in the user's runtime folder)"),
    "clips": ("FOLDER", "keep the sound behind each event there, as FLAC (default: none is kept)"),
    "clips_mb": ("N", "size of all clips together, in MB; the oldest are removed (default 500)"),
    "metrics": ("ADDRESS", "where Prometheus reads metrics, such as 127.0.0.1:7477 (default: nowhere)"),
    "keys": ("FOLDER", "keys for addresses off this machine; see mird keys (default: beside the support set)"),
    "hop_ms": ("MS", "time from one frame to the next, 20 to 1000 (default 100)"),
    "engine": ("FILE", "encoder (default: the shipped one)"),
    "support": ("FILE", "support set (default: the user's own, or the shipped one)"),
    "silence_dbfs": ("DBFS", "level below which a channel is silent (default -55)"),
    "unknown_threshold": ("SCORE", "score below which a sound is unknown, 0 to 1 (default: the encoder's calibration)"),
    "smoothing_ms": ("MS", "time constant of the scores' smoothing (default 50)"),
    "hold_ms": ("MS", "time that a class must lead before its event starts (default 200)"),
    "wary_hold_ms": ("MS", "the same where no class has led for some seconds, as in speech (default 1300)"),
    "release_ms": ("MS", "time that a class must be gone before its event ends (default 300)"),
    "top_k": ("N", "classes that a frame lists (default 5)"),
    "threads": ("N", "threads that the encoder computes with (default 1)"),
    "device": ("DEVICE", "auto, cpu or cuda: an NVIDIA GPU where there is one, the CPU alone, or a GPU (default auto)"),
    "precision": (
        "TYPE",
        "auto, float32, float16 or int8: the encoder's arithmetic on a GPU, auto is float16 (default auto)",
    ),
    "log_level": ("LEVEL", "debug, info, warning or error (default info)"),
}

SWITCHES = {
    "fast": "read a file as fast as it can be recognised, not in real time",
    "loop": "begin a file again at its end",
}


def add_setting_arguments(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add ``--config`` and one option a setting.

    Parameters
    ----------
    parser : ArgumentParser
    names : str
        The settings that the command reads; ``class_thresholds`` becomes ``--class-threshold NAME=SCORE``.
    """
    group = parser.add_argument_group("settings")
    group.add_argument("--config", type=Path, metavar="FILE", help="settings file, read after the usual ones")
    if "keys" not in names and {"publish", "control"} & set(names):
        names += ("keys",)  # what connects may have to show one
    parser.set_defaults(setting_names=names)  # an argument of a command's own may have a setting's name
    for name in names:
        flag = f"--{name.replace('_', '-')}"
        if name in SWITCHES:
            group.add_argument(flag, action="store_true", default=None, help=SWITCHES[name])
        elif name == "class_thresholds":
            group.add_argument(
                "--class-threshold",
                dest=name,
                action="append",
                metavar="NAME=SCORE",
                help="threshold of one class; may be repeated",
            )
        else:
            metavar, text = OPTIONS[name]
            group.add_argument(flag, metavar=metavar, help=text)


def settings_of(args: argparse.Namespace) -> "EffectiveSettings":
    """The settings in force for a command that has :func:`add_setting_arguments`' options.

    Raises
    ------
    SettingsError
        As :func:`mird.daemon.settings.load_settings` does.
    """
    from mird.daemon.errors import SettingsError
    from mird.daemon.settings import load_settings

    options: dict[str, Any] = {
        name: value
        for name, value in vars(args).items()
        if name in args.setting_names and (name in OPTIONS or name in SWITCHES)
    }
    thresholds = {}
    for pair in getattr(args, "class_thresholds", None) or ():
        label, equals, score = pair.rpartition("=")
        if not equals:
            raise SettingsError(f"--class-threshold {pair!r}: must be NAME=SCORE, such as viola=0.6")
        thresholds[label] = score
    if thresholds:
        options["class_thresholds"] = thresholds
    return load_settings(options, args.config)
