"""``mird watch``: a terminal view of a running daemon, with keys to teach and correct it."""

import argparse
import sys
from typing import Any

from mird.daemon.cli_settings import settings_of
from mird.daemon.cli_subscription import add_subscription_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_subscription_arguments(parser, "control")


def run(args: argparse.Namespace) -> int:
    """Show until the user leaves."""
    from mird.clients.errors import OutletError
    from mird.daemon.cli_target import keys_for, open_control

    try:
        from mird.clients.watch import Watch
    except ModuleNotFoundError as error:
        raise OutletError(f"this view needs {error.name}; install it with: pip install 'mird[watch]'") from None

    settings = settings_of(args).settings
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):  # it is drawn on standard error
        print("mird: error: mird watch needs a terminal; without one there is mird listen", file=sys.stderr)
        return 2

    def ask(verb: str, **arguments: Any) -> dict[str, Any]:
        with open_control(settings) as daemon:
            return daemon.request(verb, **arguments)

    app = Watch(
        settings.publish, ask, args.only_source, args.only_channel, args.max_age, keys_for(settings, settings.publish)
    )
    app.run()
    if app.failure is not None:
        raise app.failure
    return app.return_code or 0
