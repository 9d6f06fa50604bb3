"""``mird devices``: the sound inputs of this machine, by the names that ``--source device:PATTERN`` matches."""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object an input and line")


def run(args: argparse.Namespace) -> int:
    """Print a line an input, the default one marked."""
    from dataclasses import asdict

    from mird.daemon.devices import list_inputs

    inputs = list_inputs()
    if args.json:
        for device in inputs:
            print(json.dumps(asdict(device), ensure_ascii=False))
        return 0
    if not inputs:
        print("no sound inputs: plug one in, or listen to a file with --source file:PATH")
        return 0
    width = max(len(device.name) for device in inputs)
    for device in inputs:
        mark = "*" if device.is_default else " "
        channels = f"{device.n_inputs} channel{'s' if device.n_inputs > 1 else ''}"
        print(f"{mark} {device.name:<{width}}  {channels:>12}  {device.default_rate_hz:>6} Hz  {device.host_api}")
    print("* the default input; listen to another with --source device:PART-OF-ITS-NAME")
    return 0
