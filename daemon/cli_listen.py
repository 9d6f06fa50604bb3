"""``mird listen``: show what a running daemon publishes."""

import argparse

from mird.daemon.cli_settings import add_setting_arguments, settings_of

KINDS = ("frame", "event", "level", "state", "hb")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one message a line, as it is published")
    parser.add_argument(
        "--kind",
        action="append",
        choices=KINDS,
        help="kind of message; may be repeated (default: frame, event and state; all of them on a terminal)",
    )
    parser.add_argument("--only-source", metavar="NAME", help="one source (default: all)")
    parser.add_argument("--only-channel", metavar="N", type=_channel, help="one channel (default: all)")
    parser.add_argument("--max-age", metavar="S", type=_seconds, help="drop what was sent longer ago than this, in s")
    add_setting_arguments(parser, "publish")


def run(args: argparse.Namespace) -> int:
    """Listen until interrupted."""
    import sys

    from mird.clients.listen import form_for, kinds_for, listen
    from mird.clients.subscriber import Subscriber

    endpoint = settings_of(args).settings.publish
    form = form_for(sys.stdout, json=args.json)
    kinds = args.kind or kinds_for(form)
    with Subscriber(endpoint, kinds, args.only_source, args.only_channel, args.max_age) as subscriber:
        listen(subscriber, sys.stdout, form)
    return 0


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
