"""What a running daemon publishes, as an iterator of messages."""

import time
from collections.abc import Iterable
from typing import Self

import zmq

from mird.clients.errors import ClientError
from mird.daemon.messages import (
    DEFAULT_ENDPOINT,
    KINDS,
    MAX_PAYLOAD_BYTES,
    SCHEMA,
    WHOLE_SOURCE_KINDS,
    Message,
    MessageError,
    decode,
)


class Subscriber:
    """Receives messages of the chosen kinds; one thread uses it.

    It connects, and connects again, by itself: a daemon that is not there yet, or starts anew, is waited for.

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

    Examples
    --------
    ::

        with Subscriber(kinds=["event"]) as subscriber:
            for event in subscriber:
                print(event.channel, event.event, event.label)
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        kinds: Iterable[str] = ("frame", "event"),
        source: str | None = None,
        channel: int | None = None,
        max_age_s: float | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.kinds = frozenset([kinds] if isinstance(kinds, str) else kinds)
        if not self.kinds or not self.kinds <= set(KINDS):
            raise ValueError(f"kinds {sorted(self.kinds)}: must be some of {', '.join(KINDS)}")
        self.source = source
        self.channel = channel
        self.max_age_s = max_age_s
        self.n_received = 0
        self.n_dropped = 0
        self.n_missed = 0
        self.n_malformed = 0
        self._run_id = ""
        self._next_seq: dict[bytes, int] = {}
        self._replayed: dict[bytes, int] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.linger = 0
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_PAYLOAD_BYTES)
        self._socket.setsockopt(zmq.IPV6, int("[" in endpoint))  # else "localhost" might be ::1, where nobody is
        self._socket.setsockopt(zmq.RECONNECT_IVL, 100)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 5_000)  # notices a daemon whose machine has gone
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15_000)
        for prefix in self._prefixes():
            self._socket.subscribe(prefix)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise ClientError(f"{endpoint!r} is no address such as {DEFAULT_ENDPOINT}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        message = None if self._socket.closed else self.recv()
        if message is None:
            raise StopIteration
        return message

    def recv(self, timeout_s: float | None = None) -> Message | None:
        """The next message.

        Parameters
        ----------
        timeout_s : float, optional
            How long to wait; for ever by default.

        Returns
        -------
        Message or None
            None when the time is over.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._socket.poll(None if deadline is None else max(0, round((deadline - time.monotonic()) * 1000))):
            message = self._accepted(self._socket.recv_multipart())
            if message is not None:
                self.n_received += 1
                return message
            if deadline is not None and time.monotonic() >= deadline:
                break
        return None

    def close(self) -> None:
        """Close the socket; idempotent. An iterator over the subscriber ends."""
        if not self._socket.closed:
            self._socket.close()
            self._context.term()

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
