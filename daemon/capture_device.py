"""DeviceCapture: an audio interface, for as long as the daemon runs, whether it is there or not.

::

    WAITING --> LIVE <--> STALLED --> LOST --> LIVE …
    (looks for the device with a back-off from 0.5 s to 10 s, for ever; each opening is a new Stream)
"""

import logging
import threading
import time
from dataclasses import replace
from typing import Final

from mird.daemon.capture import CaptureState, CaptureStatus, Stream, new_stream
from mird.daemon.devices import Device, DeviceListError, find_input, list_inputs, names_of
from mird.daemon.errors import SourceError
from mird.daemon.portaudio_input import PortAudioInput
from mird.daemon.source import SourceSpec, select_channels, topic_name

_BACK_OFF_S: Final = (0.5, 1.0, 2.0, 4.0, 7.0, 10.0)
_WATCH_S: Final = 0.1
_STALLED_S: Final = 0.5
_LOST_S: Final = 1.5
_ZEROS_S: Final = 1.0
_FIRST_BLOCK_S: Final = 5.0
_N_FIRST_BLOCKS: Final = 8
_OPENING_S: Final = 10.0
_CLOSING_S: Final = 1.0
_STUCK_S: Final = 60.0
_GAP_NS: Final = 20_000_000

_log = logging.getLogger(__name__)


class DeviceCapture:
    """Capture from a device through PortAudio.

    A thread of its own ("mird-capture") looks for the device, has it opened, watches it and writes what the properties
    show; it never calls into PortAudio itself. See `mird.daemon.portaudio_input` for the threads that do.

    Parameters
    ----------
    spec : SourceSpec
        Of kind "device". Its argument is matched against the names of the inputs at every attempt.

    Raises
    ------
    SourceError
        If the device is there and does not have a channel that is asked for.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._stream: Stream | None = None
        self._status = CaptureStatus(CaptureState.WAITING, "")
        self._known: list[Device] | None = None
        try:
            self._known = list_inputs()
        except DeviceListError as error:
            self._set(CaptureState.WAITING, str(error))
        else:
            device = find_input(self._known, spec.argument)
            if device is None:
                self._set(CaptureState.WAITING, self._absence(self._known))
            else:
                self._select(device)
                self._set(CaptureState.WAITING, f"{device.name!r} is being opened")

    def start(self) -> None:
        """Begin to look for the device."""
        self._thread = threading.Thread(target=self._run, name="mird-capture", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the device and end the thread, within about a second; what hangs is left to the end of the process."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSING_S + 4 * _WATCH_S)

    @property
    def stream(self) -> Stream | None:
        """The open stream; None while there is none."""
        return self._stream

    @property
    def status(self) -> CaptureStatus:
        """What it is doing now."""
        return self._status

    def _run(self) -> None:
        n_failures = 0
        while not self._stop.is_set():
            try:
                opened = self._attempt()
            except Exception as error:  # noqa: BLE001 - without this thread the device would be lost for ever, unsaid
                opened = False
                self._fail(error)
            if opened:
                n_failures = 0
            self._stop.wait(_BACK_OFF_S[min(n_failures, len(_BACK_OFF_S) - 1)])
            n_failures += 1
        self._set(CaptureState.ENDED, "capture was stopped")

    def _fail(self, error: Exception) -> None:
        """Say what nobody foresaw, once with all there is to know; it is tried again all the same."""
        detail = f"a fault in mird: {type(error).__name__}: {error}; it is tried again"
        if detail != self._status.detail:
            _log.error("capture failed", exc_info=error)
        self._set(CaptureState.LOST if self._status.n_opens else CaptureState.WAITING, detail)

    def _attempt(self) -> bool:
        """Look for the device and capture until it is gone; whether it was open."""
        absent = CaptureState.LOST if self._status.n_opens else CaptureState.WAITING
        try:
            devices, self._known = self._known or list_inputs(), None
            device = find_input(devices, self._spec.argument)
            if device is None:
                self._set(absent, self._absence(devices))
                return False
            audio_input = PortAudioInput(device, self._select(device))
        except (DeviceListError, SourceError) as error:
            self._set(absent, str(error))
            return False
        audio_input.start()
        try:
            return self._open(audio_input, absent)
        finally:
            self._stream = None
            if audio_input.ring is not None:
                audio_input.ring.close()
            audio_input.release()
            self._await_end(audio_input)

    def _open(self, audio_input: PortAudioInput, absent: CaptureState) -> bool:
        """Wait until sound comes and watch it until it ends; whether it came."""
        name = audio_input.device.name
        since_s = time.monotonic()
        while not audio_input.opened.wait(_WATCH_S):
            if self._stop.is_set():
                return False
            if time.monotonic() - since_s > _OPENING_S:
                self._hang(absent, f"{name!r} has not opened", time.monotonic() - since_s)
        if audio_input.failure or audio_input.ring is None or audio_input.clock is None:
            self._set(absent, f"{name!r} cannot be opened: {audio_input.failure}; is another program using it?")
            return False
        since_s = time.monotonic()
        while audio_input.n_blocks < _N_FIRST_BLOCKS:
            if self._stop.wait(_WATCH_S / 10):
                return False
            if time.monotonic() - since_s > _FIRST_BLOCK_S or not audio_input.active:
                self._set(absent, f"{name!r} opens but gives no sound; is it plugged in and not in use elsewhere?")
                return False
        self._stream = new_stream(
            self._spec.name or _short_name(name),
            audio_input.rate_hz,
            audio_input.channels,
            audio_input.ring,
            audio_input.clock,
            lossless=False,
        )
        self._status = replace(self._status, n_opens=self._status.n_opens + 1)
        self._watch(audio_input, self._stream)
        return True

    def _watch(self, audio_input: PortAudioInput, stream: Stream) -> None:
        """Follow an open device until it is gone or capture is stopped."""
        channels = ", ".join(str(channel) for channel in stream.channels)
        live = f"{audio_input.device.name!r}, {stream.rate_hz} Hz, channel{'s'[: len(stream.channels) > 1]} {channels}"
        n_overflows, n_gaps = self._status.n_overflows, self._status.n_gaps
        origin_ns = stream.opened_mono_ns
        looked_ns = time.monotonic_ns()
        while True:
            now_ns = time.monotonic_ns()
            if (now_ns - looked_ns) / 1e9 > _STALLED_S:  # this process was paused: what came meanwhile is written first
                self._stop.wait(_STALLED_S)
                now_ns = time.monotonic_ns()
            looked_ns = now_ns
            age_s = (now_ns - audio_input.last_block_ns) / 1e9
            stepped_ns, origin_ns = (
                (stream.clock.origin_ns or origin_ns) - origin_ns,
                stream.clock.origin_ns or origin_ns,
            )
            n_gaps += stepped_ns > _GAP_NS
            if not audio_input.active or age_s > _LOST_S:
                why = audio_input.failure or (f"nothing came for {age_s:.1f} s" if age_s > _LOST_S else "it went away")
                state, detail = CaptureState.LOST, f"{live}: {why}; it is looked for until it is back"
            elif age_s > _STALLED_S:
                state, detail = CaptureState.STALLED, f"{live}: nothing came for half a second and more"
            elif _only_zeros(stream):
                state, detail = CaptureState.STALLED, f"{live}: exact zeros; it is muted, or nothing is connected"
            else:
                state, detail = CaptureState.LIVE, live
            self._set(state, detail, n_overflows + audio_input.n_overflows, n_gaps)
            if state is CaptureState.LOST or self._stop.wait(_WATCH_S):
                return

    def _await_end(self, audio_input: PortAudioInput) -> None:
        """Wait until PortAudio has closed the device; a second opening beside a hanging one would be unsafe."""
        since_s = time.monotonic()
        while not audio_input.finished.wait(_WATCH_S):
            waited_s = time.monotonic() - since_s
            if self._stop.is_set() and waited_s > _CLOSING_S:
                return  # its thread is left to the end of the process
            if waited_s > _OPENING_S:
                self._hang(self._status.state, f"{audio_input.device.name!r} has not closed", waited_s)

    def _select(self, device: Device) -> tuple[int, ...]:
        n_inputs = device.n_native_inputs if self._spec.channels is None else device.n_inputs
        return select_channels(self._spec, n_inputs, repr(device.name))

    def _absence(self, devices: list[Device]) -> str:
        wanted = f"no input matches {self._spec.argument!r}" if self._spec.argument else "there is no audio input"
        return f"{wanted}; waiting for it. Inputs that exist: {names_of(devices)}"

    def _hang(self, state: CaptureState, what: str, waited_s: float) -> None:
        """Say that a call does not return, each ten seconds."""
        self._set(state, f"{what} for {waited_s // _OPENING_S * _OPENING_S:.0f} s: {_HANGS}")
        if waited_s > _STUCK_S:
            self._status = replace(self._status, stuck=True)

    def _set(self, state: CaptureState, detail: str, n_overflows: int | None = None, n_gaps: int | None = None) -> None:
        now = self._status
        self._status = replace(
            now,
            state=state,
            detail=detail,
            n_overflows=now.n_overflows if n_overflows is None else n_overflows,
            n_gaps=now.n_gaps if n_gaps is None else n_gaps,
            stuck=False,
        )


_HANGS: Final = "the sound server does not answer; restart PulseAudio or PipeWire, and mird if that does not help"


def _only_zeros(stream: Stream) -> bool:
    """Whether the last second is exactly zero, in every channel."""
    n = round(_ZEROS_S * stream.rate_hz)
    if stream.ring.n_written < n or stream.ring.latest(n // 100).samples.any():
        return False
    return not stream.ring.latest(n).samples.any()


def _short_name(device_name: str) -> str:
    """Name of a device in the topic: without ALSA's card numbers, which change, and in lower case."""
    return topic_name(device_name.partition(" (hw:")[0]).lower()
