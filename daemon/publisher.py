"""The publisher: numbers messages, stamps them, and sends each to whoever subscribed.

One thread owns it: the processing thread calls :meth:`Publisher.publish` and, each hop, :meth:`Publisher.service`.
Neither ever waits: for a subscriber that does not read, at most `high_water_mark` messages are kept, and later ones are
dropped for it alone.
"""

import logging
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from mird.daemon.curve import Gate
from mird.daemon.endpoints import bind, notice_the_vanished, open_gate, unbind_file
from mird.daemon.message_codec import pack, to_map
from mird.daemon.messages import SCHEMA, Event, MessageError, Published, State
from mird.daemon.subscriptions import Subscriptions

MAX_RUNNING_EVENTS = 1024
MAX_PREFIX_BYTES = 512
"""A topic has 88 at most; a handshake with keys needs more than 256. Whoever sends more is disconnected."""
MAX_PER_SERVICE = 1000

_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL

_log = logging.getLogger(__name__)


class Publisher:
    """An XPUB socket and what whoever joins late needs: the last states and the starts of running events.

    Parameters
    ----------
    endpoint : str
        ``tcp://127.0.0.1:PORT`` or ``ipc://PATH``; with keys any address of this machine.
    high_water_mark : int
        Messages that are kept for a subscriber that reads more slowly than they come.
    keys : Path, optional
        Folder of keys, for an address that is reachable from the network.

    Attributes
    ----------
    endpoint : str
        The address in force, with its port.
    run_id : str
        16 hexadecimal digits, in each message; new for each publisher.
    n_published : int
        Messages that were sent, without replays.
    n_unsendable : int
        Messages that the wire format does not allow, such as one with NaN; they are logged and dropped.

    Raises
    ------
    EndpointError
        The address is in use, malformed, not this machine's, or reachable from the network without keys.
    """

    def __init__(self, endpoint: str, *, high_water_mark: int = 1000, keys: Path | None = None) -> None:
        self.endpoint = ""
        self.run_id = uuid.uuid4().hex[:16]
        self.n_published = 0
        self.n_unsendable = 0
        self._gate: Gate | None = None
        self._seq: dict[bytes, int] = {}
        self._states: dict[bytes, dict[str, Any]] = {}
        self._running: dict[tuple[bytes, str], dict[str, Any]] = {}
        self._n_refused = 0
        self._subscriptions = Subscriptions()
        self._peers: set[int] = set()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.linger = 0
        self._socket.set_hwm(high_water_mark)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # tells of each that joins, also where the topic has a subscriber
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_PREFIX_BYTES)  # of what comes in
        notice_the_vanished(self._socket)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | _REFUSED)
        try:
            self._gate = open_gate(self._context, endpoint, "publish", keys)
            self.endpoint = bind(self._socket, endpoint, "publish", self._gate)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def n_shut_out(self) -> int:
        """Connections that were refused or cut off.

        Without a key, with one that is not on the allow-list, of no ZeroMQ at all, or with too many subscriptions.
        """
        return self._n_refused + self._subscriptions.n_cut_off

    @property
    def n_subscribers(self) -> int:
        """Connections there are, as of the last :meth:`service`."""
        return len(self._peers)

    def has_subscriber(self, topic: bytes) -> bool:
        """Whether anybody asked for this topic, as of the last :meth:`service`."""
        return topic.startswith(tuple(self._subscriptions.prefixes))

    def publish(self, message: Published) -> None:
        """Send a message to its subscribers; never waits, and raises nothing for what is in the message.

        Parameters
        ----------
        message : Published
            Its seq, replay, run_id and times are replaced.
        """
        try:
            values = to_map(message)
            topic = message.topic()
            seq = self._seq.get(topic, 0)
            values.update(
                seq=seq, replay=False, run_id=self.run_id, t_mono_ns=time.monotonic_ns(), t_utc_ns=time.time_ns()
            )
            payload = pack(values)
        except MessageError as error:
            self.n_unsendable += 1
            if self.n_unsendable % 100 == 1:
                _log.error("not published (%d so far): %s", self.n_unsendable, error)
            return
        self._seq[topic] = seq + 1
        self._keep(topic, message, values)
        self._send(topic, payload)
        self.n_published += 1

    def service(self) -> None:
        """Take in who joined and left, and send again what they missed; never waits."""
        self._count_peers()
        if self._gate is not None:
            self._gate.attend(self._socket, self.endpoint)
        joined = tuple(self._joined())
        if not joined:
            return
        running = ((topic, values) for (topic, _), values in self._running.items())
        for topic, values in [*self._states.items(), *running]:
            if topic.startswith(joined):
                values.update(replay=True, t_mono_ns=time.monotonic_ns(), t_utc_ns=time.time_ns())
                self._send(topic, pack(values))

    def forget(self, source: str) -> None:
        """Replay no more states of a source: it goes by another name now."""
        prefix = f"mird/{SCHEMA}/{source}/".encode()
        self._states = {topic: values for topic, values in self._states.items() if not topic.startswith(prefix)}

    def await_subscriber(self, timeout_s: float) -> bool:
        """Wait until somebody has subscribed, so that nothing of what comes next is missed; False after the time.

        Before the first :meth:`publish` only: the processing thread never waits.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self._subscriptions.prefixes and time.monotonic() < deadline_s:
            self._socket.poll(10)
            self.service()
        return bool(self._subscriptions.prefixes)

    def close(self, flush_s: float = 0.0) -> None:
        """Close the socket; idempotent.

        Parameters
        ----------
        flush_s : float
            How long to wait at most until subscribers have taken what was sent last.
        """
        if self._socket.closed:
            return
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        unbind_file(self.endpoint)
        self._socket.close(linger=round(flush_s * 1000))
        if self._gate is not None:
            self._gate.close()
        self._context.term()

    def _keep(self, topic: bytes, message: Published, values: dict[str, Any]) -> None:
        """Remember what is to be replayed."""
        if isinstance(message, State):
            self._states[topic] = values
        elif isinstance(message, Event):
            if message.event == "end":
                self._running.pop((topic, message.event_id), None)
            else:
                self._running[topic, message.event_id] = values
                if len(self._running) > MAX_RUNNING_EVENTS:
                    del self._running[next(iter(self._running))]

    def _send(self, topic: bytes, payload: bytes) -> None:
        self._socket.send_multipart((topic, payload), zmq.DONTWAIT)

    def _joined(self) -> Iterator[bytes]:
        """The prefixes that somebody asked for since the last time."""
        for request in self._requests():
            if not self._subscriptions.knows(request):
                self._count_peers()  # whoever came since they were counted
            prefix = self._subscriptions.take(request, self.endpoint)
            if prefix is not None:
                yield prefix

    def _requests(self) -> Iterator[zmq.Frame]:
        """What came in on the socket: subscriptions, or anything else that somebody sent."""
        for _ in range(MAX_PER_SERVICE):
            try:
                yield self._socket.recv(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return

    def _count_peers(self) -> None:
        for _ in range(MAX_PER_SERVICE):
            try:
                event = recv_monitor_message(self._monitor, zmq.DONTWAIT)
            except zmq.Again:
                return
            if event["event"] & _REFUSED:
                self._n_refused += 1
                continue
            descriptor = event["value"]
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._peers.add(descriptor)
                self._subscriptions.came(descriptor)
            else:
                self._peers.discard(descriptor)
                self._subscriptions.left(descriptor)
