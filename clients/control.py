"""The control socket's other end: ask a running daemon to do something."""

import contextlib
import itertools
import socket as sockets
import time
from pathlib import Path
from typing import Any, Final, Self

import msgpack
import zmq

from mird.clients.errors import ClientError, DaemonSilent, DaemonUnreachable, RequestRefused
from mird.clients.keys import Handshakes
from mird.daemon.messages import MAX_REQUEST_BYTES

CHECK_MS: Final = 100
"""With keys, how often it is looked whether the daemon let us in."""


class ControlClient:
    """Sends requests and waits for their replies; one thread uses it.

    Parameters
    ----------
    endpoint : str
        Address of the control socket, such as ``ipc:///run/mird/control``.
    timeout_s : float
        How long to wait for a reply.
    keys : str or Path, optional
        Folder of keys, for a daemon off this machine; ``mird keys client`` makes it.

    Raises
    ------
    DaemonUnreachable
        The address is none.
    ClientError
        The keys cannot be used.

    Examples
    --------
    ::

        with ControlClient("ipc:///run/mird/control") as daemon:
            print(daemon.status()["state"])
            daemon.enroll_live("viola", seconds=3)
    """

    def __init__(self, endpoint: str, timeout_s: float = 5.0, keys: str | Path | None = None) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self._ids = itertools.count(1)
        self._keys = keys
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._handshakes: Handshakes | None = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Ask, and wait for the answer.

        Parameters
        ----------
        verb : str
            ``status``, ``classes``, ``enroll``, ``enroll_live``, ``correct``, ``rename``, ``forget``, ``undo``,
            ``threshold``, ``levels``, ``calibrate``, ``reload`` or ``stop``.
        **arguments : Any
            Those of the verb, as in `mird.daemon.control`.

        Returns
        -------
        dict
            The result.

        Raises
        ------
        DaemonUnreachable
            There is no daemon at the address, which shows at once.
        DaemonSilent
            There is one, but it does not answer in time, or is another user's.
        RequestRefused
            The daemon answered with an error.
        ClientError
            The request is too large to send, or has an argument that msgpack does not know.
        """
        request_id = next(self._ids)
        try:
            request = msgpack.packb({"id": request_id, "verb": verb, **arguments})
        except (OverflowError, TypeError, ValueError) as unfit:
            raise ClientError(f"{verb}: an argument cannot be sent: {unfit}") from unfit
        if len(request) > MAX_REQUEST_BYTES:
            raise ClientError(f"{verb}: the request has {len(request)} bytes, more than {MAX_REQUEST_BYTES}; send less")
        deadline = time.monotonic() + self.timeout_s
        self._check_listener()
        try:
            socket, handshakes = self._open()
            self._send(socket, handshakes, request, deadline)
            reply = self._reply(socket, handshakes, request_id, deadline)
        except BaseException:
            # What is not sent yet is not for a daemon that comes later. ZMQ_IMMEDIATE would see to that too, but throws
            # away what has come, unread, once a daemon has left: the last answer of one that was told to stop.
            self._close_socket()
            raise
        if reply.get("ok") is True and isinstance(reply.get("result"), dict):
            result: dict[str, Any] = reply["result"]
            return result
        error = reply.get("error")
        error = error if isinstance(error, dict) else {}
        status = error.get("exit_status")
        raise RequestRefused(str(error.get("message", "no reason given")), status if type(status) is int else 8)

    def status(self) -> dict[str, Any]:
        """What the daemon is doing: state, engine, addresses, counters."""
        return self.request("status")

    def classes(self) -> dict[str, Any]:
        """The classes that are known, each with its shots and the threshold in force."""
        return self.request("classes")

    def enroll_live(self, name: str, seconds: float, channel: int | None = None) -> dict[str, Any]:
        """Make shots of `name` out of the last seconds heard, 0.5 to 30, on a channel (default: the only one)."""
        return self.request("enroll_live", name=name, seconds=seconds, **_given(channel=channel))

    def correct(self, name: str, event_id: str | None = None, channel: int | None = None) -> dict[str, Any]:
        """Say that an event, or what was heard last on a channel, was a `name`: its windows become shots."""
        return self.request("correct", name=name, **_given(event_id=event_id, channel=channel))

    def rename(self, old: str, new: str) -> dict[str, Any]:
        """Give a class another name; returns the classes, as do the next three."""
        return self.request("rename", old=old, new=new)

    def forget(self, name: str) -> dict[str, Any]:
        """Leave a class out."""
        return self.request("forget", name=name)

    def undo(self) -> dict[str, Any]:
        """Take the last change of the support set back."""
        return self.request("undo")

    def threshold(self, name: str, value: float | None) -> dict[str, Any]:
        """Give a class a threshold, 0 to 1, in force from the next hop on; None: that of the settings again."""
        return self.request("threshold", name=name, value=value)

    def levels(self) -> dict[str, Any]:
        """Level, label and silence gate of each channel."""
        return self.request("levels")

    def calibrate(self, seconds: float = 5.0) -> dict[str, Any]:
        """Set each channel's silence gate above the room tone of the last seconds, 1 to 60."""
        return self.request("calibrate", seconds=seconds)

    def reload(self) -> dict[str, Any]:
        """Read the settings and the support set anew; says what has changed and what needs a restart."""
        return self.request("reload")

    def stop(self) -> None:
        """Tell the daemon to end."""
        self.request("stop")

    def close(self) -> None:
        """Close the socket; idempotent."""
        if not self._context.closed:
            self._close_socket()
            self._context.term()

    def _open(self) -> tuple[zmq.Socket[bytes], Handshakes]:
        """The connected socket: the one that is open, or another."""
        if self._socket is not None and self._handshakes is not None:
            return self._socket, self._handshakes
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.setsockopt(zmq.IPV6, int("[" in self.endpoint))
        handshakes = Handshakes(self._socket, self.endpoint, self._keys)
        self._handshakes = handshakes
        try:
            self._socket.connect(self.endpoint)
        except zmq.ZMQError as error:
            raise DaemonUnreachable(f"{self.endpoint!r} is no address of a control socket: {error.strerror}") from error
        return self._socket, handshakes

    def _close_socket(self) -> None:
        if self._handshakes is not None:
            self._handshakes.close()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._handshakes = None

    def _check_listener(self) -> None:
        """Find out at once that nobody listens: ZeroMQ would go on trying."""
        scheme, _, address = self.endpoint.partition("://")
        try:
            if scheme == "ipc" and not address.startswith("@"):
                with sockets.socket(sockets.AF_UNIX) as probe:
                    probe.settimeout(self.timeout_s)
                    probe.connect(address)
            elif scheme == "tcp":
                host, _, port = address.rpartition(":")
                sockets.create_connection((host.strip("[]"), int(port)), self.timeout_s).close()
        except PermissionError as error:
            raise DaemonSilent(f"{self.endpoint}: permission denied; run as the user or group of mird") from error
        except (OSError, ValueError) as error:
            raise DaemonUnreachable(
                f"no mird answers at {self.endpoint}: {getattr(error, 'strerror', None) or error}; start one with "
                "`mird run`, or name its control socket"
            ) from error

    def _send(self, socket: zmq.Socket[bytes], handshakes: Handshakes, request: bytes, deadline: float) -> None:
        """Send where there is somebody to send to: ZeroMQ has nobody any more, once the daemon refuses our key."""
        while True:
            self._await(socket, handshakes, zmq.POLLOUT, deadline)
            with contextlib.suppress(zmq.Again):
                socket.send(request, zmq.DONTWAIT)
                return

    def _reply(
        self, socket: zmq.Socket[bytes], handshakes: Handshakes, request_id: int, deadline: float
    ) -> dict[str, Any]:
        """Wait for the reply to this request; late ones to those before it are passed over."""
        while True:
            self._await(socket, handshakes, zmq.POLLIN, deadline)
            reply = _read(socket.recv_multipart()[-1])
            if reply.get("id") in (request_id, None):
                return reply

    def _await(self, socket: zmq.Socket[bytes], handshakes: Handshakes, event: int, deadline: float) -> None:
        """Wait until the socket can be read from or written to; with keys also for the daemon to let us in."""
        while True:
            handshakes.check()
            left_ms = max(0, round((deadline - time.monotonic()) * 1000))
            if socket.poll(min(left_ms, CHECK_MS) if handshakes.watched else left_ms, event):
                return
            if left_ms == 0:
                raise self._no_answer()

    def _no_answer(self) -> DaemonSilent:
        return DaemonSilent(
            f"mird at {self.endpoint} did not answer within {self.timeout_s:g} s; it is busy, or hangs: try again, or "
            "look at its log"
        )


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _read(reply: bytes) -> dict[str, Any]:
    try:
        values = msgpack.unpackb(reply)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
        values = None
    if not isinstance(values, dict):
        raise ClientError("what answers at the control socket is no mird: its reply is not a map")
    return values
