"""The OSC bridge: what the daemon publishes, to any number of receivers."""

from collections.abc import Collection, Sequence
from typing import Literal

from mird.clients.osc_messages import happened_utc_ns, osc_messages
from mird.clients.osc_packets import osc_bundle, osc_message
from mird.clients.osc_target import OscTarget
from mird.daemon.messages import KINDS, Message

TimeTag = Literal["capture", "now", "none"]


class OscOutlet:
    """Sends each message to each target; one thread uses it.

    Parameters
    ----------
    targets : sequence of (host, port)
    kinds : collection of str
        The kinds of messages that are passed on.
    time_tag : "capture", "now" or "none"
        A bundle for each message with the time of what it tells of, or to be taken at once; or no bundles, for
        receivers that do not read them.

    Attributes
    ----------
    targets : tuple of OscTarget
        Each with its counters.
    """

    def __init__(
        self,
        targets: Sequence[tuple[str, int]],
        kinds: Collection[str] = KINDS,
        time_tag: TimeTag = "capture",
    ) -> None:
        self.targets = tuple(OscTarget(*target) for target in targets)
        self._kinds = frozenset(kinds)
        self._time_tag = time_tag

    def send(self, message: Message) -> None:
        """Pass one message on, where it is of a kind that is wanted."""
        if message.kind not in self._kinds:
            return
        built = [osc_message(address, arguments) for address, arguments in osc_messages(message)]
        if self._time_tag == "none":
            for each in built:
                self._to_all(each.dgram)
            return
        self._to_all(osc_bundle(built, happened_utc_ns(message) if self._time_tag == "capture" else None))

    def set_alive(self, alive: bool) -> None:
        """Send ``/mird/status/alive`` 1 or 0."""
        self._to_all(osc_message("/mird/status/alive", (int(alive),)).dgram)

    def tick(self) -> None:
        """Nothing to do as time passes."""

    def close(self) -> None:
        """Say that nothing more comes, and close the sockets."""
        self.set_alive(alive=False)
        for target in self.targets:
            target.close()

    def _to_all(self, packet: bytes) -> None:
        for target in self.targets:
            target.send(packet)
