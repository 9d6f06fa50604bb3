"""``mird doctor``: what is wrong on this machine, and what to do."""

import argparse
from typing import Any

from mird.daemon.cli_settings import OPTIONS, SWITCHES, add_setting_arguments, settings_of

MARKS = {"ok": "ok  ", "note": "    ", "warning": "!   ", "error": "FAIL"}
EPILOG = "The exit status is 0 where mird can run, else that which `mird run` would end with: see `mird --help`."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object a finding and line")
    add_setting_arguments(parser, *OPTIONS, *SWITCHES, "class_thresholds")
    parser.epilog = EPILOG


def run(args: argparse.Namespace) -> int:
    """Examine, print each finding as soon as it is made, and end with the first error's status."""
    import json
    from dataclasses import asdict

    from mird.daemon.doctor import Finding, examine
    from mird.daemon.errors import SettingsError

    findings = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if args.json:
            print(json.dumps(asdict(finding), ensure_ascii=False), flush=True)
            return
        print(f"{MARKS[finding.verdict]} {finding.topic:<10} {finding.what}", flush=True)
        if finding.remedy:
            print(f"{'':16}-> {finding.remedy}", flush=True)

    try:
        settings = settings_of(args).settings
    except SettingsError as error:
        what, _, remedy = " ".join(str(error).split()).partition("; ")
        tell(Finding("settings", "error", what, remedy, error.exit_status))
        return error.exit_status
    tell(Finding("settings", "ok", "every setting is known and has a value that it can have"))
    for finding in examine(settings, *_status(settings)):
        tell(finding)
    return next((each.exit_status for each in findings if each.verdict == "error"), 0)


def _status(settings: Any) -> tuple[dict[str, Any] | None, str]:
    """What a running daemon says, and why one that is there does not."""
    from mird.clients.errors import ClientError, DaemonUnreachable
    from mird.daemon.cli_target import open_control

    try:
        with open_control(settings, timeout_s=2.0) as daemon:
            return daemon.request("status"), ""
    except DaemonUnreachable:
        return None, ""
    except ClientError as error:
        return None, str(error)
