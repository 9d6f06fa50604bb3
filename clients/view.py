"""The live view of a terminal: what each channel plays now, how sure that is, how loud, and what happened last."""

from collections import deque
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from mird.clients.lines import line_of
from mird.clients.scene import Scene
from mird.clients.view_lines import ASCII, Glyphs, channel_line, headline, health, score_lines
from mird.daemon.messages import Event, Message, State

N_EVENTS = 50
MIN_EVENT_ROWS = 4


class LiveView:
    """A renderable of the latest messages, as large as the terminal; one thread feeds and shows it.

    Parameters
    ----------
    endpoint : str
        Where the messages come from, to be shown until the first of them.
    """

    def __init__(self, endpoint: str) -> None:
        self._scene = Scene(endpoint)
        self._events: deque[str] = deque(maxlen=N_EVENTS)

    def add(self, message: Message) -> None:
        """Take in one message."""
        self._scene.add(message)
        if isinstance(message, Event | State):
            self._events.append(line_of(message))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """At most as many lines as the terminal has, none of them wider than it."""
        width, height = options.max_width, options.height or console.height
        lines = list(self._lines(width, height, ASCII if options.ascii_only else Glyphs()))
        for number, line in enumerate(lines[:height]):
            line.truncate(width, overflow="ellipsis" if not options.ascii_only else "crop")
            line.end = "\n" if number + 1 < min(len(lines), height) else ""
            yield line

    def _lines(self, width: int, height: int, glyphs: Glyphs) -> Iterator[Text]:
        scene = self._scene
        yield headline(scene)
        yield Text(health(scene), "dim")
        rows = height - 3 - MIN_EVENT_ROWS
        channels = scene.channels()
        n_bars = max((len(scene.frames[channel].top) for channel in channels if channel in scene.frames), default=0)
        n_bars = min(n_bars, rows // max(1, len(channels)) - 2)
        shown = channels if n_bars >= 2 or len(channels) <= rows else channels[: rows - 1]
        n_lines = 2
        for channel in shown:
            block = [channel_line(scene, channel, width, glyphs)]
            if n_bars >= 2:
                block = [Text(), *block, *score_lines(scene, channel, n_bars, width, glyphs)]
            n_lines += len(block)
            yield from block
        if len(shown) < len(channels):
            n_lines += 1
            yield Text(f"and {len(channels) - len(shown)} channels more: make the window higher", "dim")
        yield Text()
        for line in list(self._events)[-max(0, height - n_lines - 1) :]:
            yield Text(line)
