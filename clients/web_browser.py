"""One browser at the web page: a bounded queue out, requests and a limit of their rate in."""

import asyncio
import contextlib
import json
import time
from collections import deque
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from mird.clients.errors import ClientError
from mird.clients.web_feed import Feed

MAX_QUEUED: Final = 500
"""Messages kept for a browser that reads slowly; beyond, it gets a snapshot instead of them."""

MAX_FRAME_BYTES: Final = 16_384
BURST: Final = 30.0
PER_S: Final = 10.0
"""Frames that a browser may send at once, and each second."""

POLICY_VIOLATION: Final = 1008

VERBS: Final = frozenset({"classes", "correct", "enroll_live", "forget", "rename", "threshold", "undo"})
"""What a page may ask of the daemon; to stop it is none of them."""

MAX_ARGUMENTS: Final = 8


class FrameError(ValueError):
    """A frame from a browser that is no request; one line that says why."""


class Browser:
    """A connection with one page. The event loop owns it.

    A page sends JSON objects: ``{"do": "look", "awake": bool, "scalogram": bool}`` when it is shown or hidden, and
    ``{"do": VERB, "id": number, "with": {arguments}}`` as to the control socket, which is answered with
    ``{"kind": "reply", "id": number, "ok": true, "result": {…}}`` or ``… "ok": false, "error": "one line"}``. It is
    sent the daemon's messages as JSON, and pictures as `picture_bytes` makes them.

    Parameters
    ----------
    socket : WebSocket
        Accepted.
    feed : Feed

    Attributes
    ----------
    awake, looks : bool
        As in `Viewer`.
    n_skipped : int
        Messages that the browser was too slow for, and that a snapshot stood in for.
    """

    def __init__(self, socket: WebSocket, feed: Feed) -> None:
        self.awake = False
        self.looks = False
        self.n_skipped = 0
        self._socket = socket
        self._feed = feed
        self._queue: deque[str | bytes] = deque()
        self._queued = asyncio.Event()
        self._allowance = BURST
        self._at_mono_s = time.monotonic()

    def offer(self, data: str | bytes) -> None:
        """Queue a message; where too many wait, a snapshot takes their place."""
        if len(self._queue) >= MAX_QUEUED:
            self.n_skipped += len(self._queue)
            self._queue.clear()
            self._queue.append(self._feed.snapshot())
        self._queue.append(data)
        self._queued.set()

    async def serve(self) -> None:
        """Send and answer until the page goes away or misbehaves."""
        self._feed.viewers.add(self)
        sending = asyncio.create_task(self._send())
        try:
            await self._receive()
        except WebSocketDisconnect:
            pass
        finally:
            sending.cancel()
            self._feed.viewers.discard(self)
            self._feed.count_lookers()

    async def _send(self) -> None:
        try:
            while True:
                await self._queued.wait()
                while self._queue:
                    data = self._queue.popleft()
                    await (self._socket.send_text(data) if isinstance(data, str) else self._socket.send_bytes(data))
                self._queued.clear()
        except (WebSocketDisconnect, RuntimeError):
            return  # it has gone, which the receiving side notices too

    async def _receive(self) -> None:
        while True:
            frame = await self._socket.receive()
            if frame["type"] == "websocket.disconnect":
                return
            if not self._may_send():
                with contextlib.suppress(RuntimeError):  # it has gone meanwhile
                    await self._socket.close(POLICY_VIOLATION, f"more than {PER_S:g} frames a second")
                return
            number: int | None = None
            try:
                request = _read(frame)
                number = request.get("id")
                result = await self._do(request)
            except (FrameError, ClientError) as error:
                text = " ".join(str(error).split())
                self.offer(json.dumps({"kind": "reply", "id": number, "ok": False, "error": text}))
                continue
            if result is not None:
                self.offer(json.dumps({"kind": "reply", "id": number, "ok": True, "result": result}))

    async def _do(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Do what a page asks; None where that needs no answer."""
        verb, arguments = request["do"], request["with"]
        if verb == "look":
            was_awake, looked = self.awake, self.looks
            self.awake, self.looks = request.get("awake") is True, request.get("scalogram") is True
            if self.awake and (not was_awake or (self.looks and not looked)):
                self._feed.begin(self)
            elif not self.awake:
                self._queue.clear()
            self._feed.count_lookers()
            return None
        if verb not in VERBS:
            raise FrameError(f"a page cannot ask for {verb[:40]!r}; it can for {', '.join(sorted(VERBS))}")
        return await self._feed.request(verb, arguments)

    def _may_send(self) -> bool:
        """Whether one frame more keeps to the rate."""
        now_s = time.monotonic()
        self._allowance = min(BURST, self._allowance + PER_S * (now_s - self._at_mono_s)) - 1
        self._at_mono_s = now_s
        return self._allowance >= 0


def _read(frame: Any) -> dict[str, Any]:
    """The request in a frame: its `do` is text, its `id` an int or None, its `with` a map of plain values."""
    text = frame.get("text")
    if text is None:
        raise FrameError("a page sends text, not bytes")
    try:
        request = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"no JSON: {error}") from error
    if not isinstance(request, dict) or not isinstance(request.get("do"), str):
        raise FrameError('no object with "do"')
    number = request.get("id")
    if number is not None and type(number) is not int:
        raise FrameError("id: not a whole number")
    arguments = request.setdefault("with", {})
    if not isinstance(arguments, dict) or len(arguments) > MAX_ARGUMENTS:
        raise FrameError(f"with: no object of at most {MAX_ARGUMENTS} arguments")
    for name, value in arguments.items():
        if not name.isidentifier() or name in ("verb", "id", "self"):
            raise FrameError(f"with: {name[:40]!r} is no argument")
        if not isinstance(value, str | int | float | None):
            raise FrameError(f"{name[:40]}: neither text nor a number")
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            raise FrameError(f"{name[:40]}: half a character")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise FrameError(f"{name[:40]}: too large a number")
    return request
