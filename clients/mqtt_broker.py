"""The connection to an MQTT broker, which may be there or not."""

import contextlib
import logging
import ssl
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from mird.clients.errors import OutletError
from mird.clients.mqtt_topics import Note

KEEP_ALIVE_S = 10
RETRY_S = (1, 15)
FLUSH_S = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a broker and be let in.

    Attributes
    ----------
    host : str
    port : int
    user, password : str
        Empty: none.
    tls : bool
        Encrypted, and the broker's certificate is checked.
    ca, certificate, key : str
        Files, for `tls`: who vouches for the broker (the system's list by default); what we show of ourselves.
    """

    host: str = "127.0.0.1"
    port: int = 1883
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""


class Broker:
    """Connects, and connects again, in a thread of its own; what is sent meanwhile is dropped and counted.

    Parameters
    ----------
    access : Access
    will : Note
        What the broker tells the others when we are gone without a word.

    Attributes
    ----------
    joined : threading.Event
        Set at each connection, for the one who has to say anew what is so; cleared by them.
    n_dropped : int
        Messages for which there was no broker.

    Raises
    ------
    OutletError
        A certificate or key cannot be used.
    """

    def __init__(self, access: Access, will: Note) -> None:
        self.joined = threading.Event()
        self.n_dropped = 0
        self._name = f"MQTT broker {access.host}:{access.port}"
        self._told = ""
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.will_set(will.topic, will.payload, will.qos, will.retained)
        if access.user:
            self._client.username_pw_set(access.user, access.password or None)
        if access.tls:
            try:
                self._client.tls_set(access.ca or None, access.certificate or None, access.key or None)
            except (OSError, ValueError, ssl.SSLError) as error:
                files = " ".join(each for each in (access.ca, access.certificate, access.key) if each)
                raise OutletError(f"{files}: cannot be used for TLS: {error}; name PEM files") from error
        self._client.reconnect_delay_set(*RETRY_S)
        self._client.on_connect = self._connected
        self._client.on_connect_fail = self._not_connected
        self._client.on_disconnect = self._disconnected
        self._client.connect_async(access.host, access.port, KEEP_ALIVE_S)
        self._client.loop_start()

    def send(self, note: Note) -> None:
        """Hand one message to the broker, or count it as dropped; never waits."""
        if not self._client.is_connected():
            self.n_dropped += 1
            return
        self._client.publish(note.topic, note.payload, note.qos, note.retained)

    def close(self, last: Note) -> None:
        """Send a last message, wait a moment until it is there, and disconnect."""
        if self._client.is_connected():
            told = self._client.publish(last.topic, last.payload, last.qos, last.retained)
            with contextlib.suppress(RuntimeError):  # it has gone meanwhile: the will says the same
                told.wait_for_publish(FLUSH_S)
        self._client.disconnect()
        self._client.loop_stop()

    # ---- paho's thread

    def _connected(
        self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._tell(f"does not let us in: {reason}; see --user and --password-file, trying on")
            return
        self._told = ""
        _log.info("%s: connected", self._name)
        self.joined.set()

    def _not_connected(self, _client: Client, _data: Any) -> None:
        error = sys.exception()
        reason = getattr(error, "strerror", None) or error or "no answer"
        self._tell(f"cannot be reached: {reason}; trying on")

    def _disconnected(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure and not self._told:
            self._tell(f"has gone: {reason}; trying on")

    def _tell(self, what: str) -> None:
        if what != self._told:
            self._told = what
            _log.warning("%s: %s", self._name, what)
