"""The terminal view that can be worked with: what `mird watch` shows and what its keys do."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import DescendantFocus
from textual.widgets import Footer, Static

from mird.clients.async_subscriber import AsyncSubscriber
from mird.clients.errors import ClientError
from mird.clients.scene import Scene
from mird.clients.view_lines import headline, health
from mird.clients.watch_dialogs import Answer, HelpDialog, NameDialog
from mird.clients.watch_panels import MAX_LANES, ChannelPanel, EventList
from mird.daemon.messages import KINDS, Event

Ask = Callable[..., dict[str, Any]]
"""A request to the daemon: ``ask(verb, **arguments)`` waits for the result, and raises ClientError."""

REFRESH_S: Final = 0.1
DEFAULT_SECONDS: Final = 3.0
N_SCORES: Final = 5


class Watch(App[None]):
    """A terminal's view of one daemon, with keys to teach it.

    Parameters
    ----------
    endpoint : str
        Where the daemon publishes.
    ask : Ask
        Called in threads, one at a time.
    source, channel, max_age_s, keys
        As of the subscriber.
    """

    CSS = """
    #head { height: 2; padding: 0 1; background: $panel; }
    #channels { height: 1fr; padding-top: 1; scrollbar-size-vertical: 1; }
    #empty { padding: 1 2; color: $text-muted; }
    EventList { height: 35%; min-height: 5; border: none; border-top: solid $surface-lighten-2; padding: 0 1;
                background: $background; scrollbar-size-vertical: 1; }
    EventList:focus { border: none; border-top: solid $accent; }
    """
    TITLE = "mird watch"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "learn", "Learn"),
        Binding("c", "correct", "Correct"),
        Binding("f", "forget", "Forget"),
        Binding("u", "undo", "Undo"),
        Binding("question_mark", "keys", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        *(Binding(str(number), f"choose({number})", show=False) for number in range(1, 10)),
    ]

    def __init__(
        self,
        endpoint: str,
        ask: Ask,
        source: str | None = None,
        channel: int | None = None,
        max_age_s: float | None = None,
        keys: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.failure: ClientError | None = None
        self._ask = ask
        self._asking = asyncio.Lock()
        self._source, self._only_channel, self._max_age_s = source, channel, max_age_s
        self._keys = keys
        self._scene = Scene(endpoint)
        self._chosen: int | None = None
        self._heard = EventList()

    def compose(self) -> ComposeResult:
        """The parts, from top to bottom."""
        yield Static(id="head", markup=False)
        yield VerticalScroll(Static("waiting for sound", id="empty"), id="channels", can_focus=False)
        yield self._heard
        yield Footer()

    def on_mount(self) -> None:
        """Begin to listen and to draw."""
        self.run_worker(self._listen(), name="listen")
        self.set_interval(REFRESH_S, self._step)
        self._heard.focus()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Turn to the channel that has the focus."""
        if isinstance(event.widget, ChannelPanel):
            self._chosen = event.widget.channel

    async def _listen(self) -> None:
        try:
            async with AsyncSubscriber(
                self._scene.endpoint, KINDS, self._source, self._only_channel, self._max_age_s, self._keys
            ) as subscriber:
                async for message in subscriber:
                    self._scene.add(message)
                    if isinstance(message, Event):
                        self._heard.add(message)
        except ClientError as error:
            self.failure = error
            self.exit()

    # ---- what is shown

    def _step(self) -> None:
        head = self.query_one("#head", Static)
        lines = [headline(self._scene), Text(health(self._scene), "dim")]
        for line in lines:
            line.truncate(max(10, head.content_size.width), overflow="ellipsis")
        head.update(Text("\n").join(lines))
        panels = self._panels()
        room = max(1, self.query_one("#channels").size.height) // max(1, len(panels))
        for panel in panels:
            panel.n_scores = max(0, min(N_SCORES, room - 3))
            panel.n_lanes = max(1, min(MAX_LANES, room - 2 - panel.n_scores))
            panel.set_class(len(panels) > 1 and panel.channel == self._channel(panels), "chosen")
            panel.step()
        self._heard.step()

    def _panels(self) -> list[ChannelPanel]:
        """One a channel, in order; made and removed as channels come and go."""
        wanted = self._scene.channels()
        if self._only_channel is not None:
            wanted = [channel for channel in wanted if channel == self._only_channel]
        panels = {panel.channel: panel for panel in self.query(ChannelPanel)}
        if wanted and list(panels) != wanted:
            for panel in panels.values():
                if panel.channel not in wanted:
                    panel.remove()
            place = self.query_one("#channels", VerticalScroll)
            for at, channel in enumerate(wanted):
                if channel not in panels:
                    panels[channel] = ChannelPanel(self._scene, channel)
                    place.mount(panels[channel], after=at)
            self.query_one("#empty").display = False
        return [panels[channel] for channel in wanted if channel in panels] or list(panels.values())

    def _channel(self, panels: list[ChannelPanel]) -> int | None:
        """The channel that keys are about."""
        known = [panel.channel for panel in panels]
        return self._chosen if self._chosen in known else known[0] if known else None

    # ---- what keys do

    def action_choose(self, number: int) -> None:
        """Turn to the n-th channel."""
        panels = sorted(self.query(ChannelPanel), key=lambda panel: panel.channel)
        if number <= len(panels):
            self._chosen = panels[number - 1].channel  # the focus comes later than the next key may
            panels[number - 1].focus()

    def action_learn(self) -> None:
        """Ask for a name, and enrol what was just heard."""
        where = self._where()
        at = f" on channel {where['channel']}" if where else ""

        def learn(answer: Answer | None) -> None:
            if answer is not None:
                self._request("enroll_live", name=answer[0], seconds=answer[1], **where)

        self.push_screen(NameDialog(f"Learn what was just heard{at}", self._names(), DEFAULT_SECONDS), learn)

    def action_correct(self) -> None:
        """Ask what the chosen event was, or what the channel heard last."""
        event = self._heard.chosen if self._heard.has_focus else None
        where: dict[str, Any] = self._where() if event is None else {"event_id": event.event_id}
        if event is not None:
            title = f"What was it, if not {event.label}?"
        else:
            title = "What was heard last" + (f" on channel {where['channel']}?" if where else "?")

        def correct(answer: Answer | None) -> None:
            if answer is not None:
                self._request("correct", name=answer[0], **where)

        self.push_screen(NameDialog(title, self._names()), correct)

    def action_forget(self) -> None:
        """Ask for a name, and forget it; undo brings it back."""

        def forget(answer: Answer | None) -> None:
            if answer is not None:
                self._request("forget", name=answer[0])

        self.push_screen(NameDialog("Forget an instrument", self._names()), forget)

    def action_undo(self) -> None:
        """Take the last change back."""
        self._request("undo")

    def action_keys(self) -> None:
        """Show the help."""
        self.push_screen(HelpDialog())

    def _where(self) -> dict[str, Any]:
        """The channel, where there is a choice."""
        panels = list(self.query(ChannelPanel))
        return {"channel": self._channel(panels)} if len(panels) > 1 else {}

    def _names(self) -> tuple[str, ...]:
        return self._scene.state.classes if self._scene.state is not None else ()

    def _request(self, verb: str, **arguments: Any) -> None:
        self.run_worker(self._requested(verb, arguments), name=verb)

    async def _requested(self, verb: str, arguments: dict[str, Any]) -> None:
        """Ask the daemon, and say what became of it."""
        try:
            async with self._asking:
                result = await asyncio.to_thread(self._ask, verb, **arguments)
        except ClientError as error:
            self.notify(str(error), title=f"{verb} failed", severity="error", timeout=8, markup=False)
            return
        self.notify(_told(verb, arguments, result), timeout=6, markup=False)


def _told(verb: str, arguments: dict[str, Any], result: dict[str, Any]) -> str:
    """What a request did, in a line."""
    if verb == "enroll_live":
        return str(result.get("report", arguments["name"]))
    if verb == "correct":
        return f"{result.get('was', 'that')} was {arguments['name']}: {result.get('n_shots', '?')} shots now; u undoes"
    if verb == "forget":
        return f"{arguments['name']} is forgotten; u brings it back"
    return "the last change is taken back"
