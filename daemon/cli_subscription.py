"""The options of the commands that listen to a running daemon, and the subscriber that they make."""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mird.daemon.cli_settings import add_setting_arguments, settings_of
from mird.daemon.cli_target import keys_for

if TYPE_CHECKING:
    from mird.clients.subscriber import Subscriber

KINDS = ("frame", "event", "level", "state", "hb")


def add_subscription_arguments(parser: argparse.ArgumentParser, *settings: str, default_kinds: str = "") -> None:
    """Add what chooses the daemon, its sources, channels and messages.

    Parameters
    ----------
    parser : ArgumentParser
    settings : str
        Settings that the command reads beside ``publish``, such as ``control``.
    default_kinds : str
        What happens without ``--kind``, for the help; without it there is no such option.
    """
    if default_kinds:
        parser.add_argument(
            "--kind",
            action="append",
            choices=KINDS,
            help=f"kind of message; may be repeated (default: {default_kinds})",
        )
    parser.add_argument("--only-source", metavar="NAME", help="one source (default: all)")
    parser.add_argument("--only-channel", metavar="N", type=_channel, help="one channel (default: all)")
    parser.add_argument(
        "--max-age", metavar="SECONDS", type=_seconds, help="drop what was sent longer ago than this, in s"
    )
    add_setting_arguments(parser, "publish", *settings)


def open_subscriber(args: argparse.Namespace, kinds: Iterable[str]) -> "Subscriber":
    """The subscriber that the arguments describe.

    Parameters
    ----------
    args : Namespace
        With :func:`add_subscription_arguments`' options.
    kinds : iterable of str
        What it receives; ``--kind`` is the command's to heed.

    Raises
    ------
    SettingsError
        The settings cannot be.
    ClientError
        The address is none.
    """
    from mird.clients.subscriber import Subscriber

    settings = settings_of(args).settings
    keys = keys_for(settings, settings.publish)
    return Subscriber(settings.publish, kinds, args.only_source, args.only_channel, args.max_age, keys)


def _channel(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{text!r}: must be the number of a channel; channels count from 1")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: not a time above 0 s")
    return number
