"""``mird evaluate --suite``: every row of a suite, every system on the same episodes, one report."""

import argparse
import json
from pathlib import Path

from mird.daemon.cli_settings import settings_of

ROWS_OWN = (
    "support_manifest", "way", "shot", "classes", "unknown", "sources", "support_sources", "other_sources",
    "each_window",
)  # fmt: skip
"""Arguments of one evaluation that each row of a suite has of its own."""


def run_suite_command(args: argparse.Namespace) -> int:
    """Measure the suite and write its report, or print one JSON object."""
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.progress import Progress

    from mird.daemon.assembly import SHIPPED_ENGINE
    from mird.daemon.paths import shipped
    from mird.kernels.encoder import Encoder, open_encoder
    from mird.training.baselines import read_peers
    from mird.training.errors import TrainingError
    from mird.training.report import check_report, tables, write_report
    from mird.training.run_suite import run_suite
    from mird.training.suite import read_suite

    given_too = (name for name in ROWS_OWN if (value := getattr(args, name)) not in (None, "") and value is not False)
    unused = [f"--{name.replace('_', '-')}" for name in given_too]
    if unused:
        raise TrainingError(f"{', '.join(unused)}: not used with --suite, each of whose rows has its own; leave it out")
    for option, least in (("episodes", 1), ("seed", 0)):
        if getattr(args, option) < least:
            raise TrainingError(f"--{option} {getattr(args, option)}: must be at least {least}")
    settings = settings_of(args).settings
    file = Path(args.suite)
    suite = read_suite(file if file.suffix else shipped(f"suites/{args.suite}.toml"))
    if args.out is not None:
        check_report(args.out)
    weights: dict[str, dict[str, Encoder]] = {}
    given = [("default", settings.engine or str(shipped(SHIPPED_ENGINE)))]
    for text in args.weights:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise TrainingError(f"--weights {text}: must be NAME=FILE")
        given.append((name, path))
    if not settings.engine and any(name == "default" for name, _ in given[1:]):
        given = given[1:]
    for name, path in given:
        if path in weights.get(name, {}):
            continue
        weights.setdefault(name, {})[path] = open_encoder(Path(path).expanduser(), threads=settings.threads)
    log = Console(stderr=True)
    with Progress(console=log, transient=True, disable=not log.is_terminal) as bar:
        task = bar.add_task("suite")
        results, features = run_suite(
            suite,
            args.queries,
            weights,
            read_peers(args.peers),
            episodes=args.episodes,
            seed=args.seed,
            live=args.live,
            progress=lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
        )
    for name in (*results["broken"], *results["silent"]):
        log.print(f"left out: {name}", markup=False, soft_wrap=True)
    for missed in (missed for row in results["rows"] for missed in row["not_measured"]):
        log.print(f"not measured: {missed['why']}", markup=False, highlight=False, soft_wrap=True)
    if args.out is not None:
        log.print(str(write_report(args.out, results, features)), markup=False, soft_wrap=True)
    if args.json:
        print(json.dumps(results, ensure_ascii=False))
    elif args.out is None:
        Console().print(Markdown("\n".join(tables(results))))
    return 0
