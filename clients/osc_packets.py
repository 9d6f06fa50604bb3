"""OSC packets in bytes, with python-osc."""

from collections.abc import Iterable
from typing import Any

from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_packet import OscPacket, ParseError

BUNDLE = b"#bundle\0"
HEAD_BYTES = len(BUNDLE) + 8  # and the time tag

Argument = str | int | float


def osc_message(address: str, arguments: Iterable[Argument]) -> OscMessage:
    """One message; text is UTF-8, whole numbers are int32, others float32."""
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    return builder.build()


def osc_bundle(messages: Iterable[OscMessage], utc_ns: int | None) -> bytes:
    """Messages in a bundle with a time tag; None: to be taken at once."""
    # Its annotation says int, its text and its code float.
    builder = OscBundleBuilder(IMMEDIATELY if utc_ns is None else utc_ns / 1e9)  # type: ignore[arg-type]
    for message in messages:
        builder.add_content(message)
    return builder.build().dgram


def read_packet(packet: bytes) -> list[tuple[str, list[Any]]]:
    """Addresses and arguments of a packet's messages; a bundle's in the order of their times.

    Raises
    ------
    ValueError
        It is no OSC.
    """
    try:
        _check_sizes(packet)
        return [(each.message.address, each.message.params) for each in OscPacket(packet).messages]
    except (ParseError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _check_sizes(packet: bytes) -> None:
    """Refuse a bundle whose elements do not lie in it: python-osc goes back by a negative size, for ever."""
    at = HEAD_BYTES
    while packet.startswith(BUNDLE) and at < len(packet):
        n_bytes = int.from_bytes(packet[at : at + 4], "big", signed=True)
        at += 4
        if not 0 < n_bytes <= len(packet) - at:
            raise ValueError(f"a bundle with an element of {n_bytes} bytes, where {max(0, len(packet) - at)} are left")
        _check_sizes(packet[at : at + n_bytes])
        at += n_bytes
