"""What stands at the broker: topics, payloads, and how Home Assistant is told of them."""

import json
import re
from dataclasses import dataclass
from typing import Any

from mird.clients.lines import json_line
from mird.daemon.messages import Event, State

ONLINE, OFFLINE = "online", "offline"
NOTHING = "none"
"""Instead of a label where nothing is listened to."""

_NOT_IN_TOPICS = re.compile(r"[/+#\x00$]")
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Note:
    """One message at the broker.

    Attributes
    ----------
    topic, payload : str
    retained : bool
        The broker keeps it and tells it to whoever joins: what is so, and not what has happened.
    qos : int
        0: it may be lost; 1: it arrives.
    """

    topic: str
    payload: str
    retained: bool = True
    qos: int = 1


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics under a prefix.

    ========================================  ========  ==========================================================
    ``<prefix>/status``                       retained  ``online``, or ``offline``: bridge or daemon have gone
    ``<prefix>/<source>/state``               retained  the daemon's state, JSON
    ``<prefix>/<source>/<channel>/label``     retained  what is heard now, ``silence``, ``unknown`` or ``none``
    ``<prefix>/<source>/<channel>/event``               each start and end of an event, JSON
    ``<prefix>/<source>/<channel>/level``               the level in dBFS, each second
    ========================================  ========  ==========================================================
    """

    prefix: str = "mird"

    @property
    def status(self) -> str:
        """Where it says whether all this is true."""
        return f"{self.prefix}/status"

    def online(self, alive: bool) -> Note:
        """Whether the daemon is there."""
        return Note(self.status, ONLINE if alive else OFFLINE)

    def state(self, state: State) -> Note:
        """The daemon's state."""
        return Note(f"{self._source(state.source)}/state", json_line(state))

    def label(self, source: str, channel: int, label: str) -> Note:
        """What one channel sounds like now."""
        return Note(f"{self._source(source)}/{channel}/label", label)

    def event(self, event: Event) -> Note:
        """The start or the end of an event."""
        return Note(f"{self._source(event.source)}/{event.channel}/event", json_line(event), retained=False)

    def level(self, source: str, channel: int, level_dbfs: float) -> Note:
        """How loud one channel is."""
        return Note(f"{self._source(source)}/{channel}/level", f"{level_dbfs:.1f}", retained=False, qos=0)

    def discovery(self, discovery_prefix: str, state: State) -> list[Note]:
        """What Home Assistant reads: a device for the source, with its state, and three entities a channel."""
        node = _NOT_IN_IDS.sub("_", f"{self.prefix}_{state.source}")
        source = self._source(state.source)
        device = {
            "identifiers": [node],
            "name": f"mird {state.source}",
            "manufacturer": "mird",
            "model": state.engine,
            "sw_version": state.version,
        }

        def entity(platform: str, name: str, topic: str, **more: Any) -> Note:
            identity = f"{node}_{_NOT_IN_IDS.sub('_', name)}"
            config = {
                "name": name,
                "unique_id": identity,
                "state_topic": topic,
                "availability_topic": self.status,
                "device": device,
                **more,
            }
            return Note(f"{discovery_prefix}/{platform}/{identity}/config", json.dumps(config, ensure_ascii=False))

        notes = [
            entity(
                "sensor",
                "state",
                f"{source}/state",
                value_template="{{ value_json.state }}",
                entity_category="diagnostic",
            )
        ]
        for channel in state.channels:
            notes += [
                entity("sensor", f"channel {channel}", f"{source}/{channel}/label", icon="mdi:music-note"),
                entity(
                    "sensor",
                    f"channel {channel} level",
                    f"{source}/{channel}/level",
                    unit_of_measurement="dBFS",
                    state_class="measurement",
                ),
                entity(
                    "event",
                    f"channel {channel} event",
                    f"{source}/{channel}/event",
                    event_types=["start", "end"],
                    value_template="{{ {'event_type': value_json.event, 'label': value_json.label, "
                    "'score': value_json.score} | tojson }}",
                ),
            ]
        return notes

    def _source(self, source: str) -> str:
        return f"{self.prefix}/{_NOT_IN_TOPICS.sub('_', source)}"
