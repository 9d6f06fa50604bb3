"""``mird record``: write a running show down."""

import argparse
import math
from pathlib import Path

from mird.daemon.cli_bridge import run_bridge
from mird.daemon.cli_subscription import add_subscription_arguments

FORMATS = ("json", "audacity", "setlist")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where files are written, new ones at each start")
    parser.add_argument("--format", action="append", choices=FORMATS, help="may be repeated (default: all of them)")
    add_subscription_arguments(parser, default_kinds="in the JSON lines: event and state")


def run(args: argparse.Namespace) -> int:
    """Write until interrupted."""
    from mird.clients.presence import Presence
    from mird.clients.record import RecordOutlet

    kinds = tuple(args.kind or ("event", "state"))
    return run_bridge(
        args,
        lambda: RecordOutlet(args.folder, args.format or FORMATS, kinds),
        kinds,
        Presence(lost_after_s=math.inf),
    )
