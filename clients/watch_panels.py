"""What `mird watch` is made of: a panel for each channel, and the list of what was heard."""

from collections import OrderedDict, deque
from colorsys import hls_to_rgb
from datetime import datetime
from functools import lru_cache
from typing import ClassVar, Final

from rich.text import Text
from textual.binding import BindingType
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from mird.clients.scene import Scene
from mird.clients.view_lines import NO_INSTRUMENT, QUIET_DBFS, Glyphs, channel_line, score_lines, sized
from mird.daemon.messages import Event

N_EVENTS: Final = 100
N_LEVELS: Final = 400
HEIGHTS: Final = " ▁▂▃▄▅▆▇█"
MAX_LANES: Final = 3


@lru_cache(maxsize=1024)
def colour_of(label: str) -> str:
    """A colour that a label keeps, here and on the page of `mird web` (FNV-1a, spread by the golden ratio)."""
    if label in NO_INSTRUMENT:
        return "bright_black"
    number = 2_166_136_261
    for character in label:
        number = ((number ^ ord(character)) * 16_777_619) & 0xFFFF_FFFF
    red, green, blue = (round(255 * part) for part in hls_to_rgb(number * 0.6180339887 % 1, 0.6, 0.65))
    return f"rgb({red},{green},{blue})"


class ChannelPanel(Static, can_focus=True):
    """One channel: instrument, level, the levels lately in the colours of what was heard, the likeliest classes."""

    DEFAULT_CSS = """
    ChannelPanel { height: auto; padding: 0 1; border-left: outer $surface; margin-bottom: 1; }
    ChannelPanel.chosen { border-left: outer $accent; }
    """

    def __init__(self, scene: Scene, channel: int) -> None:
        super().__init__(markup=False)
        self.channel = channel
        self.n_scores = 5
        self.n_lanes = 1
        self._scene = scene
        self._levels: deque[tuple[float, str]] = deque(maxlen=N_LEVELS)
        self._sample_end = -1

    def step(self) -> None:
        """Take in the scene's latest, and show it."""
        frame, level = self._scene.frames.get(self.channel), self._scene.levels.get(self.channel)
        if frame is not None and level is not None and level.sample_end != self._sample_end:
            self._sample_end = level.sample_end
            self._levels.append((level.rms_dbfs, frame.label))
        width = max(20, self.content_size.width)
        lines = [channel_line(self._scene, self.channel, width, Glyphs())]
        lines.extend(self._lane(width - 5, row) for row in range(self.n_lanes)[::-1])
        if self.n_scores:
            lines.extend(score_lines(self._scene, self.channel, self.n_scores, width, Glyphs()))
        for line in lines:
            line.truncate(width)
        self.update(Text("\n").join(lines))

    def _lane(self, width: int, row: int) -> Text:
        """One row of the strip of levels, the lowest 0."""
        lane = Text("     ")
        shown = list(self._levels)[-width:]
        lane.append(" " * (width - len(shown)))
        for level_dbfs, label in shown:
            share = min(1.0, max(0.0, 1 - level_dbfs / QUIET_DBFS))
            eighths = max(1, round(8 * self.n_lanes * share)) - 8 * row
            lane.append(HEIGHTS[min(8, max(0, eighths))], colour_of(label))
        return lane


class EventList(OptionList):
    """What was heard, the newest on top."""

    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._events: OrderedDict[str, Event] = OrderedDict()
        self._is_stale = False
        self.run_id = ""

    def add(self, event: Event) -> None:
        """Take in an event; :meth:`step` shows it."""
        if event.label in NO_INSTRUMENT:
            return
        self.run_id = event.run_id
        self._events[event.event_id] = event
        if len(self._events) > N_EVENTS:
            self._events.popitem(last=False)
        self._is_stale = True

    @property
    def chosen(self) -> Event | None:
        """The event under the cursor."""
        if self.highlighted is None:
            return None
        option = self.get_option_at_index(self.highlighted)
        return self._events.get(option.id or "")

    def step(self) -> None:
        """Show what is new; the cursor stays on its event."""
        if not self._is_stale:
            return
        self._is_stale = False
        chosen = self.chosen if self.has_focus else None
        newest_first = list(self._events.values())[::-1]
        self.set_options([Option(self._line(event), id=event.event_id) for event in newest_first])
        if chosen is not None and chosen.event_id in self._events:
            self.highlighted = self.get_option_index(chosen.event_id)

    def _line(self, event: Event) -> Text:
        if event.sample_end is not None:
            length = f"{(event.sample_end - event.sample_start) / event.rate_hz:6.1f} s"
        else:
            length = "     now" if event.run_id == self.run_id else "       ?"
        clock = datetime.fromtimestamp(event.start_utc_ns / 1e9).astimezone()
        return Text.assemble(
            (f"{clock:%H:%M:%S}", "dim"),
            f" {event.channel:>3} ",
            ("● ", colour_of(event.label)),
            (sized(event.label, 34), "bold" if event.sample_end is None else ""),
            f"{length}  {event.score * 100:3.0f} %",
        )
