"""Devices: the inputs that this machine has, and the one that a pattern means.

PortAudio freezes its list of devices when it is initialised, and initialising it anew would stop every stream: so the
list is made in a process of its own. That keeps the noise of ALSA and JACK out of our stderr, and a sound server that
does not answer out of our threads.
"""

import fnmatch
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Final

from mird.daemon.errors import MirdError

_TIMEOUT_S: Final = 5.0

_SERVERS: Final = ("default", "sysdefault", "pulse", "pipewire", "jack")
_SERVER_INPUTS: Final = 32


class DeviceListError(MirdError):
    """The inputs cannot be listed: PortAudio does not answer, or cannot be loaded."""


@dataclass(frozen=True)
class Device:
    """An input that PortAudio offers.

    Parameters
    ----------
    name : str
        PortAudio's name, such as ``Scarlett 2i2 USB: Audio (hw:1,0)``.
    host_api : str
        ``ALSA``, ``JACK Audio Connection Kit``, ``Core Audio`` …
    n_inputs : int > 0
        Input channels that it can be opened with.
    default_rate_hz : int
        The rate that the host API gives it.
    is_default : bool
        Whether it is the default input.
    """

    name: str
    host_api: str
    n_inputs: int
    default_rate_hz: int
    is_default: bool

    @property
    def is_server(self) -> bool:
        """Whether it is ALSA's door to a sound server, which says 32 channels or more whatever is behind it.

        The server makes up the channels that the microphone does not have, and mixes down those that are not opened.
        """
        return self.name in _SERVERS and self.n_inputs >= _SERVER_INPUTS

    @property
    def n_native_inputs(self) -> int:
        """Channels that "all" means: two of a sound server, else those that there are."""
        return 2 if self.is_server else self.n_inputs


def list_inputs(timeout_s: float = _TIMEOUT_S) -> list[Device]:
    """The inputs that there are now, in PortAudio's order.

    It takes about 0.1 s, and `timeout_s` if a sound server hangs.

    Raises
    ------
    DeviceListError
        If there is no answer in time, or PortAudio cannot be used at all.
    """
    return [Device(**fields) for fields in _probed(timeout_s)]


def list_host_apis(timeout_s: float = _TIMEOUT_S) -> tuple[str, dict[str, int]]:
    """PortAudio's version, and how many devices each of the host APIs that it was built with has.

    Raises
    ------
    DeviceListError
        As :func:`list_inputs`.
    """
    found = _probed(timeout_s, "host-apis")
    return found.pop("version"), found


def _probed(timeout_s: float, *what: str) -> Any:
    # JACK_NO_START_SERVER: looking for devices must not start a sound server, which would hold the card from then on.
    command = [sys.executable, "-m", "mird.daemon.device_probe", *what]
    try:
        probe = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "JACK_NO_START_SERVER": "1"},
        )
    except subprocess.TimeoutExpired:
        raise DeviceListError(
            f"the audio inputs could not be listed within {timeout_s:g} s: the sound server does not answer; "
            "restart PulseAudio or PipeWire"
        ) from None
    except OSError as error:
        raise DeviceListError(f"the audio inputs cannot be listed: {command[0]} does not start ({error})") from None
    if probe.returncode != 0:
        last = probe.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise DeviceListError(
            f"the audio inputs cannot be listed (exit status {probe.returncode}: {last}); is PortAudio installed?"
        )
    return json.loads(probe.stdout.decode().strip().rpartition("\n")[2])


def find_input(devices: list[Device], pattern: str) -> Device | None:
    """The input that a pattern means.

    Parameters
    ----------
    devices : list of Device
        Those that there are.
    pattern : str
        A part of the name, or a glob with ``*``, ``?`` or ``[…]`` over the whole of it; upper and lower case are equal.
        Empty: the default input, or the first one where none is the default.

    Returns
    -------
    Device or None
        Of several, the one whose name is the pattern, else the default input, else the first.
    """
    wanted = pattern.casefold()
    matches = [
        device
        for device in devices
        if wanted in device.name.casefold() or fnmatch.fnmatchcase(device.name.casefold(), wanted)
    ]
    return min(
        matches,
        key=lambda device: (bool(wanted) and device.name.casefold() != wanted, not device.is_default),
        default=None,
    )


def names_of(devices: list[Device]) -> str:
    """The names of inputs in one line, for a message."""
    return ", ".join(repr(device.name) for device in devices) if devices else "none"
