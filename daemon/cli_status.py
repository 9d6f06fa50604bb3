"""``mird status``: what a running daemon is doing, and what each channel hears."""

import argparse
from typing import Any

from mird.daemon.cli_settings import add_setting_arguments, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_setting_arguments(parser, "control")


def run(args: argparse.Namespace) -> int:
    """Ask the daemon, and print what it answers."""
    import json

    from mird.daemon.cli_target import open_control

    with open_control(settings_of(args).settings) as daemon:
        status, levels = daemon.status(), daemon.levels()
    if args.json:
        print(json.dumps({**status, "channels": levels["channels"]}, ensure_ascii=False))
        return 0
    rows: dict[str, Any] = {
        status["state"]: status["detail"],
        "mird": f"{status['version']}, up for {status['uptime_s']:.0f} s",
        "engine": status["engine"],
        "support": f"{status['support']}, revision {status['revision']}",
        "publish": status["publish"],
        **{f"channel {row['channel']}": _channel(row) for row in levels["channels"]},
        "counters": ", ".join(f"{name} {count}" for name, count in status["counters"].items()),
    }
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:<{width}}  {text}")
    return 0


def _channel(row: dict[str, Any]) -> str:
    level = f"{row['rms_dbfs']:.1f} dBFS, peak {row['peak_dbfs']:.1f}, silent below {row['silence_dbfs']:.1f}"
    return f"{row['label']} {row['confidence']:.2f}, {level}"
