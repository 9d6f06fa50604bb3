"""``mird train --reproduce``: the paper's tables on our recordings."""

import argparse
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

LINE_EVERY_S = 60.0
"""Time between two lines about progress where no bar can be drawn."""

N_SPLITS = 3
STOPPED = "stopped; the same command goes on from here"
ON_CPU, ON_GPU = "paper-light", "paper-convolutional,paper-residual,paper-light"


def run_reproduce(args: argparse.Namespace) -> int:
    """Train and test what is not done yet; 130 where it was interrupted."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from mird.daemon.paths import shipped
    from mird.training.errors import TrainingError

    try:
        from mird.training.contenders import TRANSFORMS, Contender, OwnContender, PairContender
        from mird.training.paper import PaperRecipe, read_paper_recipe
        from mird.training.paper_tables import TABLES
        from mird.training.recipe import Recipe, read_recipe
        from mird.training.reproduce import reproduce, rows_of
        from mird.training.run import check_machine
        from mird.training.table_peers import TablePeers
    except ModuleNotFoundError as error:
        raise TrainingError(f"training needs {error.name}; install it with: pip install 'mird[train]'") from None
    from mird.training.baselines import read_peers
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
    if args.rows and len(set(args.rows)) < len(args.rows):
        raise TrainingError(f"--rows {' '.join(map(str, args.rows))}: name each once")
    table, cache = TABLES[args.reproduce], args.cache or args.out / "cache"
    recipes: dict[str, PaperRecipe | Recipe] = {}
    for name in (args.recipe or (ON_GPU if args.device.startswith("cuda") else ON_CPU)).split(","):
        file = Path(name) if Path(name).suffix else shipped(f"recipes/{name}.toml")
        changes = {} if args.steps is None else {"n_steps": args.steps}
        recipe: PaperRecipe | Recipe
        if "pairs" in read_toml(file, "recipe"):
            recipe = read_paper_recipe(file).of_windows(table.n_windows)
            recipe = replace(recipe, pairs=replace(recipe.pairs, **changes))
        else:
            recipe = read_recipe(file)
            recipe = replace(recipe, optimiser=replace(recipe.optimiser, **changes))
        recipes[file.stem] = recipe if args.seed is None else replace(recipe, seed=args.seed)
    if args.rendered and not any(isinstance(recipe, Recipe) for recipe in recipes.values()):
        raise TrainingError("--rendered: the paper's recipes train on the table's recordings alone; leave it out")
    recordings = [row for path in args.manifests for row in read_recordings(path)]
    rows = rows_of(args.reproduce, recordings)
    peers = None
    if args.peers:
        first = args.manifests[0]
        peers = TablePeers(read_peers(args.peers), first if first.is_dir() else first.parent, recordings)
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

            def say(line: str) -> None:
                console.print(line, markup=False, highlight=False, soft_wrap=True)

            def say_now_and_then(line: str) -> None:
                nonlocal line_due_s
                if not console.is_terminal and time.monotonic() >= line_due_s:
                    line_due_s = time.monotonic() + LINE_EVERY_S
                    say(line)

            def progress(done: int, total: int, what: str) -> None:
                bar.update(task, completed=done, total=total, description=what)
                say_now_and_then(f"{done} of {total} cells done; {what}")

            def hear(done: int, total: int, what: str) -> None:
                bar.update(task, description=f"{what}: {done} of {total}")
                say_now_and_then(f"{what}: {done} of {total}")
                if interrupted:
                    raise KeyboardInterrupt

            contenders: dict[str, Contender] = {
                name: PairContender(recipe, rows, cache, args.device, hear)
                if isinstance(recipe, PaperRecipe)
                else OwnContender(
                    recipe, args.manifests, args.rendered, table.classes, args.out, cache, args.device, name, hear
                )
                for name, recipe in recipes.items()
            }
            report = reproduce(
                args.reproduce,
                contenders,
                args.out,
                n_splits=N_SPLITS if args.splits is None else args.splits,
                device=args.device,
                progress=progress,
                stop=lambda: interrupted,
                pictures=[args.picture] if args.picture else list(TRANSFORMS),
                rows=args.rows,
                peers=peers,
                report_left_out=lambda line: say(f"left out: {line}"),
            )
    except KeyboardInterrupt:
        console.print(STOPPED, highlight=False)
        return 130
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    if interrupted:
        console.print(STOPPED, highlight=False)
    print(report)
    return 130 if interrupted else 0
