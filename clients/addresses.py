"""Host and port as people write them."""

from mird.clients.errors import UsageError


def host_and_port(text: str, default_host: str, default_port: int) -> tuple[str, int]:
    """Split ``HOST``, ``HOST:PORT``, ``PORT`` or ``[IPV6]:PORT``.

    Raises
    ------
    UsageError
        It is none of these.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = ("", text) if text.isascii() and text.isdigit() else (text, str(default_port))
    elif text.endswith("]"):
        host, port = text, str(default_port)
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise UsageError(f"{text!r}: must be HOST:PORT, with a port from 1 to 65535")
    host = host.removeprefix("[").removesuffix("]") or default_host
    if any(each.isspace() or each in "/@" for each in host):
        raise UsageError(f"{text!r}: {host!r} is no name or number of a host")
    return host, int(port)
