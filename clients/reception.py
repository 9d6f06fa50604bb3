"""What every reader of a daemon's messages does, however it waits: subscribe, read, filter, count."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import zmq

from mird.clients.errors import ClientError
from mird.clients.keys import Handshakes
from mird.daemon.message_codec import decode
from mird.daemon.messages import (
    DEFAULT_ENDPOINT,
    KINDS,
    MAX_PAYLOAD_BYTES,
    SCHEMA,
    WHOLE_SOURCE_KINDS,
    Message,
    MessageError,
)

CHECK_MS = 200
"""With keys, how often it is looked whether the daemon let us in."""


class Reception:
    """Messages of the chosen kinds from one daemon; one thread uses it.

    `Subscriber` and `AsyncSubscriber` add the waiting. The socket connects, and connects again, by itself: a daemon
    that is not there yet, or starts anew, is waited for.

    Parameters
    ----------
    endpoint : str
    kinds : iterable of str
        ``frame``, ``event``, ``level``, ``state``, ``hb``.
    source : str, optional
        One source only.
    channel : int, optional
        One channel only. States and heartbeats, which are of all channels, come too where their kind is chosen.
    max_age_s : float, optional
        Messages sent longer ago than this are dropped. The age is by the wall clocks of both machines.
    keys : str or Path, optional
        Folder of keys, for a daemon off this machine; ``mird keys client`` makes it.

    Attributes
    ----------
    n_received : int
        Messages that were handed out.
    n_dropped : int
        Messages that were too old.
    n_missed : int
        Messages that were sent to us and never came, by the jumps of seq: this reader, or the network, was too slow.
    n_malformed : int
        Messages that are not of the wire format.

    Raises
    ------
    ClientError
        The address is none, or the keys cannot be used. While waiting: the daemon refuses our key.
    ValueError
        There is no such kind.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        kinds: Iterable[str] = ("frame", "event"),
        source: str | None = None,
        channel: int | None = None,
        max_age_s: float | None = None,
        keys: str | Path | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.kinds = frozenset([kinds] if isinstance(kinds, str) else kinds)
        if not self.kinds or not self.kinds <= set(KINDS):
            raise ValueError(f"kinds {sorted(self.kinds)}: must be some of {', '.join(KINDS)}")
        self.source = source
        self.channel = channel
        self.max_age_s = max_age_s
        self.keys = keys
        self._handshakes: Handshakes | None = None
        self.n_received = 0
        self.n_dropped = 0
        self.n_missed = 0
        self.n_malformed = 0
        self._run_id = ""
        self._next_seq: dict[bytes, int] = {}
        self._replayed: dict[bytes, int] = {}

    def _connect(self, socket: zmq.Socket[Any]) -> None:
        """Subscribe a SUB socket and connect it."""
        for prefix in self._prefixes():
            socket.subscribe(prefix)
        self._handshakes = connect_to(socket, self.endpoint, self.keys)

    def _slice_ms(self, left_ms: int | None) -> int | None:
        """How long to wait at once, of what is left: with keys a handshake that fails must be noticed."""
        if self._handshakes is None or not self._handshakes.watched:
            return left_ms
        self._handshakes.check()
        return CHECK_MS if left_ms is None else min(left_ms, CHECK_MS)

    def _prefixes(self) -> list[bytes]:
        """Topics to subscribe to; where they are too wide, `_accepted` narrows."""
        if self.source is None:
            return [f"mird/{SCHEMA}/".encode()]
        if self.channel is None:
            return [f"mird/{SCHEMA}/{self.source}/".encode()]
        channels = {kind: 0 if kind in WHOLE_SOURCE_KINDS else self.channel for kind in self.kinds}
        return [f"mird/{SCHEMA}/{self.source}/{channel}/{kind}/".encode() for kind, channel in channels.items()]

    def _accepted(self, parts: list[bytes]) -> Message | None:
        """The message, where it is a well-formed one that was asked for, is new and not too old."""
        topic = parts[0]
        kind = topic.split(b"/")[-2:-1]
        if kind and kind[0].decode(errors="replace") not in self.kinds:
            return None  # also the kinds that later versions add
        try:
            message = decode(parts[-1])
        except MessageError:
            self.n_malformed += 1
            return None
        if len(parts) != 2 or message.topic() != topic:
            self.n_malformed += 1
            return None
        if self.channel is not None and message.channel not in (0, self.channel):
            return None
        if not self._is_new(topic, message):
            return None
        if self.max_age_s is not None and time.time_ns() - message.t_utc_ns > self.max_age_s * 1e9:
            self.n_dropped += 1
            return None
        self.n_received += 1
        return message

    def _is_new(self, topic: bytes, message: Message) -> bool:
        """Count what is missing before a message; false for a copy of one that came already."""
        if message.run_id != self._run_id:
            self._run_id = message.run_id
            self._next_seq.clear()
            self._replayed.clear()
        expected = self._next_seq.get(topic)
        if message.replay:
            if message.seq < max(expected or 0, self._replayed.get(topic, -1) + 1):
                return False
            self._replayed[topic] = message.seq
            if message.seq == expected:
                self._next_seq[topic] = message.seq + 1
            return True
        if expected is not None:
            self.n_missed += max(0, message.seq - expected)
        self._next_seq[topic] = message.seq + 1
        return True


def connect_to(socket: zmq.Socket[Any], endpoint: str, keys: str | Path | None = None) -> Handshakes:
    """Set up a SUB socket and connect it; it connects again by itself.

    Returns
    -------
    Handshakes
        To be checked now and then, and closed before the socket.

    Raises
    ------
    ClientError
        The address is none, or the keys cannot be used.
    """
    handshakes = Handshakes(socket, endpoint, keys)
    socket.linger = 0
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_PAYLOAD_BYTES)
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))  # else "localhost" might be ::1, where nobody is
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 5_000)  # notices a daemon whose machine has gone
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15_000)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        handshakes.close()
        raise ClientError(f"{endpoint!r} is no address such as {DEFAULT_ENDPOINT}: {error.strerror}") from error
    return handshakes
