"""``mird config``: the settings in force and where each came from."""

import argparse
import json
from typing import Any

from mird.daemon.cli_settings import OPTIONS, SWITCHES, add_setting_arguments, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object a setting and line")
    add_setting_arguments(parser, *OPTIONS, *SWITCHES, "class_thresholds")


def run(args: argparse.Namespace) -> int:
    """Print the settings, in TOML that a settings file could hold or as JSON lines."""
    from mird.daemon.paths import control_endpoint, settings_files, support_file
    from mird.daemon.source import shown

    effective = settings_of(args)
    values: dict[str, Any] = {
        name: shown(value) if isinstance(value, str) else value
        for name, value in effective.settings.model_dump().items()
    }
    thresholds = values.pop("class_thresholds")
    rows = [(name, value, effective.origins.get(name, "default")) for name, value in values.items()]
    shares = [(label, score, effective.origins[f"class_thresholds.{label}"]) for label, score in thresholds.items()]
    if args.json:
        for name, value, origin in [*rows, *((f"class_thresholds.{label}", *rest) for label, *rest in shares)]:
            print(json.dumps({"setting": name, "value": value, "origin": origin}, ensure_ascii=False))
        return 0
    for path in settings_files():
        print(f"# {path}{'' if path.exists() else ' (none)'}")
    meanings = {"control": control_endpoint(), "support": str(support_file()), "unknown_threshold": "the encoder's"}
    for name, value, origin in rows:
        meaning = f": {meanings[name]}" if value in ("", None) and name in meanings else ""
        line = f"# {name} =" if value is None else f"{name} = {json.dumps(value, ensure_ascii=False)}"
        print(f"{line}  # {origin}{meaning}")
    if shares:
        print("\n[class_thresholds]")
    for label, score, origin in shares:
        print(f"{json.dumps(label, ensure_ascii=False)} = {score}  # {origin}")
    return 0
