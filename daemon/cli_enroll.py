"""``mird enroll``: teach an instrument from one clip or from the last seconds heard, without a restart."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mird.daemon.cli_settings import add_setting_arguments, settings_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mird.daemon.cli_target import Target
    from mird.daemon.enroll import Clip, EnrolReport

WINDOWS_PER_CLIP = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", metavar="NAME", help="the class: a new one, or one that gets more shots")
    parser.add_argument(
        "clips", nargs="*", type=Path, metavar="CLIP", help="recording of the instrument alone, of any length"
    )
    parser.add_argument(
        "--live", type=_seconds, metavar="SECONDS", help="in the place of a clip: the last 0.5 to 30 s that were heard"
    )
    parser.add_argument(
        "--channel", type=int, metavar="N",
        help="channel, from 1 (default: the loudest of a clip, the only one that is listened to)",
    )  # fmt: skip
    parser.add_argument(
        "--windows", type=_n_windows, default=WINDOWS_PER_CLIP, metavar="N",
        help=f"shots made of a clip at most, 1 to 32 (default {WINDOWS_PER_CLIP})",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object a clip and line")
    add_setting_arguments(parser, "engine", "support", "control")


def run(args: argparse.Namespace) -> int:
    """Read every clip first, then enrol them: a bad clip leaves the support set as it was."""
    import json
    from dataclasses import asdict

    from mird.daemon.cli_target import open_target
    from mird.daemon.enroll import read_clip, windows_of
    from mird.daemon.support_set import check_class_name

    name = check_class_name(args.name)
    if bool(args.clips) == (args.live is not None):
        print("mird: error: give either clips or --live SECONDS; `mird enroll --help` says more", file=sys.stderr)
        return 2
    if args.live is not None:
        return _live(args, name)
    clips = [read_clip(path, args.channel) for path in args.clips]
    with open_target(settings_of(args).settings) as target:
        form = target.request("status")
        ready = [(clip, windows_of(clip, form["rate_hz"], form["window"], args.windows)) for clip in clips]
        for clip, windows in ready:
            report, enrolled = enroll_windows(target, name, clip, windows, form["rate_hz"])
            if args.json:
                print(json.dumps({"clip": clip.name, **asdict(report), **enrolled}, ensure_ascii=False))
            else:
                print(report)
    return 0


def _live(args: argparse.Namespace, name: str) -> int:
    import json

    from mird.daemon.cli_target import open_control

    with open_control(settings_of(args).settings) as daemon:
        told = daemon.enroll_live(name, args.live, args.channel)
    report = told.pop("report")
    print(json.dumps({"clip": "live", **told}, ensure_ascii=False) if args.json else report)
    return 0


def _seconds(text: str) -> float:
    try:
        number = float(text.removesuffix("s"))
    except ValueError:
        number = 0.0
    if not 0.5 <= number <= 30.0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of seconds from 0.5 to 30")
    return number


def enroll_windows(
    target: "Target", name: str, clip: "Clip", windows: "NDArray[np.float32]", rate_hz: int
) -> "tuple[EnrolReport, dict[str, Any]]":
    """Enrol the windows of a clip, shape (n, window), at the front end's rate: the report, and the target's answer."""
    from mird.daemon.enroll import report_of

    enrolled = target.request(
        "enroll",
        name=name,
        rate_hz=rate_hz,
        windows=[window.astype("<f4").tobytes() for window in windows],
        origin=clip.name,
    )
    report = report_of(name, clip, len(windows)).resembling(enrolled["resembles"], enrolled["resemblance"])
    return report, enrolled


def _n_windows(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 32:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from 1 to 32")
    return number
