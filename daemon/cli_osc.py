"""``mird osc``: what a running daemon publishes, as OSC, and control by OSC."""

import argparse
from contextlib import ExitStack

from mird.daemon.cli_bridge import run_bridge
from mird.daemon.cli_settings import settings_of
from mird.daemon.cli_subscription import KINDS, add_subscription_arguments
from mird.daemon.cli_target import keys_for

TARGET = ("127.0.0.1", 7476)
LISTEN = ("127.0.0.1", 7478)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--to",
        action="append",
        metavar="HOST[:PORT]",
        help=f"where messages go; may be repeated (default {TARGET[0]}:{TARGET[1]})",
    )
    parser.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        default=f"{LISTEN[0]}:{LISTEN[1]}",
        help=f"where control messages come in, or none (default {LISTEN[0]}:{LISTEN[1]}): from whoever reaches it",
    )
    parser.add_argument(
        "--time-tag",
        choices=("capture", "now", "none"),
        default="capture",
        help="bundles with the time of the sound (default), bundles to be taken at once, or no bundles",
    )
    add_subscription_arguments(parser, "control", default_kinds="all")


def run(args: argparse.Namespace) -> int:
    """Send and listen until interrupted."""
    import ipaddress
    import sys

    from mird.clients.addresses import host_and_port
    from mird.clients.errors import OutletError
    from mird.daemon.assembly import control_address

    try:
        from mird.clients.osc import OscOutlet
        from mird.clients.osc_control import OscControl
    except ModuleNotFoundError as error:
        raise OutletError(f"OSC needs {error.name}; install it with: pip install 'mird[osc]'") from None

    settings = settings_of(args).settings
    targets = [host_and_port(text, *TARGET) for text in args.to or [f"{TARGET[0]}:{TARGET[1]}"]]
    with ExitStack() as stack:
        if args.listen != "none":
            daemon = control_address(settings)
            where = host_and_port(args.listen, *LISTEN)
            control = stack.enter_context(OscControl(*where, daemon, keys_for(settings, daemon)))
            host, port = control.address
            if not ipaddress.ip_address(host).is_loopback:
                print(
                    f"mird: WARNING: whoever reaches {host}:{port} can teach and forget, for OSC has no passwords; "
                    "let a firewall choose who, or listen at 127.0.0.1",
                    file=sys.stderr,
                )
        return run_bridge(args, lambda: OscOutlet(targets, args.kind or KINDS, args.time_tag), KINDS)
