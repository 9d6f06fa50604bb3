"""What a running daemon publishes, as an asynchronous iterator of messages."""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import zmq
import zmq.asyncio

from mird.clients.reception import Reception
from mird.daemon.messages import DEFAULT_ENDPOINT, Message


class AsyncSubscriber(Reception):
    """Receives messages in an event loop, in which it is made, used and closed; one task at a time waits.

    Its parameters, attributes and errors are those of :class:`~mird.clients.reception.Reception`;
    :class:`~mird.clients.subscriber.Subscriber` is the same without asyncio.

    Examples
    --------
    ::

        async with AsyncSubscriber(kinds=["event"]) as subscriber:
            async for event in subscriber:
                print(event.channel, event.event, event.label)
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        kinds: Iterable[str] = ("frame", "event"),
        source: str | None = None,
        channel: int | None = None,
        max_age_s: float | None = None,
        keys: str | Path | None = None,
    ) -> None:
        super().__init__(endpoint, kinds, source, channel, max_age_s, keys)
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.SUB)
        try:
            self._connect(self._socket)
        except BaseException:
            self.close()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        message = await self.recv()
        if message is None:
            raise StopAsyncIteration
        return message

    async def recv(self, timeout_s: float | None = None) -> Message | None:
        """The next message.

        Parameters
        ----------
        timeout_s : float, optional
            How long to wait; for ever by default.

        Returns
        -------
        Message or None
            None when the time is over, or when the subscriber is closed.

        Raises
        ------
        asyncio.CancelledError
            The task was cancelled; no message is lost by that.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        await asyncio.sleep(0)  # where messages come faster than they are read, nothing else here waits
        while not self._socket.closed:
            left_ms = None if deadline is None else max(0, round((deadline - time.monotonic()) * 1000))
            try:
                come = await self._socket.poll(self._slice_ms(left_ms))
                message = self._accepted(await self._socket.recv_multipart(zmq.DONTWAIT)) if come else None
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._socket.closed and not (task and task.cancelling()):
                    return None  # pyzmq cancels what waits for a socket that is closed
                raise
            if message is not None:
                return message
            if deadline is not None and time.monotonic() >= deadline:
                return None
        return None

    def close(self) -> None:
        """Close the socket; idempotent. An iterator over the subscriber ends."""
        if not self._socket.closed:
            if self._handshakes is not None:
                self._handshakes.close()
            self._socket.close()
            self._context.term()
