"""A MIDI output, of its own name or another program's, that may go away and come back."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import rtmidi

from mird.clients.errors import OutletError

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
    output : rtmidi.MidiOut
        Handed over.
    pattern : str
        Part of another program's port's name, without regard to case, with ``*`` and ``?`` as in a shell: it is
        connected to, and waited for. Empty: a port of our own, that others connect to.
    name : str
        Of our own port.

    Attributes
    ----------
    is_open : bool
    """

    def __init__(self, output: rtmidi.MidiOut, pattern: str = "", name: str = "out") -> None:
        self.is_open = False
        self._output = output
        self._pattern = pattern
        self._name = name
        self._connected = ""
        self._told = False
        self._checked_s = 0.0
        self.check()

    def send(self, message: Sequence[int]) -> None:
        """Send the bytes of one message, where the port is there."""
        if self.is_open:
            self._output.send_message(message)

    def check(self) -> bool:
        """Look each `CHECK_S` whether the port is there, and open it. Returns whether it was opened just now."""
        if time.monotonic() - self._checked_s < CHECK_S or (self.is_open and not self._pattern):
            return False
        self._checked_s = time.monotonic()
        if not self._pattern:
            try:
                self._output.open_virtual_port(self._name)
            except rtmidi.RtMidiError as error:
                raise OutletError(f"MIDI port {CLIENT}:{self._name} cannot be made: {error}") from error
            self.is_open = True
            _log.info("MIDI port %s:%s is there to be connected", CLIENT, self._name)
            return True
        ports = self._output.get_ports()
        if self.is_open:
            if self._connected not in ports:
                _log.warning("MIDI port %s has gone; waiting for it", self._connected)
                self._output.close_port()
                self.is_open = False
            return False
        return self._connect(ports)

    def close(self) -> None:
        """Close the port when what was sent has gone out; idempotent."""
        self.is_open = False
        self._output.close_port()
        self._output.delete()

    def _connect(self, ports: list[str]) -> bool:
        found = [index for index, port in enumerate(ports) if matches(port, self._pattern)]
        if not found:
            if not self._told:
                self._told = True
                there = ", ".join(ports) or "none"
                _log.warning("no MIDI port named like %r; waiting for it (there are: %s)", self._pattern, there)
            return False
        try:
            self._output.open_port(found[0], self._name)
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
