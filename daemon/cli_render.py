"""``mird render``: training clips out of soundfonts, and of what is no instrument."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "soundfonts",
        nargs="*",
        type=Path,
        metavar="SOUNDFONT",
        help="SF2 or SF3 file; with --no-instruments a folder of one person's recorded speech",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="gets manifest.csv and the clips")
    parser.add_argument(
        "--demonstration", action="store_true", help="make demo.flac and demo.csv instead, of one soundfont"
    )
    parser.add_argument(
        "--no-instruments",
        action="store_true",
        help="make noise, hum, room tone and speech (by espeak-ng and flite, and of the folders given) instead, to "
        "train against",
    )
    parser.add_argument(
        "--seconds", type=int, default=60, metavar="N", help="seconds of each preset, or speaker (default 60)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of the melodies (default 1)")


def run(args: argparse.Namespace) -> int:
    """Play and cut."""
    from rich.console import Console
    from rich.progress import Progress

    from mird.training.errors import TrainingError

    try:
        from mird.training.demonstration import make_demonstration
        from mird.training.no_instruments import render_no_instruments
        from mird.training.render import render_clips
    except ModuleNotFoundError as error:
        raise TrainingError(f"rendering needs {error.name}; install it with: pip install 'mird[train]'") from None
    for option, least in (("seconds", 1), ("seed", 0)):
        if getattr(args, option) < least:
            raise TrainingError(f"--{option} {getattr(args, option)}: must be at least {least}")
    if not args.soundfonts and not args.no_instruments:
        raise TrainingError("give a soundfont; Debian's fluid-soundfont-gm installs one")
    if args.demonstration:
        if len(args.soundfonts) > 1:
            raise TrainingError(f"--demonstration takes one soundfont, not {len(args.soundfonts)}")
        make_demonstration(args.soundfonts[0], args.out / "demo.flac", args.out / "demo.csv")
        print(args.out / "demo.flac")
        return 0
    console = Console(stderr=True)
    render: Callable[..., Path] = render_clips
    if args.no_instruments:
        say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
        render = partial(render_no_instruments, report=say)
    with Progress(console=console) as bar:
        task = bar.add_task("rendering")
        manifest = render(
            args.soundfonts,
            args.out,
            seconds=args.seconds,
            seed=args.seed,
            progress=lambda done, total, _: bar.update(task, completed=done, total=total),
        )
    print(manifest)
    return 0
