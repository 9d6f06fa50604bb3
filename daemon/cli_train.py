"""``mird train``: an encoder from recordings, by a recipe."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from mird.training.distributed import World
    from mird.training.recipe import Recipe

EPILOG = """\
The folder of --out gets split.csv (which clip is for what), checkpoint.pt while training goes on (every 500 steps;
--resume goes on from it), and at its end encoder.onnx (float32), encoder-int8.onnx and run.json. Either ONNX file can
be named as the setting `engine`.
Interrupting (Ctrl-C) leaves a checkpoint. Several GPUs, machines or cores train together under torchrun, each with
batches of its own: torchrun --nproc-per-node 2 --no-python mird train ...

`mird --help` lists the exit statuses.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "manifests",
        nargs="+",
        type=Path,
        metavar="MANIFEST.csv",
        help="with the columns path,class,source; or a folder with a folder for each class, IRMAS among them",
    )
    parser.add_argument(
        "--recipe", metavar="NAME|FILE",
        help="a shipped recipe or a TOML file (default: default; with --reproduce several by commas, "
        "mird's own among them, by default paper-light, and on a GPU all three of the paper's)",
    )  # fmt: skip
    parser.add_argument(
        "--rendered",
        action="append",
        default=[],
        type=Path,
        metavar="MANIFEST.csv",
        help="clips of `mird render`; may be repeated",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="the run's folder")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="picture cache (default: OUT/cache)")
    parser.add_argument(
        "--name", default="", metavar="NAME", help="the encoder's name in messages (default: the recipe's)"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="steps in the place of the recipe's")
    parser.add_argument(
        "--start", type=Path, metavar="FILE.onnx",
        help="go on from this encoder's weights, in the place of random ones; with --steps 0 only fit it anew",
    )  # fmt: skip
    parser.add_argument(
        "--hold-out", metavar="SOURCES",
        help="sources never trained on, by commas, that the engine is calibrated on, in the place of the recipe's; "
        "'none' for none: it is then calibrated on the clips that it was trained on",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", help="seed in the place of the recipe's")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument("--device", default="cpu", help="torch device (default cpu)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default 1)")
    parser.add_argument(
        "--tensorboard", type=Path, metavar="FOLDER", help="log loss, accuracy and rate for TensorBoard there"
    )
    paper = parser.add_argument_group("the paper's tables, cell by cell; every cell that is done is kept")
    paper.add_argument(
        "--reproduce", choices=["table3", "table4"], help="train and test the table's cells, write report.md"
    )
    paper.add_argument("--splits", type=int, metavar="N", help="class splits of each row (default 3)")
    paper.add_argument(
        "--rows", type=int, action="extend", nargs="+", default=[], metavar="N",
        help="only those that train on N classes (default: all)",
    )  # fmt: skip
    paper.add_argument(
        "--picture", choices=["scalogram", "spectrogram"],
        help="only that one; two commands may then fill one folder side by side (default: both)",
    )  # fmt: skip
    paper.add_argument(
        "--peers", action="append", default=[], type=Path, metavar="FILE.npz",
        help="vectors of other networks, as of `mird evaluate --suite`, that answer the same tasks; may be repeated, "
        "and added to cells that are done",
    )  # fmt: skip
    parser.epilog = EPILOG


def run(args: argparse.Namespace) -> int:
    """Train, fit and export."""
    from mird.training.errors import TrainingError

    if args.reproduce is not None:
        from mird.daemon.cli_train_paper import run_reproduce

        if args.hold_out is not None:
            raise TrainingError("--hold-out: the paper's tables split by class; leave it out with --reproduce")
        return run_reproduce(args)
    given = [f"--{name}" for name in ("splits", "rows", "picture", "peers") if getattr(args, name) not in (None, [])]
    if given:
        raise TrainingError(f"{', '.join(given)}: of the paper's tables; leave it out, or give --reproduce too")
    from rich.console import Console

    from mird.daemon.paths import shipped

    try:
        from mird.training.distributed import join_world
        from mird.training.recipe import read_recipe
        from mird.training.run import CHECKPOINT, check_machine, check_start
    except ModuleNotFoundError as error:
        raise TrainingError(f"training needs {error.name}; install it with: pip install 'mird[train]'") from None
    name = args.recipe or "default"
    recipe_file = Path(name) if Path(name).suffix else shipped(f"recipes/{name}.toml")
    recipe = read_recipe(recipe_file)
    if args.steps is not None:
        least = 1 if args.start is None else 0
        if args.steps < least:
            raise TrainingError(f"--steps {args.steps}: must be at least {least}")
        recipe = replace(recipe, optimiser=replace(recipe.optimiser, n_steps=args.steps))
    if args.seed is not None:
        if args.seed < 0:
            raise TrainingError(f"--seed {args.seed}: must be at least 0")
        recipe = replace(recipe, seed=args.seed)
    if args.hold_out is not None:
        recipe = replace(recipe, data=replace(recipe.data, held_out_sources=_sources(args.hold_out)))
    if args.start is not None and not args.start.is_file():
        raise TrainingError(f"--start {args.start}: no such file; name an encoder.onnx that mird train made")
    check_start(args.out, resume=args.resume)
    world, device = join_world(args.device)
    check_machine(device, args.threads)
    console = Console(stderr=True, quiet=not world.is_first)
    try:
        return _train(args, recipe, args.name or recipe_file.stem, world, device, console)
    except KeyboardInterrupt:
        kept = (args.out / CHECKPOINT).exists()
        console.print("stopped; go on with --resume" if kept else "stopped before the first step; start again")
        return 130


def _train(args: argparse.Namespace, recipe: Recipe, name: str, world: World, device: str, console: Console) -> int:
    """All that takes long; KeyboardInterrupt where it is ended while it computes pictures, fits or exports."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mird.training.distributed import leave_world
    from mird.training.log import TrainingLog
    from mird.training.run import finish, load_data, train
    from mird.training.trainer import StepReport

    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # The others wait for the first one in calls that no handler gets into: the system ends them.
    at_once = signal.default_int_handler if world.is_first else signal.SIG_DFL
    # Only noted but for two stretches: an exception amid the bar's or the checkpoint's last lines would spoil them.
    with _handled(interrupt):
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("data")

            def progress(done: int, total: int, what: str) -> None:
                bar.update(task, completed=done, total=total, description=what)

            cache = args.cache or args.out / "cache"
            with _handled(at_once):
                data = world.first_then_others(
                    lambda: load_data(args.manifests, args.rendered, recipe, cache, progress)
                )
            for line in data.damaged:
                console.print(f"left out: {line}", markup=False, highlight=False, soft_wrap=True)
            for silent in data.silent:
                console.print(f"left out, without sound: {silent.path}", markup=False, highlight=False, soft_wrap=True)
            if single := data.single():
                console.print(f"only one clip: {single}", markup=False, highlight=False, soft_wrap=True)

            log = TrainingLog(args.tensorboard if world.is_first else None)

            def on_step(report: StepReport) -> None:
                log.add(report)
                what = f"loss {report.loss:.3f} accuracy {report.accuracy:.3f}"
                bar.update(task, completed=report.step, total=recipe.optimiser.n_steps, description=what)
                if not console.is_terminal and report.step % 500 == 0:
                    console.print(f"step {report.step}: {what}", highlight=False)

            with log:
                trainer = train(
                    recipe,
                    data,
                    args.out,
                    device=device,
                    world=world,
                    resume=args.resume,
                    start=args.start,
                    on_step=on_step,
                    stop=lambda: interrupted,
                )
        leave_world(world)
        with _handled(at_once):
            if interrupted or trainer.step < recipe.optimiser.n_steps:
                console.print(f"stopped at step {trainer.step}; go on with --resume", highlight=False)
                return 130
            if not world.is_first:
                return 0
            card = finish(recipe, data, trainer, name)
    done = f"{args.out}: {card.name}, fingerprint {card.fingerprint}, unknown below {card.unknown_threshold:.3f}"
    console.print(done, markup=False, highlight=False, soft_wrap=True)
    return 0


@contextmanager
def _handled(handler: Callable[..., object] | signal.Handlers) -> Iterator[None]:
    """SIGINT and SIGTERM go to ``handler`` within the block."""
    before = [(number, signal.signal(number, handler)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, old in before:
            signal.signal(number, old)


def _sources(text: str) -> tuple[str, ...]:
    """The sources that --hold-out names."""
    from mird.training.errors import TrainingError

    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise TrainingError(f"--hold-out {text!r}: must be names of sources with commas between, or 'none'")
    return () if names == ("none",) else names
