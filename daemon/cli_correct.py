"""``mird correct``: tell a running daemon what an instrument really was."""

import argparse

from mird.daemon.cli_settings import add_setting_arguments, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", metavar="NAME", help="what it was: a class that is known, or a new one")
    parser.add_argument(
        "--event", metavar="ID", help="event_id of one of the last events (default: what was heard last)"
    )
    parser.add_argument("--channel", type=int, metavar="N", help="channel, from 1 (default: the only one)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_setting_arguments(parser, "control")


def run(args: argparse.Namespace) -> int:
    """Ask the daemon, and say what became of it."""
    import json

    from mird.daemon.cli_target import open_control

    with open_control(settings_of(args).settings) as daemon:
        told = daemon.correct(args.name, args.event, args.channel)
    if args.json:
        print(json.dumps(told, ensure_ascii=False))
        return 0
    shots = f"{told['n_added']} shot{'s' if told['n_added'] != 1 else ''}"
    what = f"event {told['event_id']} ({told['was']})" if told["event_id"] else f"what was {told['was']}"
    print(f"{told['name']}: {shots} from {what} on channel {told['channel']}, {told['n_shots']} in all")
    return 0
