"""The MIDI bridge: a note for each event, as long as it lasts."""

import logging

from mird.clients.midi_notes import NoteMap
from mird.clients.midi_port import MidiPort
from mird.daemon.messages import Event, Message, State

NOTE_ON, NOTE_OFF = 0x90, 0x80
N_CHANNELS = 16

_Key = tuple[int, int]
"""MIDI channel from 0, note."""

_log = logging.getLogger(__name__)


class MidiOutlet:
    """Plays a class's note from the start of its event to the end; one thread uses it.

    Channel 1 of the source is MIDI channel 1, 17 is 1 again. The velocity is the event's score at its start, 1 to 127.

    Parameters
    ----------
    port : MidiPort
        Handed over.
    notes : NoteMap
    """

    def __init__(self, port: MidiPort, notes: NoteMap) -> None:
        self._port = port
        self._notes = notes
        self._sounding: dict[_Key, dict[str, int]] = {}  # velocities by event: a note ends with the last of them
        self._shared: dict[int, list[str]] = {}

    def send(self, message: Message) -> None:
        """Play or end a note."""
        if isinstance(message, State):
            self._warn_of_shared_notes(message.classes)
        if not isinstance(message, Event):
            return
        key = ((message.channel - 1) % N_CHANNELS, self._notes.note(message.label))
        events = self._sounding.setdefault(key, {})
        if message.event == "start":
            events[message.event_id] = max(1, round(127 * message.score))
            self._play(key, events[message.event_id])
        elif events.pop(message.event_id, None) is not None and not events:
            self._play(key, 0)
        if not events:
            del self._sounding[key]

    def set_alive(self, alive: bool) -> None:
        """Nothing to say: the events of a daemon that has gone have been ended."""

    def tick(self) -> None:
        """Look whether the port is there; one that has come back is told what sounds."""
        if self._port.check():
            for key, events in self._sounding.items():
                self._play(key, max(events.values()))

    def close(self) -> None:
        """End what sounds, and close the port."""
        for key in self._sounding:
            self._play(key, 0)
        self._sounding.clear()
        self._port.close()

    def _play(self, key: _Key, velocity: int) -> None:
        channel, note = key
        self._port.send(((NOTE_ON if velocity else NOTE_OFF) + channel, note, velocity))

    def _warn_of_shared_notes(self, classes: tuple[str, ...]) -> None:
        shared = self._notes.shared(classes)
        for note, labels in shared.items():
            if self._shared.get(note) != labels:
                _log.warning(
                    "%s have the same note, %d; give one another: --note NAME=NOTE", " and ".join(labels), note
                )
        self._shared = shared
