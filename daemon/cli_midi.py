"""``mird midi``: what a running daemon hears, as MIDI notes."""

import argparse

from mird.daemon.cli_bridge import run_bridge
from mird.daemon.cli_subscription import add_subscription_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--port", metavar="PATTERN", default="", help="connect to the first port whose name holds this, and wait for it"
    )
    parser.add_argument(
        "--virtual", metavar="NAME", default="out", help="without --port: name of our own port, mird:NAME (default out)"
    )
    parser.add_argument("--api", choices=("alsa", "jack"), help="default: alsa, or jack without an ALSA sequencer")
    parser.add_argument(
        "--note",
        action="append",
        type=_note,
        default=[],
        metavar="NAME=NOTE",
        help="note of a class, 0 to 127; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="list the ports that can be connected to, and end")
    parser.add_argument("--notes", action="store_true", help="list the notes, and end")
    add_subscription_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Play until interrupted."""
    from mird.clients.errors import OutletError
    from mird.clients.midi_notes import NoteMap

    notes = NoteMap(dict(args.note))
    if args.notes:
        print("\n".join(notes.lines()))
        return 0
    try:
        from mird.clients.midi import MidiOutlet
        from mird.clients.midi_port import MidiPort, open_output
    except ModuleNotFoundError as error:
        raise OutletError(f"MIDI needs {error.name}; install it with: pip install 'mird[midi]'") from None
    if args.list:
        output = open_output(args.api)
        print("".join(f"{port}\n" for port in output.get_ports()), end="")
        output.delete()
        return 0
    return run_bridge(args, lambda: MidiOutlet(MidiPort(lambda: open_output(args.api), args.port, args.virtual), notes))


def _note(text: str) -> tuple[str, int]:
    label, equals, number = text.rpartition("=")
    if not equals or not label or not (number.isascii() and number.isdigit() and int(number) <= 127):
        raise argparse.ArgumentTypeError(f"{text!r}: must be NAME=NOTE, with a note from 0 to 127")
    return label, int(number)
