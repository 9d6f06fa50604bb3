"""The feed of the web page: what the daemon says, kept for browsers that join and handed to those that are here.

One event loop owns it. A browser that joins or wakes up is sent a snapshot, and from then on what comes; one that
sleeps, or shows no picture, is sent nothing, and without any that looks the daemon makes no pictures.
"""

import asyncio
import json
import logging
import struct
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

from mird.clients.async_subscriber import AsyncSubscriber
from mird.clients.errors import ClientError
from mird.clients.scalogram_subscriber import ScalogramSubscriber
from mird.daemon.message_codec import to_map
from mird.daemon.messages import KINDS, Event, Frame, Heartbeat, Level, Message, Scalogram, State

Values = dict[str, Any]
Ask = Callable[..., Values]
"""A request to the daemon: ``ask(verb, **arguments)`` waits for the result, and raises ClientError."""

N_EVENTS: Final = 200
N_PICTURES: Final = 150
"""Messages of each channel's scalogram that are kept for who joins while somebody else looks."""

N_AT_ONCE: Final = 400
"""Of these, the most that who joins is sent at once: fewer than a browser's queue holds."""

SILENT_DAEMON_S: Final = 3.0
WATCH_S: Final = 0.5

_log = logging.getLogger(__name__)


class Viewer(Protocol):
    """What the feed sends to."""

    awake: bool
    """The page is visible: it wants messages."""
    looks: bool
    """It wants pictures too."""

    def offer(self, data: str | bytes) -> None:
        """Take a message to send; never waits."""
        ...


class Feed:
    """See above.

    Parameters
    ----------
    endpoint : str
        Where the daemon publishes.
    ask : Ask
        Called in threads, one at a time.
    keys : str or Path, optional
        Folder of keys, for a daemon off this machine.
    """

    def __init__(self, endpoint: str, ask: Ask, keys: str | Path | None = None) -> None:
        self.endpoint = endpoint
        self.keys = keys
        self.viewers: set[Viewer] = set()
        self._ask = ask
        self._asking = asyncio.Lock()
        self._state: State | None = None
        self._heartbeat: Heartbeat | None = None
        self._latest: dict[tuple[str, int], Frame | Level] = {}
        self._events: OrderedDict[str, Values] = OrderedDict()
        self._pictures: dict[int, deque[bytes]] = {}
        self._classes: Values | None = None
        self._run_id = ""
        self._heard_mono_s = 0.0
        self._scalograms: ScalogramSubscriber | None = None

    async def run(self) -> None:
        """Listen until cancelled.

        Raises
        ------
        ClientError
            The address is none, or the daemon does not let us in.
        """
        refused: ClientError | None = None
        async with AsyncSubscriber(self.endpoint, KINDS, keys=self.keys) as subscriber:
            self._scalograms = ScalogramSubscriber(self.endpoint, keys=self.keys)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._listen(subscriber, tasks))
                    tasks.create_task(self._look(self._scalograms))
                    tasks.create_task(self._watch())
            except* ClientError as group:
                refused = next(_leaves(group))
            finally:
                self._scalograms.close()
        if refused is not None:
            raise refused

    @property
    def daemon_is_there(self) -> bool:
        """Whether anything came from the daemon in the last seconds."""
        return time.monotonic() - self._heard_mono_s < SILENT_DAEMON_S

    def snapshot(self) -> str:
        """All that a page needs to begin with, as JSON."""
        return _json(
            {
                "kind": "snapshot",
                "daemon": self.daemon_is_there,
                "run_id": self._run_id,
                "state": to_map(self._state) if self._state else None,
                "hb": to_map(self._heartbeat) if self._heartbeat else None,
                "latest": [to_map(message) for message in self._latest.values()],
                "events": list(self._events.values()),
                "classes": self._classes,
            }
        )

    def begin(self, viewer: Viewer) -> None:
        """Bring a viewer that has joined or woken up to the present."""
        viewer.offer(self.snapshot())
        if viewer.looks:
            for pictures in self._pictures.values():
                for picture in list(pictures)[-(N_AT_ONCE // len(self._pictures)) :]:
                    viewer.offer(picture)
        self.count_lookers()

    def count_lookers(self) -> None:
        """Begin or end to subscribe to the scalograms, by what the viewers want now."""
        looks = any(viewer.awake and viewer.looks for viewer in self.viewers)
        if self._scalograms is not None:
            self._scalograms.look(looks)
        if not looks:
            self._pictures.clear()

    async def request(self, verb: str, arguments: Values) -> Values:
        """Ask the daemon, then tell every page the classes as they are now.

        Raises
        ------
        ClientError
            The daemon refused, or there is none.
        """
        async with self._asking:
            result = await asyncio.to_thread(self._ask, verb, **arguments)
        await self.refresh()
        return result

    async def refresh(self) -> None:
        """Ask the daemon for its classes and tell the pages; nothing where it does not answer."""
        try:
            async with self._asking:
                self._classes = await asyncio.to_thread(self._ask, "classes")
        except ClientError as error:
            _log.info("classes: %s", error)
            return
        self._send(_json({"kind": "classes", "classes": self._classes}))

    async def _listen(self, subscriber: AsyncSubscriber, tasks: asyncio.TaskGroup) -> None:
        async for message in subscriber:
            known = self._state
            self._take(message)
            if isinstance(message, State) and (
                known is None or (known.run_id, known.revision) != (message.run_id, message.revision)
            ):
                tasks.create_task(self.refresh())

    def _take(self, message: Message) -> None:
        """Keep a message and send it on."""
        back = not self.daemon_is_there
        self._heard_mono_s = time.monotonic()
        if message.run_id != self._run_id:
            self._run_id = message.run_id
            self._state = self._heartbeat = None
            self._latest.clear()
            self._pictures.clear()
        if back:
            self._send(_json({"kind": "link", "daemon": True}))
            if self._state is not None:  # the daemon sends it on a change alone, and the pages took it down
                self._send(_json(to_map(self._state)))
        values = to_map(message)
        if isinstance(message, State):
            self._state = message
            if message.state != "LIVE":
                self._latest.clear()
        elif isinstance(message, Heartbeat):
            self._heartbeat = message
        elif isinstance(message, Event):
            self._events[message.event_id] = values
            if len(self._events) > N_EVENTS:
                self._events.popitem(last=False)
        else:
            self._latest[message.kind, message.channel] = message
        self._send(_json(values))

    async def _look(self, scalograms: ScalogramSubscriber) -> None:
        async for picture in scalograms:
            data = picture_bytes(picture)
            self._pictures.setdefault(picture.channel, deque(maxlen=N_PICTURES)).append(data)
            for viewer in self.viewers:
                if viewer.awake and viewer.looks:
                    viewer.offer(data)

    async def _watch(self) -> None:
        """Tell the pages when the daemon has fallen silent."""
        was_there = self.daemon_is_there
        while True:
            await asyncio.sleep(WATCH_S)
            if was_there and not self.daemon_is_there:
                self._latest.clear()
                self._send(_json({"kind": "link", "daemon": False}))
            was_there = self.daemon_is_there

    def _send(self, text: str) -> None:
        for viewer in self.viewers:
            if viewer.awake:
                viewer.offer(text)


def _leaves(group: BaseExceptionGroup[ClientError]) -> Iterator[ClientError]:
    """The errors that a group, and the groups in it, are made of."""
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each


def picture_bytes(picture: Scalogram) -> bytes:
    """A scalogram as the page reads it: the length of a JSON header (uint32, little-endian), the header, the levels."""
    values = to_map(picture)
    levels: bytes = values.pop("levels")
    header = _json(values).encode()
    return struct.pack("<I", len(header)) + header + levels


def _json(values: Values) -> str:
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
