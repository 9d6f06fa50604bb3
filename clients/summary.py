"""What was heard in all: seconds and events of each label."""

from collections.abc import Mapping
from dataclasses import dataclass

from mird.daemon.messages import Event, Frame, Message


@dataclass(frozen=True)
class LabelTotal:
    """What was heard of one label, over all channels.

    Attributes
    ----------
    label : str
    heard_s : float
        Since listening began; channels at the same time each count.
    n_events : int
    """

    label: str
    heard_s: float
    n_events: int


class Summary:
    """Adds up messages; one thread uses it. Its memory does not grow with time.

    Of an event that was running when we joined, what sounded before the first frame that we got does not count.
    """

    def __init__(self) -> None:
        self._run_id = ""
        self._totals: dict[str, LabelTotal] = {}
        self._running: dict[tuple[int, str], Event] = {}
        self._first: dict[int, Frame] = {}  # of the channel's stream
        self._latest: dict[int, Frame] = {}
        self._listened_s: dict[int, float] = {}

    def add(self, message: Message) -> None:
        """Take in one message; only events and frames matter."""
        if message.run_id != self._run_id:
            self._run_id = message.run_id
            for channel in list(self._latest):
                self._close(channel)
            self._first.clear()
            self._latest.clear()
        if isinstance(message, Frame):
            before = self._latest.get(message.channel)
            if before is not None and before.stream_id != message.stream_id:
                self._close(message.channel)
                before = None
            if before is None:
                self._first[message.channel] = message
            self._latest[message.channel] = message
            known = message.sample_start if before is None else max(before.sample_end, message.sample_start)
            new_s = max(0, message.sample_end - known) / message.rate_hz
            self._listened_s[message.channel] = self._listened_s.get(message.channel, 0.0) + new_s
        elif isinstance(message, Event):
            running = self._running.pop((message.channel, message.label), None)
            if running is not None and running.event_id != message.event_id:
                self._count(running, self._end_of(running))  # its own end did not come
            if message.event == "start":
                self._running[message.channel, message.label] = message
            else:
                self._count(message, message.sample_end or 0)

    @property
    def listened_s(self) -> float:
        """Sound that was listened to, of the channel with the most of it."""
        return max(self._listened_s.values(), default=0.0)

    @property
    def n_channels(self) -> int:
        """Channels of which there was sound."""
        return len(self._listened_s)

    def totals(self) -> tuple[LabelTotal, ...]:
        """Each label that was heard, the longest first; an event that still runs counts up to the latest frame."""
        totals = dict(self._totals)
        for running in self._running.values():
            totals[running.label] = self._counted(totals, running, self._end_of(running))
        return tuple(sorted(totals.values(), key=lambda total: (-total.heard_s, total.label)))

    def lines(self) -> list[str]:
        """The summary for people."""
        totals = self.totals()
        where = f" in {self.listened_s:.1f} s of sound" if self._listened_s else ""  # frames alone tell how much
        if self.n_channels > 1:
            where += f" on {self.n_channels} channels"
        if not totals:
            return [f"No instrument was heard{where}."]
        width = max(len(total.label) for total in totals)
        return [
            f"Heard{where}:",
            *(
                f"  {total.label:<{width}}  {total.heard_s:8.1f} s  {total.n_events:4d} "
                f"{'event' if total.n_events == 1 else 'events'}"
                for total in totals
            ),
        ]

    def _close(self, channel: int) -> None:
        """Count what runs in a channel whose stream is over."""
        for key, running in list(self._running.items()):
            if key[0] == channel:
                del self._running[key]
                self._count(running, self._end_of(running))

    def _end_of(self, running: Event) -> int:
        """How far an event is known to have gone on: to the latest frame."""
        latest = self._latest.get(running.channel)
        return latest.sample_end if latest is not None and latest.stream_id == running.stream_id else 0

    def _count(self, event: Event, sample_end: int) -> None:
        self._totals[event.label] = self._counted(self._totals, event, sample_end)

    def _counted(self, totals: Mapping[str, LabelTotal], event: Event, sample_end: int) -> LabelTotal:
        """A label's total with one event more."""
        total = totals.get(event.label, LabelTotal(event.label, 0.0, 0))
        first = self._first.get(event.channel)
        joined = first.sample_start if first is not None and first.stream_id == event.stream_id else 0
        heard_s = max(0, sample_end - max(event.sample_start, joined)) / event.rate_hz
        return LabelTotal(event.label, total.heard_s + heard_s, total.n_events + 1)
