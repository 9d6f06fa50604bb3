"""``mird train --reproduce``: the paper's tables on our recordings."""

import argparse
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

LINE_EVERY_S = 60.0
"""Time between two lines about progress where no bar can be drawn."""

ON_CPU, ON_GPU = "paper-light", "paper-convolutional,paper-residual,paper-light"


def run_reproduce(args: argparse.Namespace) -> int:
    """Train and test what is not done yet; 130 where it was interrupted."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from mird.daemon.paths import shipped
    from mird.training.errors import TrainingError

    try:
        from mird.training.contenders import TRANSFORMS, Contender, OwnContender, PairContender
        from mird.training.paper import read_paper_recipe
        from mird.training.recipe import read_recipe
        from mird.training.reproduce import TABLES, reproduce, rows_of
        from mird.training.run import check_machine
    except ModuleNotFoundError as error:
        raise TrainingError(f"training needs {error.name}; install it with: pip install 'mird[train]'") from None
    from mird.training.layouts import read_recordings
    from mird.training.tables import read_toml

    if args.start is not None:
        raise TrainingError("--start: the paper's tables start from random weights; leave it out with --reproduce")
    for option in ("name", "tensorboard"):
        if getattr(args, option):
            raise TrainingError(f"--{option}: a table has no use for it; leave it out with --reproduce")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError("--reproduce: one process fills a table; start a command for each --picture, not torchrun")
    for option, least in (("splits", 1), ("steps", 1), ("seed", 0)):
        value = getattr(args, option)
        if value is not None and value < least:
            raise TrainingError(f"--{option} {value}: must be at least {least}")
    check_machine(args.device, args.threads)
    recordings = [row for path in args.manifests for row in read_recordings(path)]
    contenders: dict[str, Contender] = {}
    for name in (args.recipe or (ON_GPU if args.device.startswith("cuda") else ON_CPU)).split(","):
        file = Path(name) if Path(name).suffix else shipped(f"recipes/{name}.toml")
        of_paper = "pairs" in read_toml(file, "recipe")
        rows = rows_of(args.reproduce, recordings)
        if of_paper:
            recipe = read_paper_recipe(file).of_windows(TABLES[args.reproduce].n_windows)
            if args.seed is not None:
                recipe = replace(recipe, seed=args.seed)
            if args.steps is not None:
                recipe = replace(recipe, pairs=replace(recipe.pairs, n_steps=args.steps))
            contenders[file.stem] = PairContender(recipe, rows, args.cache or args.out / "cache", args.device)
        else:
            own = read_recipe(file)
            if args.seed is not None:
                own = replace(own, seed=args.seed)
            if args.steps is not None:
                own = replace(own, optimiser=replace(own.optimiser, n_steps=args.steps))
            contenders[file.stem] = OwnContender(
                own,
                args.manifests,
                args.rendered,
                TABLES[args.reproduce].classes,
                args.out,
                args.cache or args.out / "cache",
                args.device,
                file.stem,
            )
    if args.rendered and not any(isinstance(each, OwnContender) for each in contenders.values()):
        raise TrainingError("--rendered: the paper's recipes train on the table's recordings alone; leave it out")
    console = Console(stderr=True)
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True

    before = [(number, signal.signal(number, interrupt)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("cells")
            line_due_s = 0.0

            def progress(done: int, total: int, what: str) -> None:
                nonlocal line_due_s
                bar.update(task, completed=done, total=total, description=what)
                if not console.is_terminal and time.monotonic() >= line_due_s:
                    line_due_s = time.monotonic() + LINE_EVERY_S
                    console.print(
                        f"{done} of {total} cells done; {what}", markup=False, highlight=False, soft_wrap=True
                    )

            report = reproduce(
                args.reproduce,
                contenders,
                args.out,
                n_splits=args.splits,
                device=args.device,
                progress=progress,
                stop=lambda: interrupted,
                pictures=[args.picture] if args.picture else list(TRANSFORMS),
                rows=args.rows,
            )
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    if interrupted:
        console.print("stopped; the same command goes on from here", highlight=False)
    print(report)
    return 130 if interrupted else 0
