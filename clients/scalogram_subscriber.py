"""The scalograms of a running daemon, as long as somebody looks at them."""

from collections.abc import AsyncIterator
from pathlib import Path

import zmq
import zmq.asyncio

from mird.clients.keys import Handshakes
from mird.clients.reception import connect_to
from mird.daemon.message_codec import decode_scalogram
from mird.daemon.messages import DEFAULT_ENDPOINT, SCALOGRAM_ROOT, SCHEMA, MessageError, Scalogram


class ScalogramSubscriber:
    """Receives scalograms in an event loop, while it is told to look: the daemon makes them for nobody else.

    Parameters
    ----------
    endpoint : str
    high_water_mark : int
        Messages that are kept for this reader; later ones are dropped for it alone.
    keys : str or Path, optional
        Folder of keys, for a daemon off this machine.

    Attributes
    ----------
    looks : bool
    n_malformed : int
        Messages that are not of the wire format.

    Raises
    ------
    ClientError
        The address is none, or the keys cannot be used.
    """

    def __init__(
        self, endpoint: str = DEFAULT_ENDPOINT, high_water_mark: int = 200, keys: str | Path | None = None
    ) -> None:
        self.looks = False
        self._handshakes: Handshakes | None = None
        self.n_malformed = 0
        self._prefix = f"{SCALOGRAM_ROOT}/{SCHEMA}/".encode()
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.set_hwm(high_water_mark)
        try:
            # A key that is refused shows at the other subscriber, which everybody has who has this one.
            self._handshakes = connect_to(self._socket, endpoint, keys)
        except BaseException:
            self.close()
            raise

    def look(self, wanted: bool) -> None:
        """Subscribe, or unsubscribe; nothing where that is so already."""
        if wanted and not self.looks:
            self._socket.subscribe(self._prefix)
        elif self.looks and not wanted:
            self._socket.unsubscribe(self._prefix)
        self.looks = wanted

    async def __aiter__(self) -> AsyncIterator[Scalogram]:
        while not self._socket.closed:
            parts = await self._socket.recv_multipart()
            try:
                message = decode_scalogram(parts[-1])
            except MessageError:
                self.n_malformed += 1
                continue
            if len(parts) == 2 and message.topic() == parts[0]:
                yield message
            else:
                self.n_malformed += 1

    def close(self) -> None:
        """Close the socket; idempotent."""
        if not self._socket.closed:
            if self._handshakes is not None:
                self._handshakes.close()
            self._socket.close()
            self._context.term()
