"""Binding a ZeroMQ socket to an address, with errors that say what to do.

Some things that libzmq does are not wanted: it takes over the file of an ``ipc`` address even while another daemon
listens there, or where the file is no socket at all; it leaves that file behind; and it binds to the network as readily
as to this machine.
"""

import contextlib
import errno
import ipaddress
import os
import socket as sockets
import stat
from pathlib import Path

import zmq

from mird.daemon.curve import Gate
from mird.daemon.errors import EndpointError, KeysError

MAX_IPC_PATH_BYTES = 107
HEARTBEAT_MS = 5_000
VANISHED_MS = 15_000

_LOOPBACK = "use 127.0.0.1, and `ssh -L` from elsewhere"
_LOCAL = f"{_LOOPBACK}, or make keys: mird keys --help"


def open_gate(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, setting: str, keys: Path | None) -> Gate | None:
    """The gate that an address needs: none for one of this machine alone.

    Parameters
    ----------
    context : zmq.Context
        Of the socket that is to be bound.
    endpoint : str
    setting : str
    keys : Path or None
        The folder of keys.

    Raises
    ------
    EndpointError
        The address is reachable from the network, and there are no keys to tell friends by.
    """
    scheme, _, rest = endpoint.partition("://")
    address = _ip_address(rest.rpartition(":")[0])
    if scheme != "tcp" or address is None or address.is_loopback or keys is None:
        return None  # what is no address is told when it is bound
    try:
        return Gate(context, keys, f"{setting} {endpoint}")
    except KeysError as error:
        raise _error(
            endpoint, setting, f"whoever reaches this machine could connect, and {error}", f"or {_LOOPBACK}"
        ) from error


def bind(socket: zmq.Socket[bytes], endpoint: str, setting: str, gate: Gate | None = None) -> str:
    """Bind a socket to an address of this machine.

    Parameters
    ----------
    socket : zmq.Socket
    endpoint : str
        ``tcp://127.0.0.1:PORT`` (port ``*``: any free one) or ``ipc://PATH``. The file of an ``ipc`` address gets mode
        0660; one that a daemon left behind is replaced. With a gate, any other number of this machine.
    setting : str
        The setting that has the address, for messages.
    gate : Gate, optional
        Of :func:`open_gate`.

    Returns
    -------
    str
        The address in force, with its port.

    Raises
    ------
    EndpointError
        The address is in use, malformed, not this machine's, or reachable from the network without a gate.
    """
    scheme, separator, rest = endpoint.partition("://")
    if scheme == "tcp" and separator:
        _check_tcp(socket, endpoint, rest, setting, gate)
    elif scheme == "ipc" and separator:
        _check_ipc(endpoint, rest, setting)
    else:
        raise _error(endpoint, setting, "not an address", "it begins with tcp:// or ipc://")
    try:
        socket.bind(endpoint)
        if scheme == "ipc":
            Path(rest).chmod(0o660)
    except zmq.ZMQError as error:
        raise _bind_error(endpoint, setting, error.errno or 0) from error
    except OSError as error:
        raise _error(endpoint, setting, str(error.strerror), "choose another folder") from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def notice_the_vanished(socket: zmq.Socket[bytes]) -> None:
    """Have peers that answer nothing any more disconnected: those whose machine went off would stay for ever."""
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, VANISHED_MS)


def unbind_file(endpoint: str) -> None:
    """Remove the file of an address in force; to be called while the socket still listens and nobody else can."""
    if endpoint.startswith("ipc://"):
        with contextlib.suppress(OSError):
            Path(endpoint.removeprefix("ipc://")).unlink()


def _check_tcp(socket: zmq.Socket[bytes], endpoint: str, address: str, setting: str, gate: Gate | None) -> None:
    host, _, port = address.rpartition(":")
    if not host or not (port == "*" or (port.isascii() and port.isdigit() and 0 < int(port) < 65_536)):
        raise _error(endpoint, setting, "not an address", "it is tcp://127.0.0.1:PORT, with a port from 1 to 65535")
    number = _ip_address(host)
    if number is None:
        raise _error(endpoint, setting, f"{host!r} is no number of this machine", _LOCAL)
    if not number.is_loopback:
        if gate is None:
            raise _error(endpoint, setting, "whoever reaches this machine could connect, and there are no keys", _LOCAL)
        gate.secure(socket)
    if number.version == 6:
        socket.setsockopt(zmq.IPV6, 1)


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The number of a host, where it is one; ``*`` is any of this machine's."""
    try:
        return ipaddress.ip_address("0.0.0.0" if host == "*" else host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _check_ipc(endpoint: str, name: str, setting: str) -> None:
    path = Path(name)
    if not name or name.startswith("@"):
        raise _error(endpoint, setting, "not a file", "it is ipc:// and a path, whose mode says who may connect")
    if len(os.fsencode(name)) > MAX_IPC_PATH_BYTES:
        raise _error(endpoint, setting, f"path longer than {MAX_IPC_PATH_BYTES} bytes", "choose a shorter one")
    if not path.parent.is_dir():
        raise _error(endpoint, setting, f"there is no folder {path.parent}", "make it, or choose another")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _error(endpoint, setting, str(error.strerror), "choose another") from error
    if not stat.S_ISSOCK(mode):
        raise _error(endpoint, setting, "the file is there and no socket", "remove it, or choose another")
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            return  # nobody listens: left behind by a daemon that was killed; libzmq replaces it
        except OSError:
            pass  # there is a listener, which is busy or not for us
    raise _bind_error(endpoint, setting, errno.EADDRINUSE)


def _bind_error(endpoint: str, setting: str, number: int) -> EndpointError:
    if number == errno.EADDRINUSE:
        return _error(
            endpoint, setting, "the address is in use", "stop the mird (or other program) there, or choose another"
        )
    if number == errno.EACCES:
        return _error(endpoint, setting, "permission denied", "choose a port from 1024, or a folder of your own")
    if number in (errno.EADDRNOTAVAIL, errno.ENODEV):
        return _error(endpoint, setting, "not an address of this machine", "use 127.0.0.1")
    return _error(endpoint, setting, zmq.strerror(number), "choose another")


def _error(endpoint: str, setting: str, what: str, remedy: str) -> EndpointError:
    return EndpointError(f"cannot listen at {endpoint}: {what}; {remedy} (setting {setting}, --{setting} ADDRESS)")
