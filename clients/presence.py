"""Whether the daemon is there, and which of its events run: every start that is handed on gets its end.

The daemon ends its events itself, also when a device is lost and when it is told to stop. It cannot when it is killed,
when its machine goes away, or when the message is lost on its way; what plays notes or switches lights must not wait
for ever then.
"""

from dataclasses import replace

from mird.daemon.messages import Event, Frame, Message, State

LOST_AFTER_S = 3.0
"""Heartbeats come each second."""

_OVER = frozenset({"WAITING", "LOST", "ENDED"})
"""States without sound; a reader must also expect words that it does not know."""

_Place = tuple[str, int]


class Presence:
    """Follows one daemon's messages; one thread uses it.

    Parameters
    ----------
    lost_after_s : float
        Without any message for so long, the daemon counts as gone and its events as ended; they are taken up again when
        the same daemon goes on. Infinite: they end when another daemon has started, or with :meth:`release`.

    Attributes
    ----------
    alive : bool
        Messages have come lately, and the daemon has not said that it ends.
    """

    def __init__(self, lost_after_s: float = LOST_AFTER_S) -> None:
        self.alive = False
        self._lost_after_s = lost_after_s
        self._run_id: str | None = None
        self._ended_run_id: str | None = None
        self._heard_s = 0.0
        self._running: dict[_Place, Event] = {}
        self._interrupted: dict[_Place, Event] = {}
        self._ended: dict[_Place, str] = {}  # the event that was ended in the daemon's stead
        self._latest: dict[_Place, Frame] = {}

    def take(self, message: Message, now_s: float) -> list[Message]:
        """Take in one message.

        Parameters
        ----------
        message : Message
            Frames too, where a lost end is to be noticed before the channel's next event.
        now_s : float
            The monotonic clock.

        Returns
        -------
        list of Message
            What is to be handed on: ends that never came, then the message, unless it is an event that was told before.
        """
        told: list[Message] = []
        if message.run_id != self._run_id:
            told += self.release()
            for known in (self._interrupted, self._ended, self._latest):
                known.clear()
            self._run_id = message.run_id
        self._heard_s = now_s
        if not self.alive and message.run_id != self._ended_run_id:
            self.alive = True
            told += [self._begin(replace(event, replay=True)) for event in self._interrupted.values()]
            self._interrupted.clear()
        if isinstance(message, Event):
            return told + self._of_event(message)
        if isinstance(message, Frame):
            told += self._of_frame(message)
        if isinstance(message, State) and self._lost_after_s < float("inf"):
            if message.state in _OVER:
                told += self.release()
            if message.state == "ENDED":
                self.alive = False
                self._ended_run_id = message.run_id
        return [*told, message]

    def check(self, now_s: float) -> list[Event]:
        """Notice that the daemon has gone; to be called as time passes. Returns the ends of what ran."""
        if not self.alive or now_s - self._heard_s <= self._lost_after_s:
            return []
        self.alive = False
        self._interrupted = dict(self._running)
        return self.release()

    def release(self) -> list[Event]:
        """End all that runs. Returns the ends."""
        return [self._finish(place) for place in list(self._running)]

    def _of_event(self, event: Event) -> list[Message]:
        place = (event.source, event.channel)
        running = self._running.get(place)
        if event.event == "start":
            if running is not None and running.event_id == event.event_id:
                return []
            ends = [] if running is None else [self._finish(place)]
            return [*ends, self._begin(event)]
        if self._ended.get(place) == event.event_id:
            return []
        self._running.pop(place, None)
        return [event]

    def _of_frame(self, frame: Frame) -> list[Message]:
        """An event whose end did not come: the frame before this one already had another label."""
        place = (frame.source, frame.channel)
        before, self._latest[place] = self._latest.get(place), frame
        running = self._running.get(place)
        if running is None or before is None or before.sample_end <= running.sample_start:
            return []
        other = running.label not in (before.label, frame.label) or running.stream_id != before.stream_id
        return [self._finish(place)] if other else []

    def _begin(self, event: Event) -> Event:
        place = (event.source, event.channel)
        self._running[place] = event
        self._ended.pop(place, None)
        return event

    def _finish(self, place: _Place) -> Event:
        """The end of a running event as far as it is known: where the latest window of its stream ended."""
        event = self._running.pop(place)
        self._ended[place] = event.event_id
        latest = self._latest.get(place)
        heard = 0
        if latest is not None and latest.stream_id == event.stream_id:
            heard = max(0, latest.sample_end - event.sample_start)
        return replace(
            event,
            event="end",
            replay=False,
            sample_end=event.sample_start + heard,
            end_utc_ns=event.start_utc_ns + heard * 1_000_000_000 // event.rate_hz,
        )
