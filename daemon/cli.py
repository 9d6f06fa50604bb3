"""The command line: which commands there are, and how an error becomes an exit status.

A command is a module ``mird.daemon.cli_<name>`` (its hyphens are underscores there) with ``add_arguments(parser)`` and
``run(args) -> int``. It is imported when it is chosen or its help is asked for, and imports what it needs inside
``run``: ``--help`` is quick.
"""

import argparse
import difflib
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

COMMANDS = {
    "run": "listen, name the instruments and publish",
    "listen": "show what a running daemon publishes",
    "watch": "show what a running daemon hears in a terminal, with keys to teach and correct",
    "web": "show what a running daemon hears on a page for browsers, with an overlay for OBS",
    "enroll": "teach a new instrument, from one clip or from the last seconds heard",
    "correct": "say what it really was: what was heard last becomes shots of that class",
    "classes": "list, rename or forget what is known, set a threshold, or undo",
    "osc": "send what a running daemon publishes as OSC, and take control messages",
    "midi": "play a MIDI note while an instrument is heard",
    "mqtt": "tell an MQTT broker, and Home Assistant, what a running daemon hears",
    "record": "write a running show down: JSON lines, Audacity's labels, a set list",
    "tag": "name the instruments in recordings",
    "status": "say what a running daemon is doing",
    "calibrate": "set a running daemon's silence gates from room tone",
    "reload": "make a running daemon read its settings anew",
    "stop": "end a running daemon",
    "devices": "list the sound inputs of this machine",
    "doctor": "say what is wrong on this machine, and what to do",
    "config": "show the settings in force and where each came from",
    "keys": "make and list the keys that let others in, off this machine",
    "install-service": "run under systemd, from boot or login on; --remove undoes it",
    "evaluate": "measure an encoder on labelled recordings",
    "render": "make training clips out of soundfonts",
    "mix": "make training clips of an instrument over others",
    "train": "train an encoder",
    "compile": "compile an encoder for an NVIDIA GPU",
}

EXIT_STATUSES = """\
exit statuses:
  0    done; also when a reader of standard output goes away
  1    a fault in mird itself, with a traceback
  2    the command line was wrong
  3    a setting, a variable or a settings file was wrong
  4    a source of sound is missing, empty or cannot be read
  5    a clip cannot be enrolled, or a class cannot have that name
  6    the support set is damaged or of another encoder
  7    an address to publish or listen at cannot be used
  8    the daemon cannot be reached, or refused the request
  9    an encoder or front end cannot be loaded or used
  10   training or evaluation cannot go on
  11   standard output is closed, or nothing more can be written
  12   the service cannot be installed or removed, or keys cannot be made or read
  13   what a bridge leads to cannot be used: its library, a port, a target or a folder
  130  interrupted
"""

EPILOG = "`mird --help` lists the exit statuses."
OUTPUT_EXIT_STATUS = 11
_UNWRITABLE = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : Sequence[str], optional
        Arguments after the program's name; this process's by default.

    Returns
    -------
    int
        The exit status, one of ``EXIT_STATUSES`` or ``OUTPUT_EXIT_STATUS``.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if sys.stdout is None:
        if "--quiet" not in words:
            print("mird: error: standard output is closed: redirect it to a file, or to /dev/null", file=sys.stderr)
            return OUTPUT_EXIT_STATUS
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    try:
        status = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()  # what read it has gone, as `head` does
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        ours = getattr(error, "exit_status", None)
        if not isinstance(ours, int):
            if not (isinstance(error, OSError) and error.filename is None and error.errno in _UNWRITABLE):
                raise
            _discard_output()
            print(f"mird: error: output cannot be written: {error.strerror}; write it elsewhere", file=sys.stderr)
            return OUTPUT_EXIT_STATUS
        _flush_log()
        print("mird: error:", " ".join(str(error).split()), file=sys.stderr)
        return ours
    return status


def _flush_log() -> None:
    """Let what was logged stand before what is printed."""
    if "logging" in sys.modules:
        import logging

        for handler in logging.getLogger().handlers:
            handler.flush()


def _discard_output() -> None:
    """Let go of standard output: Python flushes it once more on its way out."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _run(argv: list[str]) -> int:
    top = _top_parser()
    # Cut here and not by argparse.REMAINDER, which swallows a "--" that the command is to see.
    n_own = next((n for n, word in enumerate(argv, 1) if not word.startswith("-")), len(argv))
    chosen = top.parse_args(argv[:n_own])
    if chosen.command is None:
        top.print_usage(sys.stderr)
        return 2
    if chosen.command not in COMMANDS:
        nearest = difflib.get_close_matches(chosen.command, COMMANDS, n=1)
        advice = f"did you mean {nearest[0]}?" if nearest else "`mird --help` lists the commands"
        top.error(f"unknown command {chosen.command!r}; {advice}")
    module = import_module(f"mird.daemon.cli_{chosen.command.replace('-', '_')}")
    summary = COMMANDS[chosen.command]
    parser = _Parser(
        prog=f"mird {chosen.command}",
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EPILOG,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    status: int = module.run(parser.parse(argv[n_own:]))
    return status


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line, as for every other error, and not the whole usage."""

    def parse(self, words: list[str]) -> argparse.Namespace:
        """Parse a command's words; options may stand anywhere, also between a name and the files that follow it."""
        # argparse can do so neither where there are verbs nor with "--", which it takes out too early.
        in_order = self._subparsers is not None or "--" in words
        return self.parse_args(words) if in_order else self.parse_intermixed_args(words)

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split(" ")[0].partition("=")[0]
        nearest = difflib.get_close_matches(unknown, self._option_string_actions, n=1) if unknown else []
        advice = f"did you mean {nearest[0]}?" if nearest else f"`{self.prog} --help` says what there is"
        self.exit(2, f"mird: error: {message}{'' if ';' in message else f'; {advice}'}\n")


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items())
    parser = _Parser(
        prog="mird",
        usage="mird COMMAND [arguments]\n       mird COMMAND --help",
        description=f"Name the musical instruments in live sound.\n\ncommands:\n{commands}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXIT_STATUSES,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    return parser


class _Version(argparse.Action):
    """Prints the installed version; reading it costs a few milliseconds, so that only this option does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"mird {version('mird')}")
        parser.exit()
