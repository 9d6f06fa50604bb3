"""PortAudioInput: one opening of one device, on a thread of its own.

PortAudio's calls can block for as long as a sound server does not answer (30 s and more were measured with a stopped
PulseAudio, in opening as in closing), so they are made by a thread that nobody has to wait for. PortAudio is not
thread-safe and its list of devices belongs to the whole process: it is initialised for the time of one opening, and by
one thread at a time.
"""

import os
import threading
import time
from functools import partial
from typing import Any, Final

import numpy as np
import pyaudio
from numpy.typing import NDArray

from mird.daemon.capture import BLOCK_S, RING_S
from mird.daemon.devices import Device
from mird.daemon.ring import Ring
from mird.daemon.sample_clock import SampleClock
from mird.daemon.stderr_filter import StderrFilter

_PREFERRED_RATE_HZ: Final = 44_100

# PortAudio and file descriptor 2 belong to the process, whatever we do: this lock is their rule, not a state of ours.
_PORTAUDIO: Final = threading.Lock()


class PortAudioInput:
    """An input being opened, open, or being closed.

    The thread that it starts makes every call into PortAudio but `active`; PortAudio's own thread runs the callback,
    which writes `ring`, `clock` and the counts; the thread that constructs it reads them and calls `release`.

    Parameters
    ----------
    device : Device
        What to open, by its name and host API.
    channels : tuple of int
        Numbers of the channels that enter the ring, from 1, in the order of its columns.
    """

    def __init__(self, device: Device, channels: tuple[int, ...]) -> None:
        self.device: Final = device
        self.channels: Final = channels
        self.rate_hz = 0  # these four are set before `opened` is
        self.ring: Ring | None = None
        self.clock: SampleClock | None = None
        self.failure = ""
        """Why it could not be opened, or why the callback ended; empty if neither is so."""
        self.n_overflows = 0
        self.n_blocks = 0
        self.last_block_ns = 0
        self.opened: Final = threading.Event()
        """Set when the device is open, or cannot be opened."""
        self.finished: Final = threading.Event()
        """Set when everything that was open is closed."""
        self._release: Final = threading.Event()
        self._columns: NDArray[np.intp] | None = None
        self._scratch = np.zeros((0, 0), np.float32)
        self._stream: Any = None

    def start(self) -> None:
        """Begin to open it."""
        threading.Thread(target=self._run, name="mird-portaudio", daemon=True).start()

    def release(self) -> None:
        """Ask that it be closed; `finished` tells when it is."""
        self._release.set()

    @property
    def active(self) -> bool:
        """Whether PortAudio still delivers. It does not block; a device that was unplugged is inactive."""
        try:
            return bool(self._stream is not None and self._stream.is_active())
        except OSError:
            return False

    def _run(self) -> None:
        audio = None
        noise = StderrFilter()
        os.environ.setdefault("JACK_NO_START_SERVER", "1")
        try:
            with _PORTAUDIO, noise:
                audio = pyaudio.PyAudio()
                self._open(audio)
        except Exception as error:  # noqa: BLE001  whatever it is, whoever waits for `opened` is to be told
            self.failure = " ".join([str(error) or repr(error), *noise.lines[-1:]])
        self.opened.set()
        if not self.failure:
            self._release.wait()
        try:
            with _PORTAUDIO, StderrFilter():
                if self._stream is not None:
                    self._stream.close()
                if audio is not None:
                    audio.terminate()
        except OSError as error:
            self.failure = self.failure or f"closing failed: {error}"
        finally:
            self.finished.set()

    def _open(self, audio: Any) -> None:
        index = self._index(audio)
        # Fewer channels than it has would make a sound server mix them down without saying so.
        n_opened = max(*self.channels, self.device.n_native_inputs if self.device.is_server else 1)
        self.rate_hz = self._supported_rate_hz(audio, index, n_opened)
        n_block = round(BLOCK_S * self.rate_hz)
        if self.channels != tuple(range(1, n_opened + 1)):
            self._columns = np.array(self.channels, np.intp) - 1
            self._scratch = np.zeros((4 * n_block, len(self.channels)), np.float32)
        self.ring = ring = Ring(round(RING_S * self.rate_hz), len(self.channels))
        self.clock = clock = SampleClock(self.rate_hz)
        self._stream = audio.open(
            format=pyaudio.paFloat32,
            channels=n_opened,
            rate=self.rate_hz,
            input=True,
            input_device_index=index,
            frames_per_buffer=n_block,
            stream_callback=partial(self._take_block, ring, clock),
        )

    def _index(self, audio: Any) -> int:
        for index in range(audio.get_device_count()):
            found = audio.get_device_info_by_index(index)
            host_api = audio.get_host_api_info_by_index(found["hostApi"])["name"]
            if (found["name"], host_api) == (self.device.name, self.device.host_api) and found["maxInputChannels"] > 0:
                return index
        raise OSError("it is gone again")

    def _supported_rate_hz(self, audio: Any, index: int, n_channels: int) -> int:
        try:
            audio.is_format_supported(
                _PREFERRED_RATE_HZ, input_device=index, input_channels=n_channels, input_format=pyaudio.paFloat32
            )
        except ValueError:
            return self.device.default_rate_hz
        return _PREFERRED_RATE_HZ

    def _take_block(
        self, ring: Ring, clock: SampleClock, data: bytes, n_frames: int, _time: object, flags: int
    ) -> tuple[None, int]:
        """Put a block into the ring: PortAudio's callback. It waits for nothing but the interpreter."""
        try:
            now_ns = time.monotonic_ns()
            block = np.frombuffer(data, np.float32).reshape(n_frames, -1)
            if self._columns is not None:
                selected = self._scratch[:n_frames]
                np.take(block, self._columns, axis=1, out=selected, mode="clip")
                block = selected
            ring.write(block)
            clock.mark(ring.n_written, now_ns)
            self.last_block_ns = now_ns
            self.n_blocks += 1
            if flags & pyaudio.paInputOverflow:
                self.n_overflows += 1
        except Exception as error:  # noqa: BLE001  PyAudio would raise it in the main thread
            self.failure = f"the callback failed: {error!r}"
            return None, pyaudio.paAbort
        return None, pyaudio.paContinue
