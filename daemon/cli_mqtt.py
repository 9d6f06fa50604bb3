"""``mird mqtt``: what a running daemon hears, at an MQTT broker."""

import argparse
from typing import TYPE_CHECKING

from mird.daemon.cli_bridge import run_bridge
from mird.daemon.cli_subscription import add_subscription_arguments

if TYPE_CHECKING:
    from mird.clients.mqtt import MqttOutlet

PORT, TLS_PORT = 1883, 8883


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--broker", metavar="HOST[:PORT]", default="127.0.0.1", help=f"default 127.0.0.1:{PORT}, with TLS {TLS_PORT}"
    )
    parser.add_argument("--user", metavar="NAME", default="", help="who we are")
    parser.add_argument("--password-file", metavar="FILE", help="a file whose first line is the password")
    parser.add_argument("--tls", action="store_true", help="encrypt, and check the broker's certificate")
    parser.add_argument(
        "--ca", metavar="FILE", default="", help="who vouches for the broker (default: the system's list)"
    )
    parser.add_argument("--cert", metavar="FILE", default="", help="our own certificate")
    parser.add_argument("--key", metavar="FILE", default="", help="its key")
    parser.add_argument(
        "--prefix", default="mird", help="of the topics; each bridge needs one of its own (default mird)"
    )
    parser.add_argument(
        "--discovery",
        metavar="PREFIX",
        default="homeassistant",
        help="Home Assistant's, or none (default homeassistant)",
    )
    add_subscription_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Tell until interrupted."""
    from pathlib import Path

    from mird.clients.addresses import host_and_port
    from mird.clients.errors import OutletError, UsageError

    try:
        from mird.clients.mqtt import MqttOutlet
        from mird.clients.mqtt_broker import Access, Broker
    except ModuleNotFoundError as error:
        raise OutletError(f"MQTT needs {error.name}; install it with: pip install 'mird[mqtt]'") from None
    from mird.clients.mqtt_topics import Topics

    if not args.tls and (args.ca or args.cert or args.key):
        raise UsageError("--ca, --cert and --key are for --tls, which is not there")
    if any(each in "+#\0" for each in args.prefix + args.discovery) or not args.prefix.strip("/"):
        raise UsageError(f"--prefix {args.prefix!r}, --discovery {args.discovery!r}: must be topics without + and #")
    password = ""
    if args.password_file:
        try:
            password = Path(args.password_file).read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutletError(f"--password-file {args.password_file}: {reason}; name a readable file") from error
    host, port = host_and_port(args.broker, "127.0.0.1", TLS_PORT if args.tls else PORT)
    access = Access(host, port, args.user, password, args.tls, args.ca, args.cert, args.key)
    topics = Topics(args.prefix.strip("/"))

    def open_outlet() -> "MqttOutlet":
        return MqttOutlet(
            Broker(access, topics.online(alive=False)), topics, "" if args.discovery == "none" else args.discovery
        )

    return run_bridge(args, open_outlet)
