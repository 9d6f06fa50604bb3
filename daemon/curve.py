"""Who gets in off this machine: CURVE with the daemon's keys, and an allow-list that is heeded while it changes."""

import logging
import threading
import time
from pathlib import Path
from typing import Final

import zmq
from zmq.auth.thread import ThreadAuthenticator

from mird.daemon.errors import KeysError
from mird.daemon.keys import CLIENTS, allow_list, server_pair

HANDSHAKE_MS: Final = 5_000
"""Who has not proven a key by then is disconnected."""

LOOK_S: Final = 0.5
"""How often the allow-list's folder is looked at."""

Signature = tuple[tuple[str, int, int], ...]

_log = logging.getLogger(__name__)


class Gate:
    """Lets in who has a key on the allow-list; every other handshake on its context's sockets is refused and counted.

    Made, asked and closed by the socket's thread. The authenticator's own thread calls :meth:`callback`, and another
    looks at the folder: a disk that is slow keeps handshakes waiting, and never the socket's thread.

    Parameters
    ----------
    context : zmq.Context
        The socket's.
    folder : Path
        Of keys, as :mod:`mird.daemon.keys` describes it.
    what : str
        What is guarded, for the log.

    Attributes
    ----------
    n_refused : int
        Keys that were not on the allow-list when they were shown.

    Raises
    ------
    KeysError
        There are no keys, or others can read the secret one.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", folder: Path, what: str) -> None:
        self.n_refused = 0
        self._secret = server_pair(folder)[1]
        self._folder = folder
        self._what = what
        self._signature: Signature | None = self._look()
        self._allowed = allow_list(folder, _log.warning)
        self._lock = threading.Lock()  # of the list and its signature
        self._read_mono_s = float("-inf")
        self._cut_off = False  # somebody is no longer on the list; set by the looking thread
        self._unbound = False
        self._n_attempts = 0
        # Its own log would be a line a handshake, and 1 in 100 is ours.
        self._authenticator = ThreadAuthenticator(context, log=logging.getLogger("mird.zap"))
        logging.getLogger("mird.zap").setLevel(logging.ERROR)
        self._authenticator.start()
        self._authenticator.configure_curve_callback("*", self)
        self._closed = threading.Event()
        self._looking = threading.Thread(target=self._look_on, name="mird-keys", daemon=True)
        self._looking.start()

    def secure(self, socket: "zmq.Socket[bytes]") -> None:
        """What this socket binds next, it binds behind the gate."""
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        socket.curve_server = 1
        socket.curve_secretkey = self._secret

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - as zmq.auth calls it
        """Whether a key that was proven is let in."""
        name = self._allowed.get(key) or self._just_added(key)
        if name is not None:
            _log.info("%s: let in %s", self._what, name)
            return True
        self.n_refused += 1
        if self.n_refused % 100 == 1:
            _log.warning(
                "%s: refused key %s (%d so far); who is to get in: mird keys add NAME FILE",
                self._what,
                key.decode(errors="replace"),
                self.n_refused,
            )
        return False

    def _just_added(self, key: bytes) -> str | None:
        """The name of a key that came on the list since it was read; who shows wrong keys fast reads no faster."""
        with self._lock:
            if time.monotonic() - self._read_mono_s < 0.1:
                return None
            self._read_mono_s = time.monotonic()
            try:
                allowed = allow_list(self._folder)
            except KeysError:
                return None
            if key in allowed:
                self._allowed = allowed
                self._signature = None  # the next look must not miss that it goes again
            return allowed.get(key)

    def _look_on(self) -> None:
        while not self._closed.wait(LOOK_S):
            try:
                with self._lock:
                    self._read_if_changed()
            except Exception:  # noqa: BLE001 - without this thread nobody would be shut out any more
                _log.exception("a fault in mird while the allow-list was looked at; it stays as it was")

    def _read_if_changed(self) -> None:
        """Read the allow-list anew where its folder has changed."""
        signature = self._look()
        if signature == self._signature:
            return
        self._signature = signature
        try:
            allowed = allow_list(self._folder, _log.warning)
        except KeysError as error:
            _log.error("%s; the allow-list stays as it was", error)
            return
        before, self._allowed = self._allowed, allowed
        gone = sorted(before[key] for key in before.keys() - allowed.keys())
        come = sorted(allowed[key] for key in allowed.keys() - before.keys())
        _log.info("%s: allow-list changed: let in %s; no longer %s", self._what, come or "none", gone or "none")
        if gone:
            self._cut_off = True

    def attend(self, socket: "zmq.Socket[bytes]", endpoint: str) -> None:
        """Heed the allow-list: to be called often by the socket's thread; never waits.

        Who is no longer on the list is cut off by closing every connection of the address, which the others take up
        again by themselves.
        """
        if self._cut_off:
            self._cut_off = False
            socket.unbind(endpoint)
            self._unbound = True
        if self._unbound:
            try:
                socket.bind(endpoint)
            except zmq.ZMQError as error:
                # ZeroMQ's own thread is about to give the address up; or another program took it meanwhile.
                self._n_attempts += 1
                if self._n_attempts % 100 == 50:
                    _log.error("%s: cannot listen again: %s; trying on", self._what, error.strerror)
            else:
                self._unbound = False
                self._n_attempts = 0

    def close(self) -> None:
        """End both threads; before the context ends."""
        self._closed.set()
        self._looking.join(1.0)  # no longer: the disk that it asks may not answer
        self._authenticator.stop()

    def _look(self) -> Signature:
        """What tells one state of the allow-list's folder from another."""
        seen = []
        try:
            for path in (self._folder / CLIENTS).glob("*.key"):
                status = path.stat()
                seen.append((path.name, status.st_mtime_ns, status.st_ino))
        except OSError:
            pass  # a file that went while we looked: the next look sees it gone
        return tuple(sorted(seen))
