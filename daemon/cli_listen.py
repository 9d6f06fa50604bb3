"""``mird listen``: show what a running daemon publishes."""

import argparse

from mird.daemon.cli_subscription import add_subscription_arguments, open_subscriber


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object a message and line")
    add_subscription_arguments(parser, default_kinds="frame, event and state; all of them on a terminal")


def run(args: argparse.Namespace) -> int:
    """Listen until interrupted."""
    import sys

    from mird.clients.listen import form_for, kinds_for, listen

    form = form_for(sys.stdout, json=args.json)
    with open_subscriber(args, args.kind or kinds_for(form)) as subscriber:
        listen(subscriber, sys.stdout, form)
    return 0
