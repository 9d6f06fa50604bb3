"""What the daemon publishes as OSC messages: flat addresses, plain arguments."""

import re
from collections.abc import Iterator

from mird.daemon.messages import Event, Frame, Heartbeat, Level, Message

Argument = str | int | float
OscMessage = tuple[str, tuple[Argument, ...]]

_NOT_IN_ADDRESSES = re.compile(r"[^!-~]|[#*,/?\[\]{}]")


def osc_messages(message: Message) -> Iterator[OscMessage]:
    """The OSC messages of one message, each an address and its arguments.

    ======================================  ==========================================================================
    ``/mird/<source>/<channel>/event``      ``start`` or ``end``, label, score, seconds (0 at the start), event_id
    ``/mird/<source>/<channel>/label``      label, confidence, level in dBFS: each hop
    ``/mird/<source>/<channel>/scores``     label, score, label, score, ... the best first: each hop
    ``/mird/<source>/<channel>/level``      RMS and peak in dBFS: each hop
    ``/mird/status/state``                  source, state, detail
    ``/mird/status/heartbeat``              source, uptime in s, latency p50 and p99 in ms (-1: not yet known)
    ======================================  ==========================================================================
    """
    place = f"/mird/{address_part(message.source)}/{message.channel}"
    if isinstance(message, Event):
        samples = 0 if message.sample_end is None else message.sample_end - message.sample_start
        seconds = samples / message.rate_hz
        yield f"{place}/event", (message.event, message.label, message.score, seconds, message.event_id)
    elif isinstance(message, Frame):
        yield f"{place}/label", (message.label, message.confidence, message.level_dbfs)
        yield f"{place}/scores", tuple(each for score in message.top for each in (score.label, score.score))
    elif isinstance(message, Level):
        yield f"{place}/level", (message.rms_dbfs, message.peak_dbfs)
    elif isinstance(message, Heartbeat):
        latencies = (message.latency_p50_ms, message.latency_p99_ms)
        known = tuple(-1.0 if each is None else each for each in latencies)
        yield "/mird/status/heartbeat", (message.source, message.uptime_s, *known)
    else:
        yield "/mird/status/state", (message.source, message.state, message.detail)


def address_part(name: str) -> str:
    """A source's name as a part of an address: what OSC does not allow there becomes ``_``."""
    return _NOT_IN_ADDRESSES.sub("_", name)


def happened_utc_ns(message: Message) -> int:
    """When what the message tells of was so: the time tag of its bundle."""
    if isinstance(message, Event):
        return message.start_utc_ns if message.end_utc_ns is None else message.end_utc_ns
    if isinstance(message, Frame):
        return message.capture_utc_ns
    return message.t_utc_ns
