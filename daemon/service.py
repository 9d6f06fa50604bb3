"""The daemon: three threads around one ring and one snapshot of the support set.

======================  ===========================================================================================
capture's own thread    fills the ring
processing thread       owns the recognizer, the pipeline and the publisher (:mod:`mird.daemon.processing`)
main thread             signals, control socket, every change of the settings and the support set: this module
======================  ===========================================================================================
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from mird.daemon.calibration import Calibration
from mird.daemon.capture import Capture
from mird.daemon.clip_store import ClipStore
from mird.daemon.control import ControlServer
from mird.daemon.errors import MirdError
from mird.daemon.live_requests import LiveRequests
from mird.daemon.notify import Notifier
from mird.daemon.processing import Processing
from mird.daemon.publisher import Publisher
from mird.daemon.reading import Reader, count
from mird.daemon.reloading import report, swapped
from mird.daemon.settings import Settings
from mird.daemon.support_store import SupportStore
from mird.kernels.recognizer import Recognizer

POLL_S: Final = 0.2
"""Longest wait of the main thread for a control request."""

CALIBRATION_FILE: Final = "calibration.json"
"""Beside the support set."""

_log = logging.getLogger(__name__)


class Daemon:
    """A running mird. Made, run and closed by the main thread.

    Parameters
    ----------
    settings : Settings
    capture : Capture
    recognizer : Recognizer
        For the processing thread.
    store : SupportStore
        With a recognizer of its own.
    publisher : Publisher
        Bound; handed over to the processing thread, which closes it.
    control_endpoint : str
    source : str
        The source's name in topics until a stream is open.
    notifier : Notifier, optional
        Tells systemd; by default nobody is told.
    load : Callable[[], Settings], optional
        Reads the settings anew, for :meth:`reload`.
    clips : ClipStore, optional
        Keeps the sound behind each event; closed here.
    keys : Path, optional
        Folder of keys, for a control socket off this machine.

    Raises
    ------
    EndpointError
        The control socket cannot be bound.
    """

    def __init__(
        self,
        settings: Settings,
        capture: Capture,
        recognizer: Recognizer,
        store: SupportStore,
        publisher: Publisher,
        control_endpoint: str,
        source: str,
        notifier: Notifier | None = None,
        load: Callable[[], Settings] | None = None,
        clips: ClipStore | None = None,
        keys: Path | None = None,
    ) -> None:
        self._settings = settings
        self._load = load or (lambda: settings)
        self._capture = capture
        self._clips = clips
        self._recognizer = recognizer
        self._store = store
        self._publisher = publisher
        self._notifier = notifier or Notifier()
        self._calibration = Calibration(store.path.with_name(CALIBRATION_FILE))
        self._processing = Processing(
            settings, capture, recognizer, store, publisher, self._calibration, source, self._notifier, clips
        )
        self._live = LiveRequests(
            lambda: self._processing.heard, store, self._calibration, lambda: self._settings.silence_dbfs
        )
        self._stop_wanted = self._reload_wanted = False
        self._control = ControlServer(control_endpoint, self._handlers(), keys=keys)

    def stop(self) -> None:
        """Ask the daemon to end; from any thread or a signal handler."""
        self._stop_wanted = True  # a flag: an Event's lock may be held by the very code that a signal interrupts

    def ask_reload(self) -> None:
        """Ask the daemon to :meth:`reload`; from any thread or a signal handler. What is wrong is logged."""
        self._reload_wanted = True

    def run(self) -> None:
        """Listen until :meth:`stop`, or until a file or standard input has ended.

        Raises
        ------
        EndpointError
            The metrics' address cannot be bound.
        SourceError
            The source was found to be unusable, or a file or standard input ended damaged, cut short or without sound;
            what there was has been published.
        """
        processing = self._processing
        metrics = None
        try:
            if self._settings.metrics:
                from mird.daemon.metrics import MetricsServer

                parts = (self._capture, self._recognizer, self._store, self._publisher, self._control)
                metrics = MetricsServer(self._settings.metrics, Reader(*parts, processing.progress, self._clips))
                _log.info("metrics are at %s", metrics.url)
            self._capture.start()
            processing.start()
            while not self._stop_wanted and not processing.ended:
                self._control.poll(POLL_S)
                self._look_around()
                processing.main_free_s = time.monotonic()
        finally:
            processing.stop()
            self._notifier.stopping()
            self._capture.stop()
            processing.join()
            if metrics is not None:
                metrics.close()
            if self._clips is not None:
                self._clips.close()
            self._publisher.close()
            self._control.close()
        if processing.failure is not None:
            raise processing.failure

    def reload(self) -> dict[str, Any]:
        """Read the settings, the support set and the calibrated gates anew, and go on with what can be changed so.

        Returns
        -------
        dict
            ``changed``: names of the settings that differ and are in force now; ``restart_needed``: names of those that
            differ and wait for a restart; ``support_changed``, ``calibration_changed``: whether there is another
            support set, and whether gates are others.

        Raises
        ------
        SettingsError, SupportError
            Something is wrong with them; everything is as it was.
        """
        loaded = self._load()
        gates = self._calibration.read()
        told = {
            "support_changed": self._store.refresh(always=True),
            "calibration_changed": self._calibration.swap(gates),
        }
        self._settings, changed, restart_needed = swapped(self._settings, loaded)
        self._processing.settings = self._settings
        self._store.unknown_threshold = self._settings.unknown_threshold
        self._store.class_thresholds = self._settings.class_thresholds
        if "log_level" in changed:
            logging.getLogger().setLevel(self._settings.log_level.upper())
        return {"changed": changed, "restart_needed": restart_needed, **told}

    def _reload_request(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._notifier.reloading():
            return self.reload()

    def _look_around(self) -> None:
        """Between two requests: what a signal asked for, and whether somebody else changed the support set's file."""
        try:
            if self._reload_wanted:
                self._reload_wanted = False
                with self._notifier.reloading():
                    told = self.reload()
                _log.info("reloaded: %s", report(told))
            elif self._store.refresh():
                _log.info("support set %s was changed by another process: read anew", self._store.path)
        except MirdError as error:
            _log.error("%s; everything is as it was", error)
        except Exception:  # noqa: BLE001 - as of a request: whatever fails here, what is played is still heard
            _log.exception("a fault in mird while reloading; what was in force is")

    def _handlers(self) -> Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        return {
            **self._store.handlers(),
            **self._live.handlers(),
            "reload": self._reload_request,
            "status": self._status,
            "stop": self._stop_request,
        }

    def _status(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        status = self._capture.status
        return {
            "state": str(status.state),
            "detail": status.detail,
            "version": version("mird"),
            "engine": f"{self._recognizer.name}: {self._recognizer.card.name}",
            "engine_file": os.path.realpath(Path(self._settings.engine).expanduser()) if self._settings.engine else "",
            "fingerprint": self._recognizer.card.fingerprint,
            "support": str(self._store.path),
            "source": self._processing.source,
            "publish": self._publisher.endpoint,
            "n_shut_out": self._publisher.n_shut_out + self._control.n_shut_out,
            "uptime_s": self._processing.progress.uptime_s,
            "counters": count(self._processing.progress, status),
            "revision": self._store.snapshot.revision,
            "rate_hz": self._recognizer.card.front_end.rate_hz,
            "window": self._recognizer.card.front_end.window,
        }

    def _stop_request(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        self.stop()
        return {}
