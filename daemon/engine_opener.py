"""The thread that opens a GPU's engine beside the running daemon, and opens it again when it was lost.

The CPU serves from the first hop on. Meanwhile, where there is a GPU, the best back end is opened, after an engine was
compiled for it by a process of its own (``mird compile``): what takes a minute there disturbs nothing here. systemd is
told that mird is ready when the first attempt has ended, well or not, or has taken too long. Where one
is lost in the middle of a show the CPU goes on (:class:`mird.kernels.recognizer_switching.SwitchingRecognizer`), and
this thread tries again, at longer and longer intervals: first by a process of its own, since a GPU that hangs may hold
whoever asks it. After some faults CUDA works for no process that met them; that is told, and a restart is the remedy.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from mird.daemon.engine_processes import compile_beside, probe_beside
from mird.daemon.notify import Notifier
from mird.daemon.settings import Settings
from mird.kernels.back_ends import BackEnd, open_on_device, survey
from mird.kernels.cuda_driver import LIBRARY
from mird.kernels.errors import EngineError
from mird.kernels.recognizer_device import DeviceRecognizer
from mird.kernels.recognizer_switching import SwitchingRecognizer

if TYPE_CHECKING:
    from mird.kernels.encoder_graph import Precision

WATCH_S: Final = 0.2
"""Interval at which it is looked whether the engine still serves."""

STEADY_S: Final = 60.0
"""A GPU that served for so long was worth the wait: the next time it is tried again soon."""

RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 300.0
CLOSE_S: Final = 2.0

_log = logging.getLogger(__name__)


class EngineOpener:
    """See the module. A context of the main thread's.

    Parameters
    ----------
    recognizer : SwitchingRecognizer
        Gets what is opened.
    settings : Settings
        ``device`` and ``precision``.
    path : Path
        The encoder's file.
    folder : Path
        The plan cache.
    driver : str
        The library of NVIDIA's driver.
    notifier : Notifier, optional
        Told to wait for the first attempt.
    retry_s : float
        First wait before a lost GPU is tried again; doubled each time.

    Attributes
    ----------
    chain : tuple of BackEnd
        What was found last, best first; written by the thread, read by any.
    """

    def __init__(
        self,
        recognizer: SwitchingRecognizer,
        settings: Settings,
        path: Path,
        folder: Path,
        driver: str = LIBRARY,
        retry_s: float = RETRY_S,
        notifier: Notifier | None = None,
    ) -> None:
        self._recognizer = recognizer
        self._device, self._path, self._folder, self._driver = settings.device, path, folder, driver
        self._precision: Precision = "float16" if settings.precision == "auto" else settings.precision
        self._retry_s = retry_s
        self._notifier = notifier or Notifier()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mird-engine", daemon=True)
        self.chain: tuple[BackEnd, ...] = ()

    def __enter__(self) -> Self:
        """Begin, unless the settings say that the CPU serves."""
        if self._device != "cpu":
            self._notifier.hold("a GPU is looked for, and the CPU serves")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and end a compilation that is under way; what is being opened is left to the process's end."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)

    @property
    def at_work(self) -> bool:
        """Whether the thread still opens or watches an engine."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._watch()
        finally:
            self._notifier.release()

    def _watch(self) -> None:
        wait_s, served, began_s = self._retry_s, False, 0.0
        while not self._stop.is_set():
            if self._recognizer.on_device:
                served = True
                self._notifier.release()
                self._stop.wait(WATCH_S)
                continue
            if served:
                served = False
                if time.monotonic() - began_s >= STEADY_S:
                    wait_s = self._retry_s
                _log.warning("%s; the CPU goes on, and the GPU is tried again", self._recognizer.fault)
            elif self._open():
                began_s = time.monotonic()
                continue
            elif not (self._recognizer.fault or self._device == "cuda" or any(map(_may_serve, self.chain))):
                return  # there is none, there was none, and nobody asked for one
            self._notifier.release()
            self._stop.wait(wait_s)
            wait_s = min(2 * wait_s, LONGEST_RETRY_S)

    def _open(self) -> bool:
        """Open the best back end that can be; says in the log why the better ones were not."""
        if not self._recognizer.hangs:
            self._recognizer.free_lost()  # its memory is needed
        self.chain = survey(
            self._path, self._folder, device=self._device, precision=self._precision, driver=self._driver
        )
        level = logging.WARNING if self._device == "cuda" or self._recognizer.fault else logging.INFO
        on_device = [each for each in self.chain if each.on_device]
        if not any(each.usable for each in on_device) and len({each.reason for each in on_device}) == 1:
            _log.log(level, "no GPU serves: %s", on_device[0].reason)
            return False
        lost = bool(self._recognizer.fault)
        if lost and (reason := probe_beside(self._stop)):
            _log.log(level, "the GPU does not work yet: %s", reason)
            return False
        self._recognizer.free_lost()
        for back_end in on_device:
            if self._stop.is_set():
                break
            reason = back_end.reason
            if back_end.usable:
                try:
                    recognizer = self._opened(back_end)
                except Exception as error:  # noqa: BLE001 - whatever a driver does, it is tried again
                    reason = " ".join(str(error).split()) or type(error).__name__
                else:
                    self._recognizer.offer(recognizer)
                    _log.info("%s serves, %s", back_end.name, self._precision)
                    return True
            _log.log(level, "%s does not serve: %s", back_end.name, reason)
        if lost and not self._stop.is_set():
            _log.warning("a new process can use the GPU; if this one cannot again and again, restart mird")
        return False

    def _opened(self, back_end: BackEnd) -> DeviceRecognizer:
        card, precision = self._recognizer.card, self._precision
        if back_end.needs_compiling:
            self._compile(back_end.name)
        try:
            return open_on_device(back_end, self._path, self._folder, card, precision=precision)
        except EngineError as error:
            if back_end.needs_compiling or "refuses the plan" not in str(error):
                raise
            _log.warning("%s; it is compiled anew", error)
        self._compile(back_end.name)
        return open_on_device(back_end, self._path, self._folder, card, precision=precision)

    def _compile(self, library: str) -> None:
        self._notifier.hold(f"{library} compiles the encoder, and the CPU serves")
        compile_beside(library, self._path, self._folder, self._precision, self._stop)


def _may_serve(back_end: BackEnd) -> bool:
    return back_end.on_device and back_end.usable
