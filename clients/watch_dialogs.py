"""What `mird watch` asks for: a name and seconds; and its help."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.widgets import Input, Label, Static

HELP = """\
 e    learn an instrument from the last seconds heard
 c    correct: say what it really was (the event under the
      cursor, or what the channel heard last)
 f    forget an instrument
 u    take the last change back
 Tab  to the next channel, and to the list of events
 1-9  to a channel; ↑ ↓ move in the list of events
 q    quit; Esc closes this

The strip under a channel is its level, in a colour for each instrument."""

Answer = tuple[str, float]
"""A name, and seconds where they were asked for."""


class NameDialog(ModalScreen[Answer | None]):
    """Asks for the name of a class, and for seconds where there is a default; None where it is left.

    Parameters
    ----------
    title : str
    classes : sequence of str
        Suggested as one types.
    seconds : float, optional
    """

    DEFAULT_CSS = """
    NameDialog { align: center middle; }
    NameDialog > Vertical { width: 56; height: auto; padding: 1 2; background: $panel; border: round $accent; }
    NameDialog #title { text-style: bold; margin-bottom: 1; }
    NameDialog #wrong { color: $error; height: auto; }
    NameDialog #hint { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel")]

    def __init__(self, title: str, classes: tuple[str, ...], seconds: float | None = None) -> None:
        super().__init__()
        self._title = title
        self._names = classes
        self._seconds = seconds

    def compose(self) -> ComposeResult:
        """The fields."""
        with Vertical():
            yield Label(self._title, id="title", markup=False)
            yield Input(
                placeholder="name",
                id="name",
                max_length=64,
                suggester=SuggestFromList(self._names, case_sensitive=False),
            )
            if self._seconds is not None:
                yield Input(f"{self._seconds:g}", placeholder="seconds, 0.5 to 30", id="seconds", type="number")
            yield Label("", id="wrong", markup=False)
            yield Label("Enter does it, → takes the suggestion, Esc leaves", id="hint")

    def on_input_submitted(self) -> None:
        """Check, and answer."""
        name = self.query_one("#name", Input).value.strip()
        wrong = self.query_one("#wrong", Label)
        seconds = 0.0
        if not name:
            wrong.update("a name is needed")
            return
        if self._seconds is not None:
            try:
                seconds = float(self.query_one("#seconds", Input).value)
            except ValueError:
                seconds = 0.0
            if not 0.5 <= seconds <= 30:
                wrong.update("seconds: a number from 0.5 to 30")
                return
        self.dismiss((name, seconds))

    def action_leave(self) -> None:
        """Close without an answer."""
        self.dismiss(None)


class HelpDialog(ModalScreen[None]):
    """The keys."""

    DEFAULT_CSS = """
    HelpDialog { align: center middle; }
    HelpDialog > Static { width: 64; height: auto; padding: 1 2; background: $panel; border: round $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """The text."""
        yield Static(HELP, markup=False)
