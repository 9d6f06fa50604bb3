"""What subscribers asked for, and a bound on it: ZeroMQ keeps every prefix of every connection, as many as it sends.

Nor does ZeroMQ let go of a single connection. So one that holds more than anybody needs is shut down by its descriptor,
which each subscription names: what was kept for it goes with it, and the others lose nothing. How much one can send
before that is noticed nothing bounds but the memory that the process may have.
"""

import logging
import os
import socket as sockets
from typing import Final

import zmq

MAX_PER_CONNECTION: Final = 1024
MAX_TOGETHER: Final = 16_384
"""Subscriptions of all connections."""

_log = logging.getLogger(__name__)


class Subscriptions:
    """The prefixes that are asked for. The publisher's thread owns it.

    Attributes
    ----------
    prefixes : set of bytes
    n_cut_off : int
        Connections that were shut down.
    """

    def __init__(self) -> None:
        self.prefixes: Final[set[bytes]] = set()
        self.n_cut_off = 0
        self._of: dict[int, set[bytes]] = {}  # by the connection's descriptor
        self._shut: set[int] = set()  # descriptors of connections that ZeroMQ has not closed yet
        self._n_together = 0

    def came(self, descriptor: int) -> None:
        """A connection is there; whatever had its descriptor before is not."""
        self.left(descriptor)
        self._of[descriptor] = set()

    def left(self, descriptor: int) -> None:
        """A connection has ended."""
        self._n_together -= len(self._of.pop(descriptor, ()))
        self._shut.discard(descriptor)

    def knows(self, request: zmq.Frame) -> bool:
        """Whether the connection that a request came by is there, as far as was told."""
        return _descriptor(request) in self._of

    def take(self, request: zmq.Frame, endpoint: str) -> bytes | None:
        """Take in what came at an address; the prefix that somebody wants now, if that is what it was."""
        data = request.bytes
        kind, prefix = data[:1], data[1:]
        if kind == b"\x00":  # nobody wants it any more
            self.prefixes.discard(prefix)
        descriptor = _descriptor(request)
        if kind != b"\x01" or descriptor in self._shut or descriptor not in self._of:  # the last: it has gone meanwhile
            return None
        held = self._of[descriptor]
        if prefix not in held:
            if len(held) >= MAX_PER_CONNECTION or self._n_together >= MAX_TOGETHER:
                self._cut_off(descriptor, endpoint)
                return None
            held.add(prefix)
            self._n_together += 1
        self.prefixes.add(prefix)
        return prefix

    def _cut_off(self, descriptor: int, endpoint: str) -> None:
        """Shut a connection down, where its descriptor still is one of this address."""
        if not _shut_down(descriptor, endpoint):
            return
        self._shut.add(descriptor)
        self.n_cut_off += 1
        if self.n_cut_off % 100 == 1:
            _log.error(
                "%s: a subscriber that asked for too much was cut off (%d so far): a connection may hold %d "
                "subscriptions, all together %d; see who connects there (ss -p)",
                endpoint,
                self.n_cut_off,
                MAX_PER_CONNECTION,
                MAX_TOGETHER,
            )


def _descriptor(request: zmq.Frame) -> int:
    """The descriptor of the connection that a request came by, which may be closed by now; -1 where there was none."""
    try:
        return int(request.get(zmq.SRCFD))
    except (zmq.ZMQError, ValueError):
        return -1


def _shut_down(descriptor: int, endpoint: str) -> bool:
    """Whether there was a connection to shut down: ZeroMQ closes it then, as if the peer had."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return False
    try:
        connection = sockets.socket(fileno=copy)
    except OSError:  # another file has the number now
        os.close(copy)
        return False
    with connection:
        try:
            name = connection.getsockname()
            here = name if isinstance(name, str) else f":{name[1]}"
            if endpoint.endswith(here):
                connection.shutdown(sockets.SHUT_RDWR)
                return True
        except OSError:
            pass  # it has gone meanwhile
    return False
