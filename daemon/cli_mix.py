"""``mird mix``: three-second excerpts of a predominant instrument over others, as IRMAS has them."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "manifests", nargs="+", type=Path, metavar="MANIFEST.csv", help="single notes, by class and source"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="gets the excerpts and manifest.csv")
    parser.add_argument(
        "--each", type=int, default=388, metavar="N", help="excerpts of each class (default 388, as the paper)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="decides everything (default 1)")


def run(args: argparse.Namespace) -> int:
    """Mix."""
    from rich.console import Console
    from rich.progress import Progress

    from mird.training.errors import TrainingError
    from mird.training.layouts import read_recordings
    from mird.training.mix import mix_excerpts

    for option, least in (("each", 1), ("seed", 0)):
        if getattr(args, option) < least:
            raise TrainingError(f"--{option} {getattr(args, option)}: must be at least {least}")
    recordings = [row for path in args.manifests for row in read_recordings(path)]
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("mixing")
        manifest = mix_excerpts(
            recordings,
            args.out,
            n_each=args.each,
            seed=args.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            report=lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
        )
    print(manifest)
    return 0
