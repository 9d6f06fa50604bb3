"""Messages as lines: JSON for programs, sentences for people."""

import json
from datetime import datetime

from mird.daemon.message_codec import to_map
from mird.daemon.messages import Event, Frame, Heartbeat, Level, Message


def json_line(message: Message) -> str:
    """The message's map as one line of JSON."""
    return json.dumps(to_map(message), ensure_ascii=False, allow_nan=False)


def audacity_line(start_s: float, end_s: float, label: str) -> str:
    """One label of a track in Audacity's text form; times in seconds."""
    return f"{start_s:.3f}\t{end_s:.3f}\t{label}"


def line_of(message: Message) -> str:
    """The message as one line for people, with the local time at which it happened."""
    where = f"{message.source} {message.channel}" if message.channel else message.source
    if isinstance(message, Event):
        if message.end_utc_ns is None or message.sample_end is None:
            return f"{_clock(message.start_utc_ns)}  {where}  start  {message.label}  {message.score:.2f}"
        heard_s = (message.sample_end - message.sample_start) / message.rate_hz
        return f"{_clock(message.end_utc_ns)}  {where}  end    {message.label}  {message.score:.2f}  {heard_s:.1f} s"
    clock = _clock(message.t_utc_ns)
    if isinstance(message, Frame):
        return f"{clock}  {where}  frame  {message.label}  {message.confidence:.2f}  {message.level_dbfs:.0f} dBFS"
    if isinstance(message, Level):
        return f"{clock}  {where}  level  {message.rms_dbfs:.0f} dBFS, peak {message.peak_dbfs:.0f} dBFS"
    if isinstance(message, Heartbeat):
        return f"{clock}  {where}  up     {message.uptime_s:.0f} s"
    return f"{clock}  {where}  {message.state}  {message.detail}".rstrip()


def _clock(utc_ns: int) -> str:
    """Local time of day with tenths of a second."""
    try:
        moment = datetime.fromtimestamp(utc_ns / 1e9).astimezone()
    except (OverflowError, OSError, ValueError):
        return "--:--:--.-"
    return f"{moment:%H:%M:%S}.{moment.microsecond // 100_000}"
