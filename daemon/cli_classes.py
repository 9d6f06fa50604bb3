"""``mird classes``: what is known; renaming, forgetting, undoing."""

import argparse
import json
from typing import Any

from mird.daemon.cli_settings import add_setting_arguments, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    verbs = parser.add_subparsers(dest="verb", metavar="{list,rename,forget,undo}")
    listing = verbs.add_parser("list", help="the classes and their shots (default)")
    rename = verbs.add_parser("rename", help="give a class another name")
    rename.add_argument("old", metavar="OLD")
    rename.add_argument("new", metavar="NEW")
    forget = verbs.add_parser("forget", help="leave a class out")
    forget.add_argument("name", metavar="NAME")
    undo = verbs.add_parser("undo", help="take the last change back")
    for each in (parser, listing, rename, forget, undo):
        # Given after the verb or before it: a verb's own default must not hide what stands before it.
        default = False if each is parser else argparse.SUPPRESS
        each.add_argument("--json", action="store_true", default=default, help="one JSON object a class")
    add_setting_arguments(parser, "engine", "support", "control")


def run(args: argparse.Namespace) -> int:
    """Ask the running daemon, or edit the file where none runs; then print the classes."""
    from mird.daemon.cli_target import open_target

    with open_target(settings_of(args).settings) as classes:
        if args.verb == "rename":
            listing = classes.request("rename", old=args.old, new=args.new)
        elif args.verb == "forget":
            listing = classes.request("forget", name=args.name)
        elif args.verb == "undo":
            listing = classes.request("undo")
        else:
            listing = classes.request("classes")
    _print(listing, as_json=args.json)
    return 0


def _print(listing: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        for known in listing["classes"]:
            print(json.dumps(known, ensure_ascii=False))
        return
    width = max((len(known["name"]) for known in listing["classes"]), default=0)
    for known in listing["classes"]:
        shots = f"{known['n_shots']} shot{'s' if known['n_shots'] != 1 else ''}"
        print(f"{known['name']:<{width}}  {shots:>9}  {', '.join(known['origins'])}")
    if not listing["classes"]:
        print("no classes; teach one with: mird enroll NAME CLIP")
