"""Showing what a daemon publishes: a live view on a terminal, else lines; what `mird listen` and `mird run` do."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

from rich.console import Console
from rich.live import Live

from mird.clients.lines import json_line, line_of
from mird.clients.subscriber import Subscriber
from mird.clients.summary import Summary
from mird.clients.view import LiveView
from mird.daemon.messages import KINDS, Event, Message, State

Form = Literal["live", "lines", "json"]

REFRESH_S = 0.1
PATIENCE_S = 2.0
N_QUIET = 10
"""Waits of `REFRESH_S` in a row without a message, after which nothing more is on its way."""


def form_for(out: TextIO, *, json: bool = False) -> Form:
    """How to show messages on a stream: live on a terminal that can move its cursor, else line by line."""
    if json:
        return "json"
    return "live" if out.isatty() and not Console(file=out).is_dumb_terminal else "lines"


def kinds_for(form: Form) -> tuple[str, ...]:
    """The kinds of messages that a form shows by default, or adds up for the summary."""
    return KINDS if form == "live" else ("frame", "event", "state")


def listen(
    subscriber: Subscriber,
    out: TextIO,
    form: Form,
    *,
    stop: threading.Event | None = None,
    until_ended: bool = False,
) -> Summary:
    """Show messages until there are to be no more, then the summary.

    Parameters
    ----------
    subscriber : Subscriber
        With the kinds of :func:`kinds_for`, or others.
    out : TextIO
        A terminal, where `form` is ``"live"``.
    form : "live", "lines" or "json"
        Lines tell of events and states alone, JSON of every message; JSON has no summary.
    stop : threading.Event, optional
        Set by another thread when nothing more will be published; what is on its way is still shown.
    until_ended : bool
        End with the state ``ENDED`` too.

    Returns
    -------
    Summary
        What was heard.

    Raises
    ------
    KeyboardInterrupt
        Interrupted; the summary has been shown.
    """
    summary = Summary()
    try:
        with _shown(subscriber, out, form) as show:
            for message in _messages(subscriber, stop, show):
                summary.add(message)
                show(message)
                if until_ended and isinstance(message, State) and message.state == "ENDED":
                    break
    except KeyboardInterrupt:
        _write_summary(summary, out, form)
        raise
    _write_summary(summary, out, form)
    return summary


Show = Callable[[Message | None], None]


def _messages(subscriber: Subscriber, stop: threading.Event | None, show: Show) -> Iterator[Message]:
    """The messages until `stop` and the state ``ENDED``, after which nothing is heard, or a second without any.

    Meanwhile `show` is called at least each `REFRESH_S`, with None. The second is counted in waits, not by the clock:
    what was sent while this process was held up is still there after it, however long that was.
    """
    ended, n_quiet = False, 0
    while True:
        stopped = stop is not None and stop.is_set()
        if stopped and (ended or n_quiet >= N_QUIET):
            return
        message = subscriber.recv(REFRESH_S)
        if message is not None:
            n_quiet = 0
            ended = ended or (isinstance(message, State) and message.state == "ENDED")
            yield message
        else:
            n_quiet += stopped  # what came before that was no end
            show(None)


@contextmanager
def _shown(subscriber: Subscriber, out: TextIO, form: Form) -> Iterator[Show]:
    """A function that shows one message, or with None that time has passed."""
    if form != "live":
        yield _Lines(subscriber, out, form).show
        return
    view = LiveView(subscriber.endpoint)
    console = Console(file=out)
    with Live(view, console=console, screen=True, auto_refresh=False, redirect_stdout=False) as live:
        due_mono_s = time.monotonic()

        def show(message: Message | None) -> None:
            nonlocal due_mono_s
            if message is not None:
                view.add(message)
            if time.monotonic() >= due_mono_s:
                due_mono_s = time.monotonic() + REFRESH_S
                live.refresh()

        live.refresh()
        yield show


class _Lines:
    """Writes lines to a stream, and one word to standard error where nothing comes."""

    def __init__(self, subscriber: Subscriber, out: TextIO, form: Form) -> None:
        self._subscriber = subscriber
        self._out = out
        self._form = form
        self._started_mono_s = time.monotonic()
        # A daemon tells whoever joins its state, so that without it nothing can be concluded.
        self._told = "state" not in subscriber.kinds

    def show(self, message: Message | None) -> None:
        """Write one message."""
        if message is None:
            if not self._told and time.monotonic() - self._started_mono_s > PATIENCE_S:
                self._told = True
                text = f"mird: nothing yet from {self._subscriber.endpoint}; waiting (start one with `mird run`)"
                print(text, file=sys.stderr, flush=True)
            return
        self._told = True
        if self._form == "json":
            print(json_line(message), file=self._out, flush=True)
        elif isinstance(message, Event | State):
            print(line_of(message), file=self._out, flush=True)


def _write_summary(summary: Summary, out: TextIO, form: Form) -> None:
    if form != "json":
        print("\n".join(summary.lines()), file=out, flush=True)
