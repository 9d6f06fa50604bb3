"""``mird classes``: what is known; renaming, forgetting, thresholds, undoing."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mird.daemon.cli_settings import add_setting_arguments, settings_of

TAKEN_BACK = "`mird classes undo` takes it back"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    verbs = parser.add_subparsers(dest="verb", metavar="{list,rename,forget,threshold,undo,build}")

    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        # Options may stand before the verb or after it: a verb's own default must not hide what stands before it.
        return verbs.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=parser.epilog,
            argument_default=argparse.SUPPRESS, allow_abbrev=False,
        )  # fmt: skip

    listing = verb("list", "show the classes and their shots (default)")
    rename = verb("rename", "give a class another name")
    rename.add_argument("old", metavar="OLD", help="a class that is known")
    rename.add_argument("new", metavar="NEW", help="a name that no class has")
    forget = verb("forget", "leave a class out")
    forget.add_argument("name", metavar="NAME", help="a class that is known")
    threshold = verb("threshold", "set the score that a class needs")
    threshold.add_argument("name", metavar="NAME", help="a class that is known")
    threshold.add_argument("value", type=_threshold, metavar="VALUE", help="0 to 1; none: as in the settings")
    undo = verb("undo", "take the last change back")
    build = verb("build", "make a new support set out of manifests")
    build.add_argument(
        "manifests", nargs="+", type=Path, metavar="MANIFEST.csv", help="with the columns path,class,source"
    )
    build.add_argument("--out", required=True, type=Path, metavar="FILE", help="support set to write")
    build.add_argument("--only", default="", metavar="a,b,...", help="classes (default: every instrument)")
    build.add_argument("--leave-out", default="", metavar="a,b,...", help="sources that are left out")
    build.add_argument("--shots", type=int, default=16, metavar="N", help="shots a class, sources in turn (default 16)")
    build.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the choice (default 0)")
    for each in (parser, listing, rename, forget, threshold, undo):
        default = False if each is parser else argparse.SUPPRESS
        each.add_argument(
            "--json", action="store_true", default=default, help="one JSON object a class and line, also after a change"
        )
        add_setting_arguments(each, "engine", "support", "control")
    add_setting_arguments(build, "engine")


def run(args: argparse.Namespace) -> int:
    """Ask the running daemon, or edit the file where none runs; then print the classes, or what was done."""
    from mird.daemon.cli_target import open_target

    if args.verb == "build":
        return _build(args)
    with open_target(settings_of(args).settings) as classes:
        if args.verb == "rename":
            listing = classes.request("rename", old=args.old, new=args.new)
            done = f"{args.old!r} is {args.new!r} now; {TAKEN_BACK}"
        elif args.verb == "forget":
            listing = classes.request("forget", name=args.name)
            done = f"{args.name!r} is forgotten; {TAKEN_BACK}"
        elif args.verb == "threshold":
            listing = classes.request("threshold", name=args.name, value=args.value)
            needs = "the score that the settings say" if args.value is None else f"a score of {args.value:g}"
            done = f"{args.name!r} needs {needs}; {TAKEN_BACK}"
        elif args.verb == "undo":
            listing = classes.request("undo")
            done = f"the last change is taken back; changes before it that can be: {listing['n_undoable']}"
        else:
            listing = classes.request("classes")
            done = ""
    if done and not args.json:
        print(done)
    else:
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
        threshold = f"  [threshold {known['threshold']:g}]" if known["has_threshold"] else ""
        print(f"{known['name']:<{width}}  {shots:>9}  {', '.join(known['origins'])}{threshold}")
    if not listing["classes"]:
        print("no classes; teach one with: mird enroll NAME CLIP")


def _threshold(text: str) -> float | None:
    if text.lower() == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number from 0 to 1, or none")
    return value


def _build(args: argparse.Namespace) -> int:
    """Embed clips of each class, its sources in turn, and write them as a support set without history."""
    import time

    from mird.daemon import support
    from mird.daemon.assembly import open_engine
    from mird.daemon.shot import Shot
    from mird.daemon.support_set import SupportClass, SupportSet, check_class_name
    from mird.kernels.recognizer import Recognizer
    from mird.training.errors import TrainingError
    from mird.training.evaluate import embed_recordings
    from mird.training.layouts import read_recordings
    from mird.training.manifest import choose_by_source

    recognizer = Recognizer(open_engine(settings_of(args).settings))
    away, only = _names(args.leave_out), _names(args.only)
    rows = [
        row
        for path in args.manifests
        for row in read_recordings(path)
        if row.source not in away and (row.label in only if only else row.is_instrument)
    ]
    absent = only - {row.label for row in rows}
    if absent or not rows:
        raise TrainingError(f"class {', '.join(sorted(absent)) or 'of an instrument'} does not occur in the manifests")
    if args.shots < 1 or args.seed < 0:
        raise TrainingError(f"--shots {args.shots} --seed {args.seed}: must be at least 1 and 0")
    now_ns = time.time_ns()
    classes = []
    for label in sorted({row.label for row in rows}):
        chosen = choose_by_source([row for row in rows if row.label == label], args.shots, args.seed)
        embedded = embed_recordings(chosen, recognizer)
        for line in embedded.left_out():
            print(line, file=sys.stderr)
        shots = tuple(
            Shot(vectors[0], row.source, now_ns + number)  # each clip of a moment, and so a recording, of its own
            for number, (row, vectors) in enumerate(zip(embedded.recordings, embedded.vectors, strict=True))
        )
        if shots:
            classes.append(SupportClass(check_class_name(label), shots))
    if not classes:
        raise TrainingError("none of the chosen clips can be a shot: each is damaged or without sound")
    card = recognizer.card
    support.save(SupportSet(card.fingerprint, len(card.head.gamma), tuple(classes)), args.out)
    print(f"{args.out}: {len(classes)} classes, {sum(len(c.shots) for c in classes)} shots")
    return 0


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",") if name.strip()}
