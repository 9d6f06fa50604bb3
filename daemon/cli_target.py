"""Who changes the support set: the running daemon, or the command itself where none runs."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from mird.clients.control import ControlClient
    from mird.daemon.settings import Settings


class Target(Protocol):
    """Answers the control socket's verbs."""

    def request(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """As :meth:`mird.clients.control.ControlClient.request`."""
        ...


def keys_for(settings: "Settings", endpoint: str) -> "Path | None":
    """The folder of keys that an address asks for: none for one of this machine alone."""
    from mird.clients.keys import is_local
    from mird.daemon.assembly import keys_folder

    return None if is_local(endpoint) else keys_folder(settings)


def open_control(settings: "Settings", timeout_s: float = 5.0) -> "ControlClient":
    """A client of the running daemon's control socket, with keys where it is off this machine; see ControlClient."""
    from mird.clients.control import ControlClient
    from mird.daemon.assembly import control_address

    endpoint = control_address(settings)
    return ControlClient(endpoint, timeout_s, keys_for(settings, endpoint))


@contextmanager
def open_target(settings: "Settings") -> Iterator[Target]:
    """The daemon that uses the support set of these settings, else the set's file.

    A support set that is named in the settings and is not the daemon's own is edited as a file; so is one where another
    encoder is named than the daemon's, which refuses it unless it was made with that encoder.

    Raises
    ------
    SupportError, EngineError
        The file or the encoder cannot be used; from the daemon, what it refuses with.
    DaemonSilent
        A daemon is there and does not answer: the file is not edited behind its back.
    DaemonUnreachable
        No daemon is there, on another machine: a file of this one is not what was meant.
    """
    from mird.clients.errors import DaemonSilent, DaemonUnreachable
    from mird.clients.keys import is_local

    with open_control(settings) as client:
        try:
            status = client.status()
        except DaemonSilent:
            raise
        except DaemonUnreachable:
            if not is_local(client.endpoint):
                raise
            status = None
        if status is not None and _serves(status, settings):
            yield client
            return
    yield FileTarget(settings)


def _serves(status: Mapping[str, Any], settings: "Settings") -> bool:
    """Whether a daemon uses the support set and the encoder that the settings name."""
    if settings.support and os.path.realpath(status["support"]) != os.path.realpath(settings.support):
        return False
    if not settings.engine or status["engine_file"] == os.path.realpath(Path(settings.engine).expanduser()):
        return True
    from mird.daemon.assembly import open_engine

    in_use: str = status["fingerprint"]
    return open_engine(settings).card.fingerprint == in_use


class FileTarget:
    """The support set's file, edited by this process."""

    def __init__(self, settings: "Settings") -> None:
        from mird.daemon.assembly import open_engine, open_store

        encoder = open_engine(settings)
        self._front_end = encoder.card.front_end
        self._handlers = open_store(settings, encoder).handlers()

    def request(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """As the daemon would answer."""
        if verb == "status":
            return {"rate_hz": self._front_end.rate_hz, "window": self._front_end.window}
        return dict(self._handlers[verb](arguments))
