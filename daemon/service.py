"""The daemon: three threads around one ring and one snapshot of the support set.

======================  ===========================================================================================
capture's own thread    fills the ring
processing thread       owns the recognizer, the pipeline and the publisher
main thread             signals, control socket, every change of the support set
======================  ===========================================================================================
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from mird.daemon.calibration import Calibration
from mird.daemon.capture import Capture, CaptureState, CaptureStatus, Stream
from mird.daemon.clip_store import ClipStore
from mird.daemon.control import ControlServer
from mird.daemon.errors import MirdError, SourceError
from mird.daemon.heard import Heard
from mird.daemon.live_requests import LiveRequests
from mird.daemon.messages import MAX_LABELS, Event, Frame, Heartbeat, Message, State
from mird.daemon.notify import Notifier
from mird.daemon.pipeline import Pipeline
from mird.daemon.progress import CAPTURE_TO_PUBLISH, Progress
from mird.daemon.publisher import Publisher
from mird.daemon.reading import Reader, count
from mird.daemon.reloading import report, swapped
from mird.daemon.settings import Settings
from mird.daemon.support_store import Snapshot, SupportStore
from mird.kernels.recognizer import Recognizer

IDLE_S: Final = 0.05
"""Longest wait of the processing thread: subscriptions and heartbeats are served at least this often."""

POLL_S: Final = 0.2
"""Longest wait of the main thread for a control request."""

LATE_HOPS: Final = 2
"""A live source may be this many hops behind before some are left out."""

CALIBRATION_FILE: Final = "calibration.json"
"""Beside the support set."""

HEARTBEAT_S: Final = 1.0

DEAF_S: Final = 30.0
"""A main thread that is busy with one request for so long is told of. A request may wait 5 s for the support set."""

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
        self._source = source
        self._notifier = notifier or Notifier()
        self._calibration = Calibration(store.path.with_name(CALIBRATION_FILE))
        self._heard: Heard | None = None  # set by the processing thread
        self._live = LiveRequests(lambda: self._heard, store, self._calibration, lambda: self._settings.silence_dbfs)
        self._stop = threading.Event()
        self._stop_wanted = self._reload_wanted = False
        self._failure: BaseException | None = None
        self._progress = Progress()
        self._told = ""
        self._told_deaf = False
        self._polled_s = time.monotonic()  # when the main thread was last free for requests
        self._control = ControlServer(control_endpoint, self._handlers(), keys=keys)

    def stop(self) -> None:
        """Ask the daemon to end; from any thread or a signal handler."""
        self._stop_wanted = True  # an Event's lock may be held by the very code that a signal interrupts

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
        processing = threading.Thread(target=self._process_guarded, name="mird-processing")
        metrics = None
        try:
            if self._settings.metrics:
                from mird.daemon.metrics import MetricsServer

                parts = (self._capture, self._recognizer, self._store, self._publisher, self._control, self._progress)
                metrics = MetricsServer(self._settings.metrics, Reader(*parts, self._clips))
                _log.info("metrics are at %s", metrics.url)
            self._capture.start()
            processing.start()
            while not self._stop_wanted and not self._stop.is_set():
                self._control.poll(POLL_S)
                self._look_around()
                self._polled_s = time.monotonic()
        finally:
            self._stop.set()
            self._notifier.stopping()
            self._capture.stop()
            if processing.ident is not None:
                processing.join()
            if metrics is not None:
                metrics.close()
            if self._clips is not None:
                self._clips.close()
            self._publisher.close()
            self._control.close()
        if self._failure is not None:
            raise self._failure

    # ---- processing thread

    def _process_guarded(self) -> None:
        try:
            with self._notifier.starting("warming up"):  # a GPU's first use may compile for a while
                self._warm_up()
            self._notifier.ready()  # a device may still be waited for
            self._process()
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._failure = error
        finally:
            self._stop.set()

    def _warm_up(self) -> None:
        """Recognise a window of noise, so that no first hop is late."""
        noise = np.random.default_rng(0).normal(0.0, 0.1, (1, self._recognizer.card.front_end.window))
        self._recognizer.embed(noise.astype(np.float32))

    def _process(self) -> None:
        announced: tuple[CaptureStatus, bool, str, Snapshot] | None = None
        heartbeat_s = 0.0
        n_damaged = 0
        pipeline: Pipeline | None = None
        stream: Stream | None = None
        fault = ""
        while True:
            self._notifier.alive()  # here, so that what stops this loop is noticed, and nothing that it waits for is
            if pipeline is None or stream is None or stream.ring.drained:
                if pipeline is not None:
                    pipeline.finish()
                    self._publish_hops(pipeline)
                    self._end(pipeline)
                    pipeline = None
                ended = stream
                stream = self._capture.stream
                if stream is not None and stream is not ended:
                    if stream.source != self._source:
                        self._publisher.forget(self._source)
                    self._source = stream.source
                    self._progress.newest.clear()
                    front_end = self._recognizer.card.front_end
                    self._heard = Heard(
                        stream.stream_id,
                        stream.source,
                        stream.channels,
                        front_end.rate_hz,
                        front_end.window_s,
                        self._heard,
                    )
                    pipeline = Pipeline(self._recognizer, stream, self._settings, self._heard)
            status = self._capture.status
            to_come = status.state is CaptureState.ENDED and pipeline is not None  # what is left in the ring
            snapshot, shown = self._store.snapshot, (status, self._degraded, self._recognizer.name)
            if not to_come and (announced is None or announced[:3] != shown or announced[3] is not snapshot):
                announced = (*shown, snapshot)
                self._announce(status, stream)
            if time.monotonic() - heartbeat_s >= HEARTBEAT_S:
                heartbeat_s = time.monotonic()
                self._beat(stream)
                self._tell_of_main_thread()
            self._publisher.service()
            if self._stop.is_set():
                break
            if status.stuck and self._notifier.watchdog_s is not None:
                fault = f"{status.detail}; systemd is to start mird anew"
                break
            if pipeline is None or stream is None:
                if status.state is CaptureState.ENDED:
                    fault = status.detail if status.n_gaps or not status.n_opens else ""
                    break
                self._stop.wait(IDLE_S)
                continue
            stream.ring.wait_for_data(pipeline.n_wanted(), IDLE_S)
            chunk = stream.ring.read(stream.rate_hz)
            self._progress.counters["n_lost_frames"] += chunk.n_lost
            self._progress.counters["n_gaps"] += chunk.n_lost > 0
            pipeline.tune(self._settings, self._calibration.gates(stream.source))
            pipeline.push(chunk)
            if status.n_overflows + status.n_gaps != n_damaged:
                n_damaged = status.n_overflows + status.n_gaps
                pipeline.mark_gap()
            if not stream.lossless:
                skipped = pipeline.n_hops_skipped
                pipeline.catch_up(LATE_HOPS)
                self._progress.skipped(pipeline.n_hops_skipped - skipped)
            self._publish_hops(pipeline)
        if pipeline is not None:
            self._end(pipeline)
        if announced is None or announced[0].state is not CaptureState.ENDED:
            self._announce(replace(status, state=CaptureState.ENDED, detail="mird was told to stop"), stream)
        self._beat(stream)
        self._publisher.close(flush_s=0.5)
        if fault:
            raise SourceError(fault)

    def _publish_hops(self, pipeline: Pipeline) -> None:
        for messages in pipeline.hops(lambda: self._store.snapshot):
            self._progress.counters["n_hops"] += 1
            began_s = time.perf_counter()
            for message in messages:
                self._publisher.publish(self._kept(message, pipeline))
                if isinstance(message, Frame):
                    self._progress.stages[CAPTURE_TO_PUBLISH].add(message.latency_ms / 1000)
                    self._progress.newest[message.channel] = message
            self._progress.took({**pipeline.seconds, "publish": time.perf_counter() - began_s})
            for scalogram in pipeline.scalograms(self._publisher.has_subscriber):
                self._publisher.publish(scalogram)
            self._publisher.service()
            self._notifier.alive()
            if self._stop.is_set():
                break

    def _end(self, pipeline: Pipeline) -> None:
        for message in pipeline.close():
            self._publisher.publish(self._kept(message, pipeline))

    def _kept(self, message: Message, pipeline: Pipeline) -> Message:
        """The same message; the end of an event with the name of the clip that its sound goes into."""
        if self._clips is None or self._heard is None or not isinstance(message, Event) or message.sample_end is None:
            return message
        ago = (pipeline.n_samples - message.sample_start, pipeline.n_samples - message.sample_end)
        name = self._clips.offer(
            self._heard, message.channel, message.label, message.event_id, ago, message.start_utc_ns
        )
        return replace(message, clip=name)

    def _announce(self, status: CaptureStatus, stream: Stream | None) -> None:
        snapshot = self._store.snapshot
        line = f"{status.state}: {status.detail}"
        if (told := re.sub(r"\d+", "", line)) != self._told:  # what differs in a number of seconds is told once
            self._told = told
            troubled = status.state in (CaptureState.STALLED, CaptureState.LOST)
            _log.log(logging.WARNING if troubled else logging.INFO, "%s", line)
        self._notifier.status(f"{status.state}: {status.detail}")
        self._publisher.publish(
            State(
                source=self._source,
                channel=0,
                stream_id=stream.stream_id if stream else "",
                state=str(status.state),
                detail=status.detail,
                version=version("mird"),
                engine=self._engine(),
                fingerprint=self._recognizer.card.fingerprint,
                classes=snapshot.prototypes.names[:MAX_LABELS],
                revision=snapshot.revision,
                channels=stream.channels if stream else (),
                hop_s=self._settings.hop_ms / 1000,
                window_s=self._recognizer.card.front_end.window_s,
                counters=count(self._progress, status),
                degraded=self._degraded,
            )
        )

    def _beat(self, stream: Stream | None) -> None:
        p50_s, p99_s = self._progress.stages[CAPTURE_TO_PUBLISH].quantiles_s() or (None, None)
        self._publisher.publish(
            Heartbeat(
                source=self._source,
                channel=0,
                stream_id=stream.stream_id if stream else "",
                uptime_s=self._progress.uptime_s,
                counters=count(self._progress, self._capture.status),
                latency_p50_ms=None if p50_s is None else 1000 * p50_s,
                latency_p99_ms=None if p99_s is None else 1000 * p99_s,
                degraded=self._degraded,
            )
        )

    def _tell_of_main_thread(self) -> None:
        """Log, once a time, that requests and signals wait. No cause to restart: what is played is still heard."""
        deaf = time.monotonic() - self._polled_s > DEAF_S
        if deaf and not self._told_deaf:
            _log.error(
                "requests and signals have waited for %g s: is the disk of %s slow or gone? What is heard is published",
                DEAF_S,
                self._store.path,
            )
        self._told_deaf = deaf

    @property
    def _degraded(self) -> bool:
        return self._progress.degraded or self._recognizer.degraded

    def _engine(self) -> str:
        return f"{self._recognizer.name}: {self._recognizer.card.name}"

    # ---- main thread

    def reload(self) -> dict[str, Any]:
        """Read the settings and the support set anew, and go on with what can be changed while running.

        Returns
        -------
        dict
            ``changed``: names of the settings that differ and are in force now; ``restart_needed``: names of those that
            differ and wait for a restart; ``support_changed``: whether there is another support set.

        Raises
        ------
        SettingsError, SupportError
            Something is wrong with them; everything is as it was.
        """
        loaded = self._load()
        support_changed = self._store.refresh(always=True)
        self._settings, changed, restart_needed = swapped(self._settings, loaded)
        self._store.unknown_threshold = self._settings.unknown_threshold
        self._store.class_thresholds = self._settings.class_thresholds
        if "log_level" in changed:
            logging.getLogger().setLevel(self._settings.log_level.upper())
        return {"changed": changed, "restart_needed": restart_needed, "support_changed": support_changed}

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
            "engine": self._engine(),
            "engine_file": os.path.realpath(Path(self._settings.engine).expanduser()) if self._settings.engine else "",
            "fingerprint": self._recognizer.card.fingerprint,
            "support": str(self._store.path),
            "source": self._source,
            "publish": self._publisher.endpoint,
            "n_shut_out": self._publisher.n_shut_out + self._control.n_shut_out,
            "uptime_s": self._progress.uptime_s,
            "counters": count(self._progress, status),
            "revision": self._store.snapshot.revision,
            "rate_hz": self._recognizer.card.front_end.rate_hz,
            "window": self._recognizer.card.front_end.window,
        }

    def _stop_request(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        self.stop()
        return {}
