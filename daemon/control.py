"""The control socket: a ROUTER that answers requests, one at a time, in the thread that polls it.

A request is one msgpack map, from a REQ or a DEALER socket::

    {"id": 7, "verb": "rename", "old": "viola", "new": "viola d'amore"}

and so is its reply, with the request's `id` (text or a whole number)::

    {"id": 7, "ok": True, "result": {...}}
    {"id": 7, "ok": False, "error": {"message": "there is no class 'viola'; ...", "exit_status": 6}}

The message is one line for people, and the exit status the one that a command ends with. `REQUESTS` says which
arguments each verb takes; one that may be left out reaches the handler as None. Whatever else comes (too large, no
msgpack, an argument too many, of another type or out of range) gets an error reply and reaches no handler.
"""

import difflib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import msgpack
import zmq

from mird.daemon.curve import Gate
from mird.daemon.endpoints import bind, notice_the_vanished, open_gate, unbind_file
from mird.daemon.fields import Bytes, Flag, Number, Omissible, Rule, Sequence, Text, Whole
from mird.daemon.messages import MAX_REQUEST_BYTES

Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]

REFUSED = 8  # the exit status for a request that reached no handler
MAX_CONTAINERS = 1000
MAX_PER_POLL = 64
MAX_POLL_S = 0.2
"""After this no further request is begun within one poll: signals and the support set's file wait meanwhile."""

_CLASS = Text(1024)  # the handlers know what a class may be called and say it better
_CHANNEL = Omissible(Whole(1, 65_535))

REQUESTS: Mapping[str, Mapping[str, Rule]] = MappingProxyType(
    {
        "status": {},
        "classes": {},
        "enroll": {
            "name": _CLASS,
            "rate_hz": Whole(1, 10_000_000),
            "windows": Sequence(Bytes(MAX_REQUEST_BYTES, least=4, step=4), 64, least=1),
            "origin": Text(1024, least=0),
        },
        "enroll_live": {"name": _CLASS, "seconds": Number(0.5, 30.0), "channel": _CHANNEL},
        "correct": {"name": _CLASS, "event_id": Omissible(Text(64)), "channel": _CHANNEL},
        "rename": {"old": _CLASS, "new": _CLASS},
        "forget": {"name": _CLASS},
        "undo": {},
        "threshold": {"name": _CLASS, "value": Number(0.0, 1.0, optional=True)},
        "levels": {},
        "calibrate": {"seconds": Omissible(Number(1.0, 60.0)), "reset": Omissible(Flag())},
        "reload": {},
        "stop": {},
    }
)

_log = logging.getLogger(__name__)


class RequestError(Exception):
    """A request that reaches no handler."""

    exit_status = REFUSED


class ControlServer:
    """Answers requests; made, polled and closed by one thread.

    Parameters
    ----------
    endpoint : str
        ``ipc://PATH``, whose file gets mode 0660, or ``tcp://127.0.0.1:PORT``; with keys any address of this machine.
    handlers : Mapping[str, Handler]
        By verb: a function of the arguments (each of them checked) that returns the result. An exception with an
        `exit_status` becomes an error reply; so does any other, which is logged too.
    requests : Mapping[str, Mapping[str, Rule]]
        The arguments of each verb.
    keys : Path, optional
        Folder of keys, for an address that is reachable from the network.

    Attributes
    ----------
    endpoint : str
        The address in force.
    n_requests, n_refused : int
        Requests that came, and those of them that reached no handler.
    n_replies_dropped : int
        Replies whose asker had sixteen before them to read, or had gone.

    Raises
    ------
    EndpointError
        The address is in use, malformed, not this machine's, or reachable from the network without keys.
    """

    def __init__(
        self,
        endpoint: str,
        handlers: Mapping[str, Handler],
        requests: Mapping[str, Mapping[str, Rule]] = REQUESTS,
        keys: Path | None = None,
    ) -> None:
        self.endpoint = ""
        self.n_requests = 0
        self.n_refused = 0
        self.n_replies_dropped = 0
        self._gate: Gate | None = None
        self._handlers = {verb: (handler, requests[verb]) for verb, handler in handlers.items()}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.set_hwm(16)  # replies that wait for a peer that does not read; what comes after is dropped
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # and told of
        # Twice the limit gets an error reply; a peer that sends still more is disconnected before it fills the memory.
        self._socket.setsockopt(zmq.MAXMSGSIZE, 2 * MAX_REQUEST_BYTES)
        notice_the_vanished(self._socket)
        try:
            self._gate = open_gate(self._context, endpoint, "control", keys)
            self.endpoint = bind(self._socket, endpoint, "control", self._gate)
        except BaseException:
            self.close()
            raise

    @property
    def n_shut_out(self) -> int:
        """Keys that were not on the allow-list when they were shown."""
        return 0 if self._gate is None else self._gate.n_refused

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def poll(self, timeout_s: float) -> int:
        """Wait for a request and answer what has come.

        Parameters
        ----------
        timeout_s : float
            How long to wait for the first; 0 does not wait. Signal handlers run meanwhile.

        Returns
        -------
        int
            How many were answered.
        """
        if self._gate is not None:
            self._gate.attend(self._socket, self.endpoint)
        n_answered = 0
        wait_ms = round(timeout_s * 1000)
        until_s = float("inf")
        while n_answered < MAX_PER_POLL and time.monotonic() < until_s and self._socket.poll(wait_ms):
            until_s = min(until_s, time.monotonic() + MAX_POLL_S)
            # From a REQ: identity, an empty part, body; from a DEALER: identity, body.
            *envelope, body = self._socket.recv_multipart(zmq.DONTWAIT)
            reply = self._answer(body)
            self._send([*envelope[:2], reply])
            n_answered += 1
            wait_ms = 0
        return n_answered

    def close(self) -> None:
        """Close the socket and remove its file; idempotent."""
        if not self._socket.closed:
            unbind_file(self.endpoint)
            self._socket.close(linger=200)  # the reply to `stop` is on its way
            if self._gate is not None:
                self._gate.close()
            self._context.term()

    def _send(self, reply: list[bytes]) -> None:
        try:
            self._socket.send_multipart(reply, zmq.DONTWAIT)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self.n_replies_dropped += 1
            if self.n_replies_dropped % 100 == 1:
                _log.warning(
                    "control reply dropped (%d so far): who asked does not read or has gone", self.n_replies_dropped
                )

    def _answer(self, body: bytes) -> bytes:
        self.n_requests += 1
        request_id: int | str | None = None
        try:
            request = _unpack(body)
            request_id = _checked_id(request)
            handler, arguments = self._checked(request)
        except RequestError as error:
            self.n_refused += 1
            if self.n_refused % 100 == 1:
                _log.warning("control request refused (%d so far): %s", self.n_refused, error)
            return _error_reply(request_id, error)
        try:
            reply = {"id": request_id, "ok": True, "result": dict(handler(arguments))}
            packed: bytes = msgpack.packb(reply)
        except Exception as error:  # noqa: BLE001 - whatever fails in a handler, the daemon goes on
            if not isinstance(getattr(error, "exit_status", None), int):
                _log.exception("control request %r failed", request["verb"])
            return _error_reply(request_id, error)
        return packed

    def _checked(self, request: dict[str, Any]) -> tuple[Handler, dict[str, Any]]:
        """The handler of a request and its arguments."""
        verb = request.get("verb")
        if not isinstance(verb, str) or verb not in self._handlers:
            nearest = difflib.get_close_matches(str(verb)[:64], self._handlers, n=1)
            known = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(sorted(self._handlers))}"
            raise RequestError(f"unknown verb {str(verb)[:64]!r}; {known}")
        handler, rules = self._handlers[verb]
        for name in request:
            if name not in rules and name not in ("id", "verb"):
                takes = ", ".join(rules) or "no arguments"
                raise RequestError(f"unknown argument {name[:64]!r} of {verb}; it takes {takes}")
        arguments: dict[str, Any] = {}
        for name, rule in rules.items():
            if name not in request and isinstance(rule, Omissible):
                arguments[name] = None
                continue
            if name not in request:
                raise RequestError(f"argument {name} of {verb}: is missing")
            try:
                arguments[name] = rule.from_wire(request[name])
            except ValueError as error:
                raise RequestError(f"argument {name} of {verb}: {error}") from error
        return handler, arguments


def _unpack(body: bytes) -> dict[str, Any]:
    """The map of a request; small in memory whatever its bytes say."""
    if len(body) > MAX_REQUEST_BYTES:
        raise RequestError(f"request: {len(body)} bytes, more than {MAX_REQUEST_BYTES}; send less at a time")
    n_containers = 0

    def count(container: Any) -> Any:
        nonlocal n_containers
        n_containers += 1
        if n_containers > MAX_CONTAINERS:
            raise ValueError(f"more than {MAX_CONTAINERS} lists and maps")
        return container

    try:
        request = msgpack.unpackb(
            body, list_hook=count, object_hook=count, max_array_len=4096, max_map_len=64, max_ext_len=0
        )
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise RequestError(f"request: not msgpack: {str(error) or type(error).__name__}") from error
    if type(request) is not dict or not all(type(name) is str for name in request):
        raise RequestError("request: not a map with names as keys")
    return request


def _checked_id(request: dict[str, Any]) -> int | str:
    number = request.get("id")
    if type(number) is int or (type(number) is str and len(number) <= 64):
        return number
    raise RequestError("id: missing, or neither text of at most 64 characters nor a whole number")


def _error_reply(request_id: int | str | None, error: Exception) -> bytes:
    status = getattr(error, "exit_status", None)
    ours = isinstance(status, int)
    message = " ".join(str(error).split()) if ours else f"a fault in mird: {type(error).__name__}: {error}"
    reply = {
        "id": request_id,
        "ok": False,
        "error": {"message": message.encode(errors="replace").decode(), "exit_status": status if ours else 1},
    }
    packed: bytes = msgpack.packb(reply)
    return packed
