"""The control socket's verbs that concern what is heard now; the main thread answers them.

What the processing thread hears comes in as :class:`mird.daemon.heard.Heard`, and what a request changes goes back as
the support set's snapshot and an immutable map of gates: neither thread waits for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from mird.daemon.calibration import Calibration, room_tone
from mird.daemon.enroll import Clip, report_of, windows_of
from mird.daemon.errors import SourceError
from mird.daemon.heard import ChannelLevel, Heard
from mird.daemon.support_set import check_class_name
from mird.daemon.support_store import SupportStore

N_WINDOWS: Final = 5
"""Shots that live sound or a correction brings at most, as of a clip."""
CALIBRATE_S: Final = 5.0


class LiveRequests:
    """Answers about what is heard.

    Parameters
    ----------
    heard : Callable[[], Heard | None]
        What was heard lately; None before there was a stream.
    store : SupportStore
    calibration : Calibration
    silence_dbfs : Callable[[], float]
        The gate of a channel that was not calibrated.
    """

    def __init__(
        self,
        heard: Callable[[], Heard | None],
        store: SupportStore,
        calibration: Calibration,
        silence_dbfs: Callable[[], float],
    ) -> None:
        self._current = heard
        self._store = store
        self._calibration = calibration
        self._silence_dbfs = silence_dbfs

    def handlers(self) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        """By verb."""
        return {
            "enroll_live": lambda request: self.enroll(request["name"], request["seconds"], request["channel"]),
            "correct": lambda request: self.correct(request["name"], request["event_id"], request["channel"]),
            "levels": lambda _: self.levels(),
            "calibrate": lambda request: self.calibrate(request["seconds"], reset=bool(request["reset"])),
        }

    def enroll(self, name: str, seconds: float, channel: int | None) -> dict[str, Any]:
        """Make shots of a channel's last seconds; ClipError, SupportError or SourceError where that cannot be."""
        name = check_class_name(name)
        heard = self._heard()
        channel = heard.channel(channel)
        samples = heard.sound(channel, seconds)
        heard_s = len(samples) / heard.rate_hz
        clip = Clip(
            samples,
            heard.rate_hz,
            channel=channel,
            n_channels=max(heard.channels),
            duration_s=seconds if heard_s < seconds - 0.01 else 0.0,
        )
        front_end = self._store.front_end
        windows = windows_of(clip, front_end.rate_hz, front_end.window, N_WINDOWS)
        enrolled = self._store.enroll(name, windows, clip.name)
        report = report_of(name, clip, len(windows)).resembling(enrolled.resembles, enrolled.resemblance)
        return {**asdict(report), "report": str(report), **enrolled.to_map()}

    def correct(self, name: str, event_id: str | None, channel: int | None) -> dict[str, Any]:
        """Make shots of an event's windows, or of what was heard last; errors as :meth:`enroll`."""
        stretch = self._heard().stretch(channel, event_id, N_WINDOWS)
        enrolled = self._store.correct(name, stretch.embeddings)
        return {
            **enrolled.to_map(),
            "channel": stretch.channel,
            "event_id": stretch.event_id,
            "was": stretch.label,
            "start_s": stretch.start_s,
            "end_s": stretch.end_s,
        }

    def levels(self) -> dict[str, Any]:
        """Level and label of each channel; no channels where there is no stream."""
        heard = self._current()
        gates = self._calibration.gates(heard.source) if heard else {}

        def row(level: ChannelLevel) -> dict[str, Any]:
            return {**asdict(level), "silence_dbfs": gates.get(level.channel, self._silence_dbfs())}

        return {
            "source": heard.source if heard else "",
            "channels": [row(level) for level in heard.levels()] if heard else [],
        }

    def calibrate(self, seconds: float | None, *, reset: bool) -> dict[str, Any]:
        """Take what each channel heard in the last seconds for its room tone, and set its gate above it.

        Raises
        ------
        SourceError
            Less than that was heard yet.
        SupportError
            The gates cannot be written: they are as they were.
        """
        heard = self._heard()
        if reset:
            self._calibration.keep(heard.source, {})
            return {"source": heard.source, "seconds": 0.0, "channels": []}
        seconds = CALIBRATE_S if seconds is None else seconds
        heard_s = heard.heard_s
        levels = {channel: heard.gates(channel, seconds) for channel in heard.channels}
        if heard_s < seconds:
            raise SourceError(f"only {heard_s:.1f} s of {seconds:g} s were heard yet: wait, and calibrate again")
        if not all(map(len, levels.values())):
            raise SourceError("the first window was not heard to its end yet: wait, and calibrate again")
        tones = [room_tone(channel, dbfs) for channel, dbfs in levels.items()]
        gates = {tone.channel: tone.silence_dbfs for tone in tones if tone.silence_dbfs is not None}
        if gates:
            self._calibration.keep(heard.source, gates)
        return {"source": heard.source, "seconds": seconds, "channels": [tone.to_map() for tone in tones]}

    def _heard(self) -> Heard:
        heard = self._current()
        if heard is None or heard.heard_s == 0.0:
            raise SourceError("nothing was heard yet: `mird status` says what the source is doing")
        return heard
