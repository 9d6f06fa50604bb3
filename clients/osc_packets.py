"""OSC packets in bytes, with python-osc."""

from collections.abc import Iterable

from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message import OscMessage
from pythonosc.osc_message_builder import OscMessageBuilder

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
