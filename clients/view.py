"""The live view of a terminal: what each channel plays now, how sure that is, how loud, and what happened last."""

import time
from collections import deque
from collections.abc import Iterator

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from mird.clients.lines import line_of
from mird.daemon.messages import Frame, Heartbeat, Level, Message, State

N_EVENTS = 50
MIN_EVENT_ROWS = 4
QUIET_DBFS = -60.0
SILENT_DAEMON_S = 3.0

_STATE_STYLES = {"LIVE": "bold green", "WAITING": "bold yellow", "ENDED": "bold cyan"}
_NO_INSTRUMENT = ("silence", "unknown")


class LiveView:
    """A renderable of the latest messages, as large as the terminal; one thread feeds and shows it.

    Parameters
    ----------
    endpoint : str
        Where the messages come from, to be shown until the first of them.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._run_id = ""
        self._state: State | None = None
        self._heartbeat: Heartbeat | None = None
        self._frames: dict[int, Frame] = {}
        self._levels: dict[int, Level] = {}
        self._events: deque[str] = deque(maxlen=N_EVENTS)
        self._heard_mono_s = time.monotonic()

    def add(self, message: Message) -> None:
        """Take in one message."""
        self._heard_mono_s = time.monotonic()
        if message.run_id != self._run_id:
            self._run_id = message.run_id
            self._state = self._heartbeat = None
            self._frames.clear()
            self._levels.clear()
        if isinstance(message, Frame):
            self._frames[message.channel] = message
        elif isinstance(message, Level):
            self._levels[message.channel] = message
        elif isinstance(message, Heartbeat):
            self._heartbeat = message
        else:
            self._events.append(line_of(message))
            if isinstance(message, State):
                self._state = message
                if message.state != "LIVE":
                    self._frames.clear()
                    self._levels.clear()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """At most as many lines as the terminal has, none of them wider than it."""
        width, height = options.max_width, options.height or console.height
        lines = list(self._lines(width, height, "#" if options.ascii_only else "█", "." if options.ascii_only else "░"))
        for number, line in enumerate(lines[:height]):
            line.truncate(width, overflow="ellipsis" if not options.ascii_only else "crop")
            line.end = "\n" if number + 1 < min(len(lines), height) else ""
            yield line

    def _lines(self, width: int, height: int, full: str, empty: str) -> Iterator[Text]:
        yield self._headline()
        yield Text(self._health(), "dim")
        rows = height - 3 - MIN_EVENT_ROWS
        channels = self._channels()
        n_bars = max((len(self._frames[channel].top) for channel in channels if channel in self._frames), default=0)
        n_bars = min(n_bars, rows // max(1, len(channels)) - 2)
        shown = channels if n_bars >= 2 or len(channels) <= rows else channels[: rows - 1]
        n_lines = 2
        for channel in shown:
            block = [self._channel_line(channel, width, full, empty)]
            if n_bars >= 2:
                block = [Text(), *block, *self._bars(channel, n_bars, width, full, empty)]
            n_lines += len(block)
            yield from block
        if len(shown) < len(channels):
            n_lines += 1
            yield Text(f"and {len(channels) - len(shown)} channels more: make the window higher", "dim")
        yield Text()
        for line in list(self._events)[-max(0, height - n_lines - 1) :]:
            yield Text(line)

    def _headline(self) -> Text:
        if self._state is None and not self._frames:
            return Text.assemble(("mird", "bold"), f"  nothing yet from {self.endpoint}; start one with `mird run`")
        silent_s = time.monotonic() - self._heard_mono_s
        if silent_s > SILENT_DAEMON_S:
            return Text.assemble(("mird", "bold"), (f"  no sign of life for {silent_s:.0f} s", "bold red"))
        if self._state is None:
            return Text.assemble(("mird", "bold"))
        style = _STATE_STYLES.get(self._state.state, "bold red")
        return Text.assemble(
            (f"mird {self._state.version}", "bold"),
            f"  {self._state.source}  ",
            (self._state.state, style),
            f"  {self._state.detail}",
        )

    def _health(self) -> str:
        parts = []
        if self._state is not None:
            parts.append(f"{len(self._state.classes)} classes")
            parts.append(f"hop {self._state.hop_s * 1000:.0f} ms")
        latency = next(iter(self._frames.values())).latency_ms if self._frames else None
        if latency is not None:
            parts.append(f"latency {latency:.0f} ms")
        if self._heartbeat is not None:
            if self._heartbeat.latency_p99_ms is not None:
                parts.append(f"p99 {self._heartbeat.latency_p99_ms:.0f} ms")
            lost = [(name, n) for name, n in self._heartbeat.counters.items() if n and name in _TROUBLES]
            parts.extend(f"{n} {_TROUBLES[name]}" for name, n in lost)
        if any(frame.degraded for frame in self._frames.values()):
            parts.append("DEGRADED")
        if self._state is not None:
            parts.append(self._state.engine)
        return ", ".join(parts)

    def _channels(self) -> list[int]:
        listed = self._state.channels if self._state is not None else ()
        return sorted({*listed, *self._frames, *self._levels})

    def _channel_line(self, channel: int, width: int, full: str, empty: str) -> Text:
        """Number, label, confidence, level meter."""
        frame, level = self._frames.get(channel), self._levels.get(channel)
        label = frame.label if frame is not None else "-"
        sure = f"{frame.confidence * 100:3.0f} %" if frame is not None else "     "
        rms, peak = (level.rms_dbfs, level.peak_dbfs) if level else (frame.level_dbfs if frame else None, None)
        text = Text(f"{channel:>3}  ")
        name_width = max(8, min(30, width - 50))
        text.append(_sized(label, name_width), "dim" if label in _NO_INSTRUMENT else "bold green")
        text.append(f" {sure}  ")
        if rms is not None:
            share = min(1.0, max(0.0, 1 - (rms if peak is None else peak) / QUIET_DBFS))
            style = "red" if share >= 0.95 else "yellow" if share >= 0.8 else "green"
            text.append_text(_bar(min(1.0, max(0.0, 1 - rms / QUIET_DBFS)), 20, style, full, empty))
            text.append(f" {rms:4.0f} dBFS" if rms > -100 else "  no sound")
        return text

    def _bars(self, channel: int, n_bars: int, width: int, full: str, empty: str) -> Iterator[Text]:
        """The likeliest classes; always `n_bars` lines, so that nothing jumps."""
        frame = self._frames.get(channel)
        top = frame.top[:n_bars] if frame is not None else ()
        name_width = max(8, min(30, width - 50))
        for row in top:
            text = Text(f"     {_sized(row.label, name_width)} {row.score * 100:3.0f} %  ")
            text.append_text(_bar(row.score, max(5, min(40, width - name_width - 16)), "cyan", full, empty))
            yield text
        for _ in range(n_bars - len(top)):
            yield Text()


_TROUBLES = {
    "n_hops_skipped": "hops skipped",
    "n_overflows": "overflows",
    "n_gaps": "gaps",
    "n_lost_frames": "samples lost",
}


def _bar(share: float, width: int, style: str, full: str, empty: str) -> Text:
    n_full = round(share * width)
    return Text.assemble((full * n_full, style), (empty * (width - n_full), "dim"))


def _sized(label: str, width: int) -> str:
    """A label in exactly so many cells; East Asian letters take two."""
    return label + " " * (width - cell_len(label)) if cell_len(label) <= width else set_cell_size(label, width)
