"""``mird web``: a page that shows what a running daemon hears, for browsers, and an overlay for OBS."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mird.daemon.cli_settings import add_setting_arguments, settings_of
from mird.daemon.cli_target import keys_for

if TYPE_CHECKING:
    from mird.daemon.settings import Settings

DEFAULT_ADDRESS = "127.0.0.1:7480"
ENROLL_TIMEOUT_S = 30.0
LEAST_TOKEN = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--listen", metavar="ADDRESS:PORT", type=_address, default=_address(DEFAULT_ADDRESS),
        help=f"where the page is (default {DEFAULT_ADDRESS}); any but a loopback address asks for a token",
    )  # fmt: skip
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE",
        help="file with the token to ask for; made where there is none (default: a new token at each start)",
    )  # fmt: skip
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME",
        help="a further name that this machine goes by, as behind a proxy; asks for a token; may be repeated",
    )  # fmt: skip
    add_setting_arguments(parser, "publish", "control")


def run(args: argparse.Namespace) -> int:
    """Serve the page until interrupted or told to stop."""
    import asyncio
    import ipaddress
    import logging
    import sys

    from mird.clients.errors import OutletError

    try:
        from mird.clients.web_app import listen_at, make_app, serve
        from mird.clients.web_feed import Feed
        from mird.clients.web_guard import Guard
    except ModuleNotFoundError as error:
        raise OutletError(f"the page needs {error.name}; install it with: pip install 'mird[web]'") from None

    settings = settings_of(args).settings
    host, port = args.listen
    logging.basicConfig(stream=sys.stderr, level="WARNING", format="mird: %(levelname)s: %(message)s")
    with listen_at(host, port) as listener:
        address = ipaddress.ip_address(listener.getsockname()[0])
        port = listener.getsockname()[1]
        token = _token(args.token_file, needed=not address.is_loopback or bool(args.allow_host))
        names = _names(host, address, args.allow_host)
        keys = keys_for(settings, settings.publish)
        feed = Feed(settings.publish, lambda verb, **arguments: _ask(settings, verb, arguments), keys)
        app = make_app(feed, lambda path, name, channel: _enroll(settings, path, name, channel))
        shown = names[0] if ":" not in names[0] else f"[{names[0]}]"
        secret = f"?token={token}" if token else ""
        print(f"http://{shown}:{port}/{secret}")
        print(f"http://{shown}:{port}/overlay{secret}", flush=True)
        if token:
            print("mird: whoever has this address can teach and forget; it is not shown again", file=sys.stderr)
        asyncio.run(serve(Guard(app, names, token, port), feed, listener))
    return 0


def _ask(settings: "Settings", verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One request to the daemon; ClientError where it refuses or is not there."""
    from mird.daemon.cli_target import open_control

    with open_control(settings, ENROLL_TIMEOUT_S) as client:
        return client.request(verb, **arguments)


def _enroll(settings: "Settings", path: Path, name: str, channel: int | None) -> dict[str, Any]:
    """Enrol a clip that a browser sent, as ``mird enroll`` does; errors do not name the folder that it lies in."""
    from mird.daemon.cli_enroll import WINDOWS_PER_CLIP, enroll_windows
    from mird.daemon.cli_target import open_control
    from mird.daemon.enroll import read_clip, windows_of
    from mird.daemon.errors import MirdError

    try:
        clip = read_clip(path, channel)
        with open_control(settings, ENROLL_TIMEOUT_S) as client:
            form = client.request("status")
            windows = windows_of(clip, form["rate_hz"], form["window"], WINDOWS_PER_CLIP)
            report, enrolled = enroll_windows(client, name, clip, windows, form["rate_hz"])
    except MirdError as error:
        raise type(error)(str(error).replace(f"{path.parent}/", "")) from error
    return {**enrolled, "line": str(report), "warnings": report.warnings}


def _token(path: Path | None, *, needed: bool) -> str:
    """The token to ask for; empty where none is needed."""
    import os
    import secrets

    from mird.daemon.errors import SettingsError

    if path is None:
        return secrets.token_urlsafe(24) if needed else ""
    try:
        with path.open(encoding="ascii") as file:
            token = file.read(1000).strip()
    except FileNotFoundError:
        token = secrets.token_urlsafe(24)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(token + "\n")
        except OSError as error:
            raise SettingsError(f"--token-file {path} cannot be written: {error.strerror}") from error
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(f"--token-file {path} cannot be read: {reason}") from error
    if len(token) < LEAST_TOKEN or not all(each.isalnum() or each in "-_" for each in token):
        raise SettingsError(
            f"--token-file {path}: a token has at least {LEAST_TOKEN} letters, digits, - and _; remove the file, and "
            "it is made anew"
        )
    return token


def _names(host: str, address: Any, allowed: list[str]) -> list[str]:
    """The names that the page answers to, the one to show first."""
    import socket

    machine = socket.gethostname().lower()
    if address.is_loopback:
        names = [host, str(address), "localhost", "127.0.0.1", "::1"]
    elif address.is_unspecified:
        names = [machine, f"{machine.partition('.')[0]}.local", "localhost"]
    else:
        names = [host, machine, f"{machine.partition('.')[0]}.local"]
    return [*names, *allowed]


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise argparse.ArgumentTypeError(f"{text!r}: must be ADDRESS:PORT, such as {DEFAULT_ADDRESS}")
    return host, int(port)
