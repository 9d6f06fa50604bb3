"""Control by OSC: messages come in over UDP, become requests to the daemon, and are answered to whoever sent them.

::

    /mird/control/enroll     name, seconds [, channel]      the last seconds that were heard
    /mird/control/correct    name [, event_id] [, channel]  that was a ...; the newest event by default
    /mird/control/threshold  name [, value 0..1]            without a value: no threshold of its own
    /mird/control/rename     name, new name
    /mird/control/forget     name
    /mird/control/undo
    /mird/control/classes
    /mird/control/status

The answer is ``/mird/control/ok`` with the verb and the daemon's result as JSON (of ``enroll``, ``correct`` and
``status``) or else the names of all classes; or ``/mird/control/error`` with the verb, one line that says what is
wrong, and the exit status that a command would have. A packet that is no OSC is counted and not answered.
"""

import json
import logging
import socket as sockets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from mird.clients.control import ControlClient
from mird.clients.errors import ClientError, ListenError
from mird.clients.osc_packets import osc_message, read_packet

PREFIX = "/mird/control/"
TAKEN_PORTS: Mapping[int, str] = MappingProxyType(
    {6448: "Wekinator", 12000: "Wekinator", 11000: "AbletonOSC", 11001: "AbletonOSC", 53000: "QLab"}
)
MAX_PACKET_BYTES = 65_535
MAX_REPLY_BYTES = 60_000
"""More does not go into a packet."""

POLL_S = 0.1

_log = logging.getLogger(__name__)
# python-osc tells the root logger of each type that it does not know, and a packet can hold thousands.
logging.getLogger().addFilter(lambda record: record.name != "root")

Arguments = dict[str, Any]


class OscControl:
    """Listens for control messages; a thread of its own answers them, one after the other.

    Parameters
    ----------
    host : str
        Whoever reaches it can change the support set: OSC has no passwords.
    port : int
        0: any free one.
    daemon : str
        The address of the daemon's control socket.

    Attributes
    ----------
    address : tuple of str and int
        Host and port in force.
    n_requests, n_malformed : int
        Messages that were answered, and packets that are no OSC.

    Raises
    ------
    DaemonUnreachable
        `daemon` is no address; a daemon that is not there is told to whoever asks.
    ListenError
        The address is in use, not this machine's, or a port that other programs of a rig listen at.
    """

    def __init__(self, host: str, port: int, daemon: str, keys: str | Path | None = None) -> None:
        self.n_requests = 0
        self.n_malformed = 0
        self._stop = threading.Event()
        self._socket = _bound(host, port)
        try:
            self._daemon = ControlClient(daemon, keys=keys)
        except ClientError:
            self._socket.close()
            raise
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self._thread = threading.Thread(target=self._serve, name="mird-osc-control")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread after the request that it is at; idempotent."""
        self._stop.set()
        self._thread.join()

    def _serve(self) -> None:
        with self._socket, self._daemon:
            while not self._stop.is_set():
                try:
                    packet, sender = self._socket.recvfrom(MAX_PACKET_BYTES)
                except OSError:
                    continue  # nothing came; or an answer that went before could not be delivered
                for address, arguments in self._messages(packet):
                    self._answer(address, arguments, sender)

    def _messages(self, packet: bytes) -> list[tuple[str, list[Any]]]:
        """Addresses and arguments of a packet; a bundle's in the order of their times."""
        try:
            return read_packet(packet)
        except ValueError as error:
            self.n_malformed += 1
            if self.n_malformed % 100 == 1:
                _log.warning("OSC control: a packet that is no OSC (%d so far): %s", self.n_malformed, error)
            return []

    def _answer(self, address: str, arguments: Sequence[Any], sender: Any) -> None:
        self.n_requests += 1
        verb = address.removeprefix(PREFIX)
        try:
            if not address.startswith(PREFIX) or verb not in _REQUESTS:
                raise ClientError(f"{address[:64]}: there are {PREFIX} and {', '.join(_REQUESTS)}")
            name, request = _REQUESTS[verb](list(arguments))
            result = self._daemon.request(name, **request)
            reply = osc_message(f"{PREFIX}ok", (verb, *_shown(result)))
            _log.info("OSC control: %s %s", verb, " ".join(str(each) for each in arguments))
        except ClientError as error:
            reply = osc_message(f"{PREFIX}error", (verb[:64], _one_line(str(error)), error.exit_status))
            _log.warning("OSC control: %s", error)
        except Exception as error:  # noqa: BLE001 - without this thread nobody would be answered any more, unsaid
            what = f"a fault in mird: {type(error).__name__}: {error}"
            reply = osc_message(f"{PREFIX}error", (verb[:64], _one_line(what)[:256], 1))
            _log.exception("OSC control: %s", address[:64])
        try:
            self._socket.sendto(reply.dgram, sender)
        except OSError as error:
            _log.warning("OSC control: the answer to %s cannot be sent: %s", sender[0], error.strerror)


def _enroll(arguments: list[Any]) -> tuple[str, Arguments]:
    name, seconds, *channel = _checked("enroll", arguments, (2, 3), "name, seconds [, channel]")
    return "enroll_live", {"name": _text(name), "seconds": _number(seconds), **_channel(channel)}


def _correct(arguments: list[Any]) -> tuple[str, Arguments]:
    name, *rest = _checked("correct", arguments, (1, 3), "name [, event_id] [, channel]")
    event = {"event_id": rest.pop(0)} if rest and isinstance(rest[0], str) else {}
    return "correct", {"name": _text(name), **event, **_channel(rest)}


def _threshold(arguments: list[Any]) -> tuple[str, Arguments]:
    name, *value = _checked("threshold", arguments, (1, 2), "name [, value 0..1]")
    given = value[0] if value else None
    return "threshold", {"name": _text(name), "value": None if given is None else _number(given)}


def _rename(arguments: list[Any]) -> tuple[str, Arguments]:
    old, new = _checked("rename", arguments, (2, 2), "name, new name")
    return "rename", {"old": _text(old), "new": _text(new)}


def _forget(arguments: list[Any]) -> tuple[str, Arguments]:
    (name,) = _checked("forget", arguments, (1, 1), "name")
    return "forget", {"name": _text(name)}


def _without_arguments(verb: str) -> Callable[[list[Any]], tuple[str, Arguments]]:
    """A verb that takes nothing; a button sends a number along, which is ignored."""
    return lambda _: (verb, {})


_REQUESTS: Mapping[str, Callable[[list[Any]], tuple[str, Arguments]]] = MappingProxyType(
    {
        "enroll": _enroll,
        "correct": _correct,
        "threshold": _threshold,
        "rename": _rename,
        "forget": _forget,
        "undo": _without_arguments("undo"),
        "classes": _without_arguments("classes"),
        "status": _without_arguments("status"),
    }
)


def _checked(verb: str, arguments: list[Any], numbers: tuple[int, int], takes: str) -> list[Any]:
    least, most = numbers
    if not least <= len(arguments) <= most:
        raise ClientError(f"{PREFIX}{verb} has {len(arguments)} arguments: it takes {takes}")
    return arguments


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ClientError(f"{_one_line(repr(value))[:64]} is no text: the first argument is a name")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ClientError(f"{_one_line(repr(value))[:64]} is no number")
    return round(float(value), 6)  # float32 on the way: 0.6 comes as 0.60000002


def _channel(rest: list[Any]) -> Arguments:
    if not rest:
        return {}
    channel = rest[0]
    if isinstance(channel, float) and channel.is_integer():
        channel = int(channel)  # many controllers send nothing but floats
    if len(rest) > 1 or type(channel) is not int:
        raise ClientError(f"{_one_line(repr(rest))[:64]}: the last argument is the number of a channel")
    return {"channel": channel}


def _bound(host: str, port: int) -> sockets.socket:
    if port in TAKEN_PORTS:
        raise ListenError(f"port {port} is where {TAKEN_PORTS[port]} listens; choose another")
    where = f"{host}:{port}"
    try:
        (family, kind, protocol, _, address), *_ = sockets.getaddrinfo(host, port, type=sockets.SOCK_DGRAM)
        socket = sockets.socket(family, kind, protocol)
    except OSError as error:
        raise ListenError(f"cannot listen at {where}: {error.strerror}; use 127.0.0.1") from error
    try:
        socket.bind(address)
    except OSError as error:
        socket.close()
        remedy = "another bridge or program has it; stop that, or choose another port"
        raise ListenError(f"cannot listen at {where}: {error.strerror}; {remedy}") from error
    socket.settimeout(POLL_S)
    return socket


def _shown(result: Mapping[str, Any]) -> list[str]:
    """The names of all classes, where the result tells of them, else the result; as many as go into a packet."""
    classes = result.get("classes")
    if not isinstance(classes, list):
        return [json.dumps(result, ensure_ascii=False, default=str)[: MAX_REPLY_BYTES // 4]]
    names, n_bytes = [], 0
    for each in classes:
        name = str(each["name"] if isinstance(each, dict) else each)
        n_bytes += len(name.encode()) + 5  # with its end, filling and type
        if n_bytes > MAX_REPLY_BYTES:
            break
        names.append(name)
    return names


def _one_line(text: str) -> str:
    return " ".join(text.encode(errors="replace").decode().split())
