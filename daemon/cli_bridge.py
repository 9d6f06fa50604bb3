"""What the bridge commands share: signals, the log, and passing on what a daemon publishes."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from mird.daemon.cli_subscription import open_subscriber

if TYPE_CHECKING:
    from mird.clients.bridge import Outlet
    from mird.clients.presence import Presence


def run_bridge(
    args: argparse.Namespace,
    open_outlet: "Callable[[], Outlet]",
    kinds: tuple[str, ...] = (),
    presence: "Presence | None" = None,
) -> int:
    """Pass messages on until the command is interrupted or terminated, and leave everything in order.

    Parameters
    ----------
    args : Namespace
        With the options of :func:`mird.daemon.cli_subscription.add_subscription_arguments`.
    open_outlet : Callable[[], Outlet]
        Called when signals no longer end the process: what it opens is closed.
    kinds : tuple of str
        Kinds that the outlet wants beside `mird.clients.bridge.KINDS`.
    presence : Presence, optional
        One that notices after three seconds that the daemon has gone by default.
    """
    import logging
    import signal
    import sys
    import threading

    from mird.clients.bridge import KINDS, carry
    from mird.clients.presence import Presence

    logging.basicConfig(stream=sys.stderr, level="INFO", format="mird: %(levelname)s: %(message)s")
    with open_subscriber(args, {*KINDS, *kinds}) as subscriber:
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, lambda *_: stop.set())
        carry(subscriber, open_outlet(), presence or Presence(), stop)
    return 0
