"""``mird reload``: make a running daemon read its settings and its support set anew."""

import argparse

from mird.daemon.cli_settings import add_setting_arguments, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_setting_arguments(parser, "control")


def run(args: argparse.Namespace) -> int:
    """Ask the daemon, and say what has changed and what needs a restart."""
    import json

    from mird.daemon.cli_target import open_control
    from mird.daemon.reloading import report

    with open_control(settings_of(args).settings) as daemon:
        told = daemon.reload()
    print(json.dumps(told, ensure_ascii=False) if args.json else report(told))
    return 0
