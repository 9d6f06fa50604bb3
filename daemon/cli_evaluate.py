"""``mird evaluate``: N-way K-shot accuracy of an engine, through the recognizer that the daemon runs."""

import argparse
import json
from pathlib import Path
from typing import Any

from mird.daemon.cli_settings import add_setting_arguments, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "queries", type=Path, metavar="QUERIES.csv",
        help="manifest with the columns path,class,source; with --suite: the folder of its manifests",
    )  # fmt: skip
    parser.add_argument(
        "--support-manifest", type=Path, metavar="SUPPORT.csv",
        help="manifest that the shots come from (default: other takes of QUERIES.csv)",
    )  # fmt: skip
    parser.add_argument("--way", metavar="N", help="classes in an episode, or all (default)")
    parser.add_argument("--shot", type=int, metavar="K", help="support clips a class (default 1)")
    parser.add_argument("--episodes", type=int, default=600, metavar="N", help="episodes (default 600)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draws (default 0)")
    parser.add_argument(
        "--classes", default="", metavar="a,b,...", help="classes (default: every instrument of both manifests)"
    )
    parser.add_argument("--unknown", default="", metavar="x,y,...", help="classes that are asked but never enrolled")
    parser.add_argument("--sources", default="", metavar="a,b,...", help="use these sources of QUERIES.csv only")
    parser.add_argument("--support-sources", default="", metavar="a,b,...", help="the same for SUPPORT.csv")
    parser.add_argument(
        "--other-sources",
        action="store_true",
        help="shots come from other sources than the query, not from other takes only",
    )
    parser.add_argument(
        "--each-window",
        action="store_true",
        help="every window of a recording is a query or a shot (default: a recording counts through the mean of its)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object in the place of the tables")
    suite = parser.add_argument_group("a whole suite, with a report")
    suite.add_argument("--suite", metavar="NAME|FILE", help="a shipped suite (standard) or a TOML file")
    suite.add_argument("--out", type=Path, metavar="FOLDER", help="gets report.md, results.json and pictures")
    suite.add_argument(
        "--peers", action="append", default=[], type=Path, metavar="FILE.npz",
        help="vectors of other networks, answered with on the same episodes; may be repeated",
    )  # fmt: skip
    suite.add_argument(
        "--weights", action="append", default=[], metavar="NAME=FILE",
        help="an encoder for the rows of these weights; repeated with one name: seeds of training",
    )  # fmt: skip
    suite.add_argument("--no-live", dest="live", action="store_false", help="leave live-like input out")
    add_setting_arguments(parser, "engine", "threads")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    if args.suite is not None:
        from mird.daemon.cli_evaluate_suite import run_suite_command

        return run_suite_command(args)
    from rich.console import Console
    from rich.progress import Progress

    from mird.daemon.assembly import open_engine
    from mird.kernels.recognizer import Recognizer
    from mird.training.errors import TrainingError
    from mird.training.evaluate import EvaluationSettings, embed_recordings, evaluate
    from mird.training.layouts import read_recordings
    from mird.training.manifest import Recording

    unused = [
        name for name, given in (("--out", args.out), ("--peers", args.peers), ("--weights", args.weights)) if given
    ]
    if unused:
        raise TrainingError(f"{unused[0]}: belongs to --suite, and none is given")
    way, shot = args.way or "all", 1 if args.shot is None else args.shot
    if way != "all" and not (way.isascii() and way.isdigit() and int(way) >= 2):
        raise TrainingError(f"--way {way}: must be all or a number from 2")
    for option, value, least in (("shot", shot, 1), ("episodes", args.episodes, 1), ("seed", args.seed, 0)):
        if value < least:
            raise TrainingError(f"--{option} {value}: must be at least {least}")
    if args.support_sources and args.support_manifest is None:
        raise TrainingError("--support-sources: chooses from the manifest of --support-manifest, and none is given")
    settings = EvaluationSettings(
        None if way == "all" else int(way),
        shot,
        args.episodes,
        args.seed,
        _names(args.classes),
        _names(args.unknown),
        other_sources=args.other_sources,
    )
    recognizer = Recognizer(open_engine(settings_of(args).settings))
    log = Console(stderr=True)

    def chosen(path: Path, sources: str, classes: tuple[str, ...]) -> tuple[Recording, ...]:
        rows = read_recordings(path)
        wanted = set(_names(sources))
        missing = wanted - {row.source for row in rows}
        if missing:
            raise TrainingError(f"{path}: source {', '.join(sorted(missing))} does not occur")
        kept = [row for row in rows if not wanted or row.source in wanted]
        absent = [name for name in classes if name not in {row.label for row in kept}]
        if absent:
            raise TrainingError(f"{path}: class {', '.join(absent)} does not occur")
        asked = classes or tuple(row.label for row in kept if row.is_instrument)
        return tuple(row for row in kept if row.label in {*asked, *settings.unknown})

    def embedded(path: Path, sources: str, classes: tuple[str, ...], what: str) -> Any:
        rows = chosen(path, sources, classes)
        with Progress(console=log, transient=True, disable=not log.is_terminal) as bar:
            task = bar.add_task(what, total=len(rows))
            result = embed_recordings(
                rows,
                recognizer,
                lambda done, _: bar.update(task, completed=done),
                each_window=args.each_window,
            )
        for line in result.left_out():
            log.print(line, markup=False, highlight=False, soft_wrap=True)
        return result

    query = embedded(args.queries, args.sources, settings.classes, "embedding queries")
    support = None
    if args.support_manifest is not None:
        support = embedded(args.support_manifest, args.support_sources, settings.classes, "embedding support")
    result = evaluate(query, support, recognizer, settings)
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        _print_tables(result, f"{recognizer.name}: {recognizer.card.name}, {recognizer.card.fingerprint}")
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _print_tables(result: dict[str, Any], engine: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    low, high = result["ci95"]
    console.print(
        f"{result['way']}-way {result['shot']}-shot, {result['episodes']} episodes: "
        f"[bold]{100 * result['accuracy']:.1f} %[/bold] (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    )
    if result["auroc_unknown"] is not None:
        console.print(f"unknown: AUROC {result['auroc_unknown']:.3f}")
    console.print(f"engine: {engine}", highlight=False, markup=False)
    table = Table("class", "right", "taken for")
    for label, right in result["per_class"].items():
        counts = result["confusion"][label]
        total = sum(counts.values())
        wrong = sorted(((n, other) for other, n in counts.items() if other != label), reverse=True)[:3]
        table.add_row(
            escape(label),
            f"{100 * right:.0f} %",
            escape(", ".join(f"{other} {100 * n / total:.0f} %" for n, other in wrong)),
        )
    console.print(table)
