"""The MQTT bridge: what is so, retained; what happens, told; and a last will."""

import logging
import time

from mird.clients.mqtt_broker import Broker
from mird.clients.mqtt_topics import NOTHING, Note, Topics
from mird.daemon.messages import Event, Frame, Message, State

LEVEL_S = 1.0
_WITHOUT_SOUND = frozenset({"WAITING", "LOST", "ENDED"})

_Place = tuple[str, int]

_log = logging.getLogger(__name__)


class MqttOutlet:
    """Keeps a broker informed; one thread uses it.

    Parameters
    ----------
    broker : Broker
        Handed over; its will is `topics`' ``offline``.
    topics : Topics
    discovery : str
        The prefix under which Home Assistant looks for what there is; empty: it is not told.
    """

    def __init__(self, broker: Broker, topics: Topics, discovery: str = "homeassistant") -> None:
        self._broker = broker
        self._topics = topics
        self._discovery = discovery
        self._alive = False
        self._states: dict[str, State] = {}
        self._labels: dict[_Place, str] = {}
        self._level_due_s: dict[_Place, float] = {}
        self._n_dropped = 0

    def send(self, message: Message) -> None:
        """Tell the broker what is new in a message."""
        if isinstance(message, State):
            self._of_state(message)
        elif isinstance(message, Event):
            self._broker.send(self._topics.event(message))
        elif isinstance(message, Frame):
            self._of_frame(message)

    def set_alive(self, alive: bool) -> None:
        """Say whether the daemon is there; without it nothing is heard."""
        self._alive = alive
        if not alive:
            self._nothing_is_heard()
        self._broker.send(self._topics.online(alive))

    def tick(self) -> None:
        """Tell a broker that has (again) been reached what is so."""
        if not self._broker.joined.is_set():
            return
        self._broker.joined.clear()
        if self._broker.n_dropped > self._n_dropped:
            n_more = self._broker.n_dropped - self._n_dropped
            _log.warning("%d messages were dropped while there was no MQTT broker", n_more)
            self._n_dropped = self._broker.n_dropped
        for note in self._what_is_so():
            self._broker.send(note)

    def close(self) -> None:
        """Say that we go, and disconnect."""
        self._nothing_is_heard()
        self._broker.close(self._topics.online(alive=False))

    def _of_state(self, state: State) -> None:
        before = self._states.get(state.source)
        self._states[state.source] = state
        if self._discovery and (before is None or before.channels != state.channels):
            for note in self._topics.discovery(self._discovery, state):
                self._broker.send(note)
        self._broker.send(self._topics.state(state))
        if state.state in _WITHOUT_SOUND:
            self._nothing_is_heard()

    def _of_frame(self, frame: Frame) -> None:
        place = (frame.source, frame.channel)
        if self._labels.get(place) != frame.label:
            self._labels[place] = frame.label
            self._broker.send(self._topics.label(*place, frame.label))
        now_s = time.monotonic()
        if now_s >= self._level_due_s.get(place, 0.0):
            self._level_due_s[place] = now_s + LEVEL_S
            self._broker.send(self._topics.level(*place, frame.level_dbfs))

    def _nothing_is_heard(self) -> None:
        for place, label in self._labels.items():
            if label != NOTHING:
                self._labels[place] = NOTHING
                self._broker.send(self._topics.label(*place, NOTHING))

    def _what_is_so(self) -> list[Note]:
        notes = []
        for state in self._states.values():
            if self._discovery:
                notes += self._topics.discovery(self._discovery, state)
            notes.append(self._topics.state(state))
        notes += [self._topics.label(*place, label) for place, label in self._labels.items()]
        return [*notes, self._topics.online(self._alive)]
