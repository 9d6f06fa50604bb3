"""``mird calibrate``: set a running daemon's silence gates from room tone."""

import argparse
from typing import Any

from mird.daemon.cli_settings import add_setting_arguments, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "seconds", nargs="?", type=_seconds, default=5.0, metavar="SECONDS", help="of room tone, 1 to 60 (default 5)"
    )
    parser.add_argument("--reset", action="store_true", help="back to silence_dbfs on every channel of the source")
    parser.add_argument("--json", action="store_true", help="one JSON object a channel and line")
    add_setting_arguments(parser, "control")


def run(args: argparse.Namespace) -> int:
    """Wait while the room is silent, ask the daemon, and print each channel's gate; 5 where one could not be set."""
    import json
    import sys
    import time

    from mird.daemon.cli_target import open_control
    from mird.daemon.errors import ClipError

    with open_control(settings_of(args).settings) as daemon:
        if args.reset:
            daemon.request("calibrate", reset=True)
            print("every channel is silent below silence_dbfs again", file=sys.stderr)
            return 0
        daemon.status()  # whether there is one is known before anybody waits
        print(f"be silent for {args.seconds:g} s ...", file=sys.stderr, flush=True)
        time.sleep(args.seconds)
        told = daemon.calibrate(args.seconds)
    for row in told["channels"]:
        print(json.dumps(row, ensure_ascii=False) if args.json else _line(row))
    without = [row for row in told["channels"] if row["silence_dbfs"] is None]
    if without:
        raise ClipError(f"channel {without[0]['channel']} keeps the gate that it had: {without[0]['remark']}")
    return 0


def _line(row: dict[str, Any]) -> str:
    tone = f"channel {row['channel']}: room tone {row['median_dbfs']:.1f} dBFS, loudest {row['loudest_dbfs']:.1f}"
    gate = row["silence_dbfs"]
    return f"{tone}; " + (f"not calibrated: {row['remark']}" if gate is None else f"silent below {gate:.1f} dBFS")


def _seconds(text: str) -> float:
    try:
        number = float(text.removesuffix("s"))
    except ValueError:
        number = 0.0
    if not 1.0 <= number <= 60.0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of seconds from 1 to 60")
    return number
