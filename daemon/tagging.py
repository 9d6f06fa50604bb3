"""Tagging: the live path at full speed over files."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mird.daemon.capture import SourceSpec, Stream, open_capture
from mird.daemon.errors import SourceError
from mird.daemon.messages import Level, Message
from mird.daemon.pipeline import Pipeline
from mird.daemon.settings import Settings
from mird.daemon.support_store import Snapshot
from mird.kernels.recognizer import Recognizer

WAIT_S = 1.0


class Tagger:
    """Recognises files, one after another, and numbers the messages as a publisher does.

    Parameters
    ----------
    recognizer : Recognizer
    snapshot : Snapshot
    settings : Settings

    Attributes
    ----------
    run_id : str
        16 hexadecimal digits, in each message; new for each tagger.
    """

    def __init__(self, recognizer: Recognizer, snapshot: Snapshot, settings: Settings) -> None:
        self.run_id = uuid.uuid4().hex[:16]
        self._recognizer = recognizer
        self._snapshot = snapshot
        self._settings = settings
        self._seq: Counter[bytes] = Counter()

    def tag(self, spec: SourceSpec) -> Iterator[Message]:
        """Recognise a file from its first sample to its last.

        Parameters
        ----------
        spec : SourceSpec
            Of kind "file"; read as fast as it is recognised.

        Yields
        ------
        Level, Frame, Event
            In the order of the sound, every channel's; each event's end too. Their times are those at which a daemon
            would send them that played the file from its opening on, and had no delay of its own.

        Raises
        ------
        SourceError
            The file cannot be read; or, after the last message, it was found to be cut short or damaged.
        """
        capture = open_capture(replace(spec, fast=True, loop=False))
        capture.start()
        try:
            stream = capture.stream
            if stream is None:
                return
            pipeline = Pipeline(self._recognizer, stream, self._settings)
            while not stream.ring.drained:
                stream.ring.wait_for_data(pipeline.n_wanted(), WAIT_S)
                pipeline.push(stream.ring.read(stream.rate_hz))
                yield from self._hops(pipeline, stream)
            pipeline.finish()
            yield from self._hops(pipeline, stream)
            yield from self._sent(pipeline.close(), stream, pipeline.n_samples)
            capture.stop()
            if capture.status.n_gaps:
                raise SourceError(capture.status.detail)
        finally:
            capture.stop()

    def _hops(self, pipeline: Pipeline, stream: Stream) -> Iterator[Message]:
        for messages in pipeline.hops(lambda: self._snapshot):
            yield from self._sent(
                messages, stream, max(each.sample_end for each in messages if isinstance(each, Level))
            )

    def _sent(self, messages: Sequence[Message], stream: Stream, sample_end: int) -> Iterator[Message]:
        """Messages as they would be sent when the sound up to a sample of the front end's clock had come."""
        after_ns = sample_end * 1_000_000_000 // self._recognizer.card.front_end.rate_hz
        for message in messages:
            topic = message.topic()
            yield replace(
                message,
                seq=self._seq[topic],
                run_id=self.run_id,
                t_mono_ns=stream.opened_mono_ns + after_ns,
                t_utc_ns=stream.opened_utc_ns + after_ns,
            )
            self._seq[topic] += 1
