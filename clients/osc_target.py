"""One receiver of OSC packets over UDP, which may be there or not."""

import logging
import socket as sockets
import threading
import time

RESOLVE_S = 10.0
RESOLVE_AT_START_S = 1.0
QUIET_S = 5.0
"""A receiver that is not there says so for each packet, one packet late."""

_log = logging.getLogger(__name__)


class OscTarget:
    """Sends to one address; never waits, and raises nothing. One thread uses it.

    A name is looked up in a thread of its own, since that may take long, and again each `RESOLVE_S` until it is found.

    Parameters
    ----------
    host : str
    port : int

    Attributes
    ----------
    n_sent, n_failed : int
        Packets that went out, and those that did not or that came back as undeliverable.
    """

    def __init__(self, host: str, port: int) -> None:
        self.n_sent = 0
        self.n_failed = 0
        self._name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._host = host
        self._port = port
        self._failing = False
        self._failed_s = 0.0
        self._closed = threading.Event()
        self._socket = self._connected(sockets.AI_NUMERICHOST)
        if self._socket is None:
            looking = threading.Thread(target=self._look_up, name=f"mird-osc-{self._name}", daemon=True)
            looking.start()
            looking.join(RESOLVE_AT_START_S)

    def send(self, packet: bytes) -> None:
        """Send one packet, or count it as failed."""
        if self._socket is None:
            self.n_failed += 1
            return
        try:
            self._socket.send(packet)
        except ConnectionRefusedError as error:
            self._fail(error)  # that was about the packet before; this one is still to go
            try:
                self._socket.send(packet)
            except OSError as again:
                self._fail(again)
                return
        except OSError as error:
            self._fail(error)
            return
        self.n_sent += 1
        if self._failing and time.monotonic() - self._failed_s > QUIET_S:
            self._failing = False
            _log.info("OSC target %s: takes packets again (%d were lost)", self._name, self.n_failed)

    def close(self) -> None:
        """Close the socket; idempotent."""
        self._closed.set()
        if self._socket is not None:
            self._socket.close()

    def _fail(self, error: OSError) -> None:
        self.n_failed += 1
        self._failed_s = time.monotonic()
        if not self._failing:
            self._failing = True
            _log.warning("OSC target %s: %s; sending on", self._name, error.strerror)

    def _look_up(self) -> None:
        told = False
        while self._socket is None and not self._closed.is_set():
            self._socket = self._connected(0, told=told)
            told = told or self._socket is None
            if self._socket is None:
                self._closed.wait(RESOLVE_S)
            elif told:
                _log.info("OSC target %s: found", self._name)

    def _connected(self, flags: int, *, told: bool = False) -> sockets.socket | None:
        """A socket that is connected, so that it hears of what is undeliverable."""
        socket = None
        try:
            (family, kind, protocol, _, address), *_ = sockets.getaddrinfo(
                self._host, self._port, type=sockets.SOCK_DGRAM, flags=flags
            )
            socket = sockets.socket(family, kind, protocol)
            socket.settimeout(0)
            socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_BROADCAST, 1)
            socket.connect(address)
        except (OSError, UnicodeError) as error:
            if socket is not None:
                socket.close()
            if not told and not flags:
                reason = getattr(error, "strerror", None) or error
                _log.warning("OSC target %s: %s; trying again each %g s", self._name, reason, RESOLVE_S)
            return None
        return socket
