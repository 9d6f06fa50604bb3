"""What mird tells systemd: that it is ready, alive, reloading, busy starting or stopping, and a line of status.

One datagram a message to the socket that ``NOTIFY_SOCKET`` names, as sd_notify(3) says. Without that variable, or where
nobody listens at it, everything here does nothing: mird runs the same without systemd.
"""

import contextlib
import logging
import os
import socket as sockets
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Final, Self

MAX_STATUS_BYTES: Final = 512

PATIENCE_S: Final = 1.0
"""How long a message that must arrive is tried again while systemd is busy."""

EXTENSION_S: Final = 30.0
"""How much more time a start asks for at once; it asks again each third of it."""

HOLD_S: Final = 300.0
"""Longest time that what is started beside the daemon puts off that it is ready."""

_log = logging.getLogger(__name__)


class Notifier:
    """Sends notifications; every method may be called from any thread.

    :meth:`alive` and :meth:`status` never wait, for they are called by the processing thread.

    Parameters
    ----------
    address : str
        Path of a datagram socket, or ``@NAME`` in the abstract namespace; empty: nobody is told anything.
    watchdog_s : float, optional
        The time without a sign of life after which the service is killed; without it none is given.

    Attributes
    ----------
    watchdog_s : float or None
    n_unsent : int
        Messages that systemd did not take.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self.n_unsent = 0
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._alive_mono_s = float("-inf")
        self._status = ""
        self._text = ""  # the status without what it is waited for
        self._lock = threading.Lock()  # around the lines before, and the next two
        self._warm = self._ending = False
        self._held_for = ""
        self._let_go = threading.Event()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The notifier that ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` ask for."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        interval_us = environment.get("WATCHDOG_USEC", "")
        watching = ours and interval_us.isascii() and interval_us.isdigit() and int(interval_us) > 0
        return cls(address, int(interval_us) / 1e6 if watching else None)

    def ready(self) -> None:
        """Started: the engine is warm, and the sockets are bound. Sent later where something is waited for."""
        with self._lock:
            self._warm = True
            if self._held_for:
                return
        self._send("READY=1", PATIENCE_S)

    def hold(self, what: str, at_most_s: float = HOLD_S) -> None:
        """Put off :meth:`ready` until :meth:`release`, and ask for more time until then; after it, nothing happens.

        Parameters
        ----------
        what : str
            Added to the status line, such as ``"tensorrt compiles the encoder, and the CPU serves"``; a further call
            gives another.
        at_most_s : float
            After this it is ready all the same. Counts from the first call.
        """
        with self._lock:
            first = not self._held_for
            if not self._address or self._let_go.is_set() or (first and self._warm):
                return
            self._held_for = what
            self._show()
        if first:
            threading.Thread(target=self._extend, args=(at_most_s,), name="mird-holding", daemon=True).start()

    def release(self) -> None:
        """What was waited for is there, or will not come."""
        self._let_go.set()

    def _extend(self, at_most_s: float) -> None:
        deadline_s = time.monotonic() + at_most_s
        while not self._let_go.is_set() and (left_s := deadline_s - time.monotonic()) > 0:
            self._send(f"EXTEND_TIMEOUT_USEC={round(EXTENSION_S * 1e6)}", PATIENCE_S)
            self._let_go.wait(min(EXTENSION_S / 3, left_s))
        if not self._let_go.is_set():
            _log.warning("mird is ready after %g s without waiting longer: %s", at_most_s, self._held_for)
            self._let_go.set()
        with self._lock:
            self._held_for = ""
            self._show()
            due = self._warm and not self._ending
        if due:
            self._send("READY=1", PATIENCE_S)

    def alive(self) -> None:
        """A sign of life, for the watchdog; sent at most each quarter of its time, however often this is called."""
        if self.watchdog_s is not None and time.monotonic() - self._alive_mono_s >= self.watchdog_s / 4:
            self._alive_mono_s = time.monotonic()
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """The line that ``systemctl status`` shows; sent where it has changed, or was not taken."""
        with self._lock:
            self._text = text
            self._show()

    def _show(self) -> None:
        text = "; ".join(filter(None, (self._text, self._held_for)))
        line = " ".join(text.split()).encode(errors="replace")[:MAX_STATUS_BYTES].decode(errors="ignore")
        if line != self._status:
            self._status = line if self._send(f"STATUS={line}") else ""

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Around a reload: systemd waits for its end, whether it went well or not.

        Before mird is ready nobody is told: the end of a reload would be taken for the end of the start.
        """
        with self._lock:
            starting = bool(self._held_for) or not self._warm
        if starting:
            yield
            return
        # Both in one datagram: systemd tells by the time whether it is an answer to the reload that it asked for.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", PATIENCE_S)
        try:
            yield
        finally:
            self._send("READY=1", PATIENCE_S)

    @contextlib.contextmanager
    def starting(self, what: str, at_most_s: float = 3600.0) -> Iterator[None]:
        """Around work before :meth:`ready` that may take longer than the unit's TimeoutStartSec, such as an engine's.

        Parameters
        ----------
        what : str
            For the status line, such as ``"building the engine"``.
        at_most_s : float
            After this no more time is asked for: what hangs is still killed.
        """
        if not self._address:
            yield
            return
        self.status(what)
        done = threading.Event()

        def ask() -> None:
            deadline_s = time.monotonic() + at_most_s
            while time.monotonic() < deadline_s:
                self._send(f"EXTEND_TIMEOUT_USEC={round(EXTENSION_S * 1e6)}", PATIENCE_S)
                if done.wait(EXTENSION_S / 3):
                    return

        thread = threading.Thread(target=ask, name="mird-starting", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def stopping(self) -> None:
        """On the way to the end."""
        with self._lock:
            self._ending = True
        self._send("STOPPING=1", PATIENCE_S)

    def _send(self, message: str, patience_s: float = 0.0) -> bool:
        """Whether it was taken, or nobody is to be told."""
        if not self._address:
            return True
        deadline_s = time.monotonic() + patience_s
        error = self._try(message)
        while isinstance(error, BlockingIOError) and time.monotonic() < deadline_s:
            time.sleep(0.01)  # the queue of systemd's end is full, which no poll of this end can tell
            error = self._try(message)
        if error is not None:
            self.n_unsent += 1
            if self.n_unsent == 1:
                _log.warning("systemd cannot be told %s: %s", message.partition("\n")[0], error.strerror)
        return error is None

    def _try(self, message: str) -> OSError | None:
        try:
            with sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM) as socket:  # there may be no descriptor left
                socket.settimeout(0)
                socket.sendto(message.encode(), self._address)
        except OSError as error:
            return error
        return None
