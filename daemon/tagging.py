"""Tagging: the live path at full speed over a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mird.daemon.capture import SourceSpec, open_capture
from mird.daemon.errors import SourceError
from mird.daemon.messages import Message
from mird.daemon.pipeline import Pipeline
from mird.daemon.settings import Settings
from mird.daemon.support_store import Snapshot
from mird.kernels.recognizer import Recognizer

WAIT_S = 1.0


def tag(spec: SourceSpec, recognizer: Recognizer, snapshot: Snapshot, settings: Settings) -> Iterator[Message]:
    """Recognise a file from its first sample to its last.

    Parameters
    ----------
    spec : SourceSpec
        Of kind "file"; read as fast as it is recognised.

    Yields
    ------
    Level, Frame, Event
        In the order of the sound, every channel's; each event's end too.

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
        pipeline = Pipeline(recognizer, stream, settings)
        while not stream.ring.drained:
            stream.ring.wait_for_data(pipeline.n_wanted(), WAIT_S)
            pipeline.push(stream.ring.read(stream.rate_hz))
            for messages in pipeline.hops(lambda: snapshot):
                yield from messages
        pipeline.finish()
        for messages in pipeline.hops(lambda: snapshot):
            yield from messages
        yield from pipeline.close()
        capture.stop()
        if capture.status.n_gaps:
            raise SourceError(capture.status.detail)
    finally:
        capture.stop()
