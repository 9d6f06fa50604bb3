"""A MIDI output, of its own name or another program's, that may go away and come back."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import rtmidi

from mird.clients.errors import OutletError
from mird.clients.jack import JackServer

Api = Literal["alsa", "jack"]

CHECK_S = 1.0
CLIENT = "mird"
SEQUENCER = Path("/dev/snd/seq")
"""Without it ALSA has no MIDI ports, and says so in lines of its own on standard error."""

_APIS = {"alsa": rtmidi.API_LINUX_ALSA, "jack": rtmidi.API_UNIX_JACK}

_log = logging.getLogger(__name__)


def open_output(api: Api | None = None) -> rtmidi.MidiOut:
    """A client of ALSA's sequencer or of JACK, without a port yet.

    Parameters
    ----------
    api : "alsa" or "jack", optional
        ALSA by default, or JACK where there is no ALSA sequencer.

    Raises
    ------
    OutletError
        It is not there.
    """
    os.environ.setdefault("JACK_NO_START_SERVER", "1")  # never start somebody's sound server
    if api is None:
        api = "alsa" if SEQUENCER.exists() else "jack"
        none = f"no MIDI here: there is no ALSA sequencer ({SEQUENCER}; try `modprobe snd-seq`) and no JACK server runs"
    elif api == "alsa":
        none = f"no ALSA sequencer ({SEQUENCER}); try `modprobe snd-seq`, or --api jack"
    else:
        none = "no JACK server runs; start one, or --api alsa"
    if api == "alsa" and not SEQUENCER.exists():
        raise OutletError(none)
    try:
        with _native_stderr_closed():
            return rtmidi.MidiOut(_APIS[api], name=CLIENT)
    except rtmidi.RtMidiError as error:
        raise OutletError(none) from error


@contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Keep what JACK writes about a server that is not there off standard error: our own line says it."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class MidiPort:
    """Sends to a port; one thread uses it.

    Parameters
    ----------
    output : Callable[[], rtmidi.MidiOut]
        Makes a client, as :func:`open_output` does: at once, and again when the JACK server has gone and comes back.
    pattern : str
        Part of another program's port's name, without regard to case, with ``*`` and ``?`` as in a shell: it is
        connected to, and waited for. Empty: a port of our own, that others connect to.
    name : str
        Of our own port.

    Attributes
    ----------
    is_open : bool

    Raises
    ------
    OutletError
        There is neither ALSA nor JACK, or no port can be made.
    """

    def __init__(self, output: Callable[[], rtmidi.MidiOut], pattern: str = "", name: str = "out") -> None:
        self.is_open = False
        self._make_output = output
        self._output: rtmidi.MidiOut | None = None
        self._server: JackServer | None = None
        self._pattern = pattern
        self._name = name
        self._connected = ""
        self._told = self._told_gone = False
        self._checked_s = 0.0
        self._opened()
        self.check()

    def send(self, message: Sequence[int]) -> None:
        """Send the bytes of one message, where the port is there."""
        if self.is_open and self._output is not None:
            self._output.send_message(message)

    def check(self) -> bool:
        """Look each `CHECK_S` whether the port is there, and open it. Returns whether it was opened just now."""
        if time.monotonic() - self._checked_s < CHECK_S:
            return False
        self._checked_s = time.monotonic()
        if self._server is not None and self._server.has_ended:
            self.close()
        output = self._output or self._again()
        if output is None:
            return False
        if not self.is_open:
            return self._connect(output) if self._pattern else self._make_port(output)
        if self._pattern and self._connected not in output.get_ports():
            _log.warning("MIDI port %s has gone; waiting for it", self._connected)
            output.close_port()
            self.is_open = False
        return False

    def close(self) -> None:
        """Close the port when what was sent has gone out; idempotent."""
        self.is_open = False
        if self._output is not None:
            self._output.close_port()
            self._output.delete()
        if self._server is not None:
            self._server.close()
        self._output = self._server = None

    def _again(self) -> rtmidi.MidiOut | None:
        """A new client, if the JACK server has come back."""
        try:
            output = self._opened()
        except OutletError as error:
            if not self._told_gone:
                self._told_gone = True
                _log.warning("the JACK server has ended: %s; waiting for it", error)
            return None
        self._told_gone = False
        _log.info("a JACK server runs again")
        return output

    def _opened(self) -> rtmidi.MidiOut:
        self._output = self._make_output()
        if self._output.get_current_api() == rtmidi.API_UNIX_JACK:
            self._server = JackServer(f"{CLIENT}-look")
        return self._output

    def _make_port(self, output: rtmidi.MidiOut) -> bool:
        try:
            output.open_virtual_port(self._name)
        except rtmidi.RtMidiError as error:
            raise OutletError(f"MIDI port {CLIENT}:{self._name} cannot be made: {error}") from error
        self.is_open = True
        _log.info("MIDI port %s:%s is there to be connected", CLIENT, self._name)
        return True

    def _connect(self, output: rtmidi.MidiOut) -> bool:
        ports = output.get_ports()
        found = [index for index, port in enumerate(ports) if matches(port, self._pattern)]
        if not found:
            if not self._told:
                self._told = True
                there = ", ".join(ports) or "none"
                _log.warning("no MIDI port named like %r; waiting for it (there are: %s)", self._pattern, there)
            return False
        try:
            output.open_port(found[0], self._name)
        except rtmidi.RtMidiError as error:
            _log.warning("MIDI port %s: %s", ports[found[0]], error)
            return False
        self._connected = ports[found[0]]
        self.is_open = self._told = True
        _log.info("MIDI port %s: connected", self._connected)
        return True


def matches(port: str, pattern: str) -> bool:
    """Whether a port's name holds a pattern."""
    return fnmatchcase(port.casefold(), f"*{pattern.casefold()}*")
