"""Bridges: from the daemon's messages to another protocol, whatever happens to either side."""

import logging
import threading
import time
from typing import Protocol

from mird.clients.presence import Presence
from mird.clients.subscriber import Subscriber
from mird.daemon.messages import Message, State

TICK_S = 0.1
KINDS = ("event", "frame", "hb", "state")
"""What every bridge subscribes to: events, and what tells that they are over."""

_log = logging.getLogger(__name__)


class Outlet(Protocol):
    """Where a bridge leads to. One thread calls it; what goes wrong outside is logged and counted, never raised."""

    def send(self, message: Message) -> None:
        """Pass one message on, or ignore it."""
        ...

    def set_alive(self, alive: bool) -> None:
        """The daemon has come, or has gone and its events have been ended."""
        ...

    def tick(self) -> None:
        """Some time has passed, at most about `TICK_S`."""
        ...

    def close(self) -> None:
        """Say good-bye and let go; nothing is sent any more."""
        ...


def carry(subscriber: Subscriber, outlet: Outlet, presence: Presence, stop: threading.Event) -> None:
    """Pass messages on until `stop`; at the end every event is ended and the outlet closed.

    Parameters
    ----------
    subscriber : Subscriber
        With `KINDS` at least.
    outlet : Outlet
    presence : Presence
        New.
    stop : threading.Event
        Set by a signal handler or another thread.
    """
    _log.info("waiting for mird at %s", subscriber.endpoint)
    state = ""
    try:
        while not stop.is_set():
            message = subscriber.recv(TICK_S)
            was_alive = presence.alive
            now_s = time.monotonic()
            told = presence.check(now_s) if message is None else presence.take(message, now_s)
            if presence.alive and not was_alive:
                outlet.set_alive(True)
            for each in told:
                outlet.send(each)
            if was_alive and not presence.alive:
                _log.warning("mird at %s has gone; waiting for it", subscriber.endpoint)
                outlet.set_alive(False)
                state = ""
            if isinstance(message, State) and (line := f"{message.source}: {message.state}: {message.detail}") != state:
                state = line
                _log.info("%s", line)
            outlet.tick()
    finally:
        for end in presence.release():
            outlet.send(end)
        outlet.close()
