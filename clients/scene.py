"""The scene: the latest of each of a daemon's messages, and how long it has been silent."""

import time

from mird.daemon.messages import Event, Frame, Heartbeat, Level, Message, State


class Scene:
    """What is so now; one thread feeds and reads it.

    Parameters
    ----------
    endpoint : str
        Where the messages come from.

    Attributes
    ----------
    state, heartbeat : State, Heartbeat or None
        The latest of this run of the daemon.
    frames, levels : dict of int to Frame, Level
        The latest of each channel; empty unless the source is live.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.run_id = ""
        self.state: State | None = None
        self.heartbeat: Heartbeat | None = None
        self.frames: dict[int, Frame] = {}
        self.levels: dict[int, Level] = {}
        self._heard_mono_s = time.monotonic()

    def add(self, message: Message) -> None:
        """Take in one message."""
        self._heard_mono_s = time.monotonic()
        if message.run_id != self.run_id:
            self.run_id = message.run_id
            self.state = self.heartbeat = None
            self.frames.clear()
            self.levels.clear()
        if isinstance(message, Frame):
            self.frames[message.channel] = message
        elif isinstance(message, Level):
            self.levels[message.channel] = message
        elif isinstance(message, Heartbeat):
            self.heartbeat = message
        elif not isinstance(message, Event):
            self.state = message
            if message.state != "LIVE":
                self.frames.clear()
                self.levels.clear()

    @property
    def silent_s(self) -> float:
        """Seconds since the latest message, or since the beginning."""
        return time.monotonic() - self._heard_mono_s

    @property
    def is_empty(self) -> bool:
        """Nothing has come yet."""
        return self.state is None and not self.frames

    def channels(self) -> list[int]:
        """Those that are listened to, in order."""
        listed = self.state.channels if self.state is not None else ()
        return sorted({*listed, *self.frames, *self.levels})
