"""What a running daemon publishes, as an iterator of messages."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import zmq

from mird.clients.reception import Reception
from mird.daemon.messages import DEFAULT_ENDPOINT, Message


class Subscriber(Reception):
    """Receives messages and waits for them; one thread uses it.

    Its parameters, attributes and errors are those of :class:`~mird.clients.reception.Reception`;
    :class:`~mird.clients.async_subscriber.AsyncSubscriber` is the same for asyncio.

    Examples
    --------
    ::

        with Subscriber(kinds=["event"]) as subscriber:
            for event in subscriber:
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
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        try:
            self._connect(self._socket)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        message = None if self._socket.closed else self.recv()
        if message is None:
            raise StopIteration
        return message

    def recv(self, timeout_s: float | None = None) -> Message | None:
        """The next message.

        Parameters
        ----------
        timeout_s : float, optional
            How long to wait; for ever by default.

        Returns
        -------
        Message or None
            None when the time is over.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_ms = None if deadline is None else max(0, round((deadline - time.monotonic()) * 1000))
            if self._socket.poll(self._slice_ms(left_ms)):
                message = self._accepted(self._socket.recv_multipart())
                if message is not None:
                    return message
            if deadline is not None and time.monotonic() >= deadline:
                return None

    def close(self) -> None:
        """Close the socket; idempotent. An iterator over the subscriber ends."""
        if not self._socket.closed:
            if self._handshakes is not None:
                self._handshakes.close()
            self._socket.close()
            self._context.term()
