"""The keys that a client shows off its own machine, and what it makes of a handshake that fails."""

import ipaddress
import re
from pathlib import Path
from typing import Any, Final

import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

from mird.clients.errors import ClientError

SERVER: Final = "server.key"
CLIENT_SECRET: Final = "client.key_secret"
MAX_FAILURES: Final = 5
"""Handshakes that may come to nothing in a row, as when a daemon ends meanwhile."""

_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH


def is_local(endpoint: str) -> bool:
    """Whether an address is of this machine alone, so that no keys are used; what is no address counts as such."""
    match = re.fullmatch(r"tcp://(.+):\d+", endpoint)
    host = match[1].strip("[]") if match else "localhost"
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"  # a name such as 127.example is somebody else's


class Handshakes:
    """A socket's keys, and a watch over what becomes of them; used by the socket's thread.

    Parameters
    ----------
    socket : zmq.Socket
        Not yet connected.
    endpoint : str
        Where it is going to connect to.
    keys : str or Path, optional
        Folder with ``server.key``, the daemon's, and ``client.key_secret``, as ``mird keys`` makes it.

    Raises
    ------
    ClientError
        The address is off this machine and no keys are named, or they cannot be read.
    """

    def __init__(self, socket: zmq.Socket[Any], endpoint: str, keys: str | Path | None) -> None:
        self._endpoint = endpoint
        self._monitor: zmq.Socket[bytes] | None = None
        self._n_failed = 0
        if keys is None:
            if not is_local(endpoint):
                raise ClientError(
                    f"{endpoint} is off this machine and needs keys; name their folder (--keys), see mird keys --help"
                )
            return
        socket.curve_serverkey = _load(Path(keys) / SERVER)[0]
        public, secret = _load(Path(keys) / CLIENT_SECRET)
        if secret is None:
            raise ClientError(
                f"{Path(keys) / CLIENT_SECRET} holds no secret key; have it made anew by mird keys client"
            )
        socket.curve_publickey, socket.curve_secretkey = public, secret
        self._monitored = socket
        self._pair = socket.get_monitor_socket(_FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._monitor = zmq.Socket.shadow(
            self._pair.underlying
        )  # one that does not wait, also of a socket of asyncio's

    @property
    def watched(self) -> bool:
        """Whether keys are used, so that :meth:`check` is to be called now and then."""
        return self._monitor is not None

    def check(self) -> None:
        """Find out whether the daemon let us in; never waits.

        Raises
        ------
        ClientError
            It refused our key, after which ZeroMQ does not try again, or has another key than we were given.
        """
        while self._monitor is not None and self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise ClientError(
                    f"{self._endpoint} refuses our key; whoever runs it lets us in with: mird keys add NAME FILE"
                )
            self._n_failed = 0 if event == zmq.EVENT_HANDSHAKE_SUCCEEDED else self._n_failed + 1
            if self._n_failed > MAX_FAILURES:
                raise ClientError(
                    f"{self._endpoint} does not prove the key in {SERVER}: it is another daemon, or has new keys; get "
                    f"its {SERVER} anew"
                )

    def close(self) -> None:
        """Stop watching; before the socket is closed."""
        if self._monitor is not None:
            self._monitored.disable_monitor()
            self._pair.close(linger=0)
            self._monitor = None


def _load(path: Path) -> tuple[bytes, bytes | None]:
    try:
        path.stat()  # zmq.auth says of what is missing that it is invalid
        public, secret = zmq.auth.load_certificate(path)
    except OSError as error:
        raise ClientError(f"key {path} cannot be read: {error.strerror or error}; see mird keys --help") from error
    except ValueError as error:
        raise ClientError(f"{path} is no key: {error}") from error
    return public, secret
