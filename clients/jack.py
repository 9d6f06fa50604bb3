"""Whether a JACK server still runs: rtmidi does not say, and a port of a server that has ended takes everything."""

import ctypes
from pathlib import Path
from typing import Final

import rtmidi

NO_START_SERVER: Final = 1
"""JackNoStartServer of jack/types.h."""

_Shutdown = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class JackServer:
    """A client of the JACK server without ports, which is told when the server ends.

    JACK's own thread calls it then; any thread reads. Clients of a server that has ended must all be closed before
    another is made: libjack ends the process else.

    Parameters
    ----------
    name : str
        The client's.

    Attributes
    ----------
    has_ended : bool
    """

    def __init__(self, name: str) -> None:
        self.has_ended = False
        self._library = _library()
        self._told = _Shutdown(self._on_shutdown)  # kept as long as JACK may call it
        self._client = self._library.jack_client_open(name.encode(), NO_START_SERVER, None)
        if not self._client:  # it went just now
            self.has_ended = True
            return
        self._library.jack_on_shutdown(self._client, self._told, None)
        if self._library.jack_activate(self._client):
            self.has_ended = True

    def close(self) -> None:
        """Be no client any more; idempotent."""
        if self._client:
            self._library.jack_client_close(self._client)
            self._client = None

    def _on_shutdown(self, _: int | None) -> None:
        self.has_ended = True


def _library() -> ctypes.CDLL:
    """The libjack that rtmidi brought: another one would be a client of its own kind."""
    assert rtmidi.API_UNIX_JACK in rtmidi.get_compiled_api()
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    library = ctypes.CDLL(next((line.split(maxsplit=5)[5] for line in mapped if "/libjack" in line), "libjack.so.0"))
    library.jack_client_open.restype = ctypes.c_void_p
    library.jack_client_open.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p]
    library.jack_on_shutdown.restype = None
    library.jack_on_shutdown.argtypes = [ctypes.c_void_p, _Shutdown, ctypes.c_void_p]
    library.jack_activate.argtypes = [ctypes.c_void_p]
    library.jack_client_close.argtypes = [ctypes.c_void_p]
    return library
