"""The processing thread: what is captured is recognised and published, hop by hop.

It owns the recognizer, the pipeline and the publisher, and waits for nothing but sound: what the main thread changes
(settings, gates, the support set) it finds in its place at the next hop, swapped whole.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import Final

import numpy as np

from mird.daemon.announcer import Announcer
from mird.daemon.calibration import Calibration
from mird.daemon.capture import Capture, CaptureState, CaptureStatus, Stream
from mird.daemon.clip_store import ClipStore
from mird.daemon.errors import SourceError
from mird.daemon.heard import Heard
from mird.daemon.messages import Event, Frame, Message
from mird.daemon.notify import Notifier
from mird.daemon.pipeline import Pipeline
from mird.daemon.progress import CAPTURE_TO_PUBLISH, Progress
from mird.daemon.publisher import Publisher
from mird.daemon.settings import Settings
from mird.daemon.support_store import SupportStore
from mird.kernels.recognizer import Recognizer

IDLE_S: Final = 0.05
"""Longest wait for sound: subscriptions and heartbeats are served at least this often."""

LATE_HOPS: Final = 2
"""A live source may be this many hops behind before some are left out."""

DEAF_S: Final = 30.0
"""A main thread that is busy with one request for so long is told of. A request may wait 5 s for the support set."""

_log = logging.getLogger(__name__)


class Processing:
    """The thread and what it works with. The main thread makes, starts and stops it.

    Parameters
    ----------
    settings : Settings
    capture : Capture
    recognizer : Recognizer
        For this thread alone.
    store : SupportStore
        Its snapshot is read, nothing else.
    publisher : Publisher
        Bound; this thread closes it.
    calibration : Calibration
        Its gates are read, nothing else.
    source : str
        The source's name in topics until a stream is open.
    notifier : Notifier
    clips : ClipStore, optional
        Keeps the sound behind each event.

    Attributes
    ----------
    settings : Settings
        In force from the next hop on; the main thread puts others here.
    main_free_s : float
        When the main thread was last free for requests, on the clock of ``time.monotonic()``; it writes this.
    source : str
        The source's name in topics.
    heard : Heard or None
        What was heard lately; None before there was a stream.
    progress : Progress
    failure : BaseException or None
        What ended the thread, once it has ended.
    """

    def __init__(
        self,
        settings: Settings,
        capture: Capture,
        recognizer: Recognizer,
        store: SupportStore,
        publisher: Publisher,
        calibration: Calibration,
        source: str,
        notifier: Notifier,
        clips: ClipStore | None = None,
    ) -> None:
        self.settings = settings
        self.main_free_s = time.monotonic()
        self.source = source
        self.heard: Heard | None = None
        self.progress: Final = Progress()
        self.failure: BaseException | None = None
        self._capture = capture
        self._recognizer = recognizer
        self._store = store
        self._publisher = publisher
        self._calibration = calibration
        self._notifier = notifier
        self._clips = clips
        self._announcer = Announcer(recognizer, store, publisher, notifier, self.progress, settings.hop_ms / 1000)
        self._stream: Stream | None = None
        self._pipeline: Pipeline | None = None
        self._n_damaged = 0  # overflows and gaps of the capture that are marked in the frames
        self._told_deaf = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mird-processing")

    # ---- main thread

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether it has ended, or was told to."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Tell it to end."""
        self._stop.set()

    def join(self) -> None:
        """Wait until it has ended, if it was started."""
        if self._thread.ident is not None:
            self._thread.join()

    # ---- this thread

    def _run(self) -> None:
        try:
            with self._notifier.starting("warming up"):  # a GPU's first use may compile for a while
                self._warm_up()
            self._notifier.ready()  # a device may still be waited for
            fault = self._process()
            self._close()
            if fault:
                raise SourceError(fault)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self.failure = error
        finally:
            self._stop.set()

    def _warm_up(self) -> None:
        """Recognise a window of noise, so that no first hop is late."""
        noise = np.random.default_rng(0).normal(0.0, 0.1, (1, self._recognizer.card.front_end.window))
        self._recognizer.embed(noise.astype(np.float32))

    def _process(self) -> str:
        """Recognise until told to stop, or until the source has ended; what is wrong then, if anything."""
        while True:
            self._notifier.alive()  # here, so that what stops this loop is noticed, and nothing that it waits for is
            if self._pipeline is None or self._stream is None or self._stream.ring.drained:
                self._follow()
            pipeline, stream, status = self._pipeline, self._stream, self._capture.status
            ended = status.state is CaptureState.ENDED
            if not ended or pipeline is None:  # its end is told after what is left in the ring
                self._announcer.tell(self.source, stream, status)
            if self._announcer.beat(self.source, stream, status):
                self._tell_of_main_thread()
            self._publisher.service()
            if self._stop.is_set():
                return ""
            if status.stuck and self._notifier.watchdog_s is not None:
                return f"{status.detail}; systemd is to start mird anew"
            if pipeline is not None and stream is not None:
                self._hear(pipeline, stream, status)
            elif ended:
                return status.detail if status.n_gaps or not status.n_opens else ""
            else:
                self._stop.wait(IDLE_S)

    def _follow(self) -> None:
        """End the stream that is drained, and begin the next where there is one."""
        if self._pipeline is not None:
            self._pipeline.finish()
            self._publish_hops(self._pipeline)
            self._end(self._pipeline)
            self._pipeline = None
        ended, self._stream = self._stream, self._capture.stream
        if self._stream is not None and self._stream is not ended:
            self._pipeline = self._begin(self._stream)

    def _begin(self, stream: Stream) -> Pipeline:
        if stream.source != self.source:
            self._publisher.forget(self.source)
        self.source = stream.source
        self.progress.newest.clear()
        card = self._recognizer.card
        self.heard = Heard(
            stream.stream_id,
            stream.source,
            stream.channels,
            card.front_end.rate_hz,
            card.front_end.window_s,
            len(card.head.gamma),
            self.heard,
        )
        return Pipeline(self._recognizer, stream, self.settings, self.heard)

    def _hear(self, pipeline: Pipeline, stream: Stream, status: CaptureStatus) -> None:
        """Take in what has come, waiting a moment for the next hop to be due, and publish the hops that are."""
        stream.ring.wait_for_data(pipeline.n_wanted(), IDLE_S)
        chunk = stream.ring.read(stream.rate_hz)
        self.progress.counters["n_lost_frames"] += chunk.n_lost
        self.progress.counters["n_gaps"] += chunk.n_lost > 0
        pipeline.tune(self.settings, self._calibration.gates(stream.source))
        pipeline.push(chunk)
        if status.n_overflows + status.n_gaps != self._n_damaged:
            self._n_damaged = status.n_overflows + status.n_gaps
            pipeline.mark_gap()
        if not stream.lossless:
            skipped = pipeline.n_hops_skipped
            pipeline.catch_up(LATE_HOPS)
            self.progress.skipped(pipeline.n_hops_skipped - skipped)
        self._publish_hops(pipeline)

    def _publish_hops(self, pipeline: Pipeline) -> None:
        for messages in pipeline.hops(lambda: self._store.snapshot):
            self.progress.counters["n_hops"] += 1
            began_s = time.perf_counter()
            for message in messages:
                self._publisher.publish(self._kept(message, pipeline))
                if isinstance(message, Frame):
                    self.progress.stages[CAPTURE_TO_PUBLISH].add(message.latency_ms / 1000)
                    self.progress.newest[message.channel] = message
            self.progress.took({**pipeline.seconds, "publish": time.perf_counter() - began_s})
            for scalogram in pipeline.scalograms(self._publisher.has_subscriber):
                self._publisher.publish(scalogram)
            self._publisher.service()
            self._notifier.alive()
            if self._stop.is_set():
                break

    def _end(self, pipeline: Pipeline) -> None:
        for message in pipeline.close():
            self._publisher.publish(self._kept(message, pipeline))

    def _close(self) -> None:
        """End what sounds, say so, and close the publisher."""
        if self._pipeline is not None:
            self._end(self._pipeline)
        self._announcer.end(self.source, self._stream, self._capture.status)
        self._publisher.close(flush_s=0.5)

    def _kept(self, message: Message, pipeline: Pipeline) -> Message:
        """The same message; the end of an event with the name of the clip that its sound goes into."""
        if self._clips is None or self.heard is None or not isinstance(message, Event) or message.sample_end is None:
            return message
        ago = (pipeline.n_samples - message.sample_start, pipeline.n_samples - message.sample_end)
        name = self._clips.offer(
            self.heard, message.channel, message.label, message.event_id, ago, message.start_utc_ns
        )
        return replace(message, clip=name)

    def _tell_of_main_thread(self) -> None:
        """Log, once a time, that requests and signals wait. No cause to restart: what is played is still heard."""
        deaf = time.monotonic() - self.main_free_s > DEAF_S
        if deaf and not self._told_deaf:
            _log.error(
                "requests and signals have waited for %g s: is the disk of %s slow or gone? What is heard is published",
                DEAF_S,
                self._store.path,
            )
        self._told_deaf = deaf
