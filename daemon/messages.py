r"""The wire format, version 1: what the daemon publishes and how each message is written.

A message is two ZeroMQ frames on an XPUB socket, a topic and a msgpack map::

    mird/1/<source>/<channel>/<kind>/        such as  mird/1/usb-audio/1/frame/

A SUB socket filters by prefix: ``mird/1/`` is everything, ``mird/1/usb-audio/1/`` one channel. The slash at the end
matters (``…/1`` is also the beginning of ``…/10``). Channels count from 1 as on the interface; 0 is the whole source.
The map repeats what the topic says, for readers that lose it (``ZMQ_CONFLATE``).

Every map has

=============  ======  =====================================================================================
schema         int     1. Changes within version 1 only add keys and kinds: ignore those that you do not know
kind           str     ``frame``, ``event``, ``level``, ``state`` or ``hb``
source         str     name of the source, without a slash
channel        int     1 and up; 0 in ``state`` and ``hb``
stream_id      str     new at each opening of the source, empty while there is none; samples count from its start
seq            int     counts the messages of this topic from 0, as long as run_id stays: a jump is a loss
replay         bool    a copy of an earlier message, sent again (with its old seq) because somebody joined
run_id         str     new at each start of the daemon: seq begins again, and running events have ended
t_mono_ns      int     time of sending, the machine's monotonic clock
t_utc_ns       int     time of sending, nanoseconds since 1970 UTC; clients drop by this age
=============  ======  =====================================================================================

and, by kind, the fields of the class below: :class:`Frame` (one a hop and channel), :class:`Event` (an instrument
starts or ends), :class:`Level` (one a hop and channel), :class:`State` (on each change; replayed to whoever joins, as
is the start of each running event) and :class:`Heartbeat` (one a second). A number's unit is in its name (``_ns``,
``_ms``, ``_s``, ``_hz``, ``_dbfs``); ``sample_…`` counts samples at ``rate_hz``; scores are between 0 and 1. No number
is ever NaN or infinite: digital silence is -200 dBFS. ``configs/schema/mird-1.schema.json`` says the same as a JSON
Schema, and ``tests/golden/`` has an example of each message in both forms; :mod:`mird.daemon.message_codec` writes and
reads them.

Pictures go by a root of their own, so that whoever takes all of ``mird/1/`` neither gets them nor makes them::

    mird-scalogram/1/<source>/<channel>/

is published, one a hop and channel, only while somebody subscribes to it: a :class:`Scalogram`, with the header above
and the kind ``scalogram``; ``configs/schema/mird-scalogram-1.schema.json``.

A slow reader never slows the daemon: beyond a high-water mark its messages are dropped, which it sees in ``seq``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from mird.daemon.fields import Bytes, Choice, Flag, Number, Record, Sequence, Table, Text, Whole

SCHEMA = 1
KINDS = ("frame", "event", "level", "state", "hb")
WHOLE_SOURCE_KINDS = ("state", "hb")  # of channel 0
SCALOGRAM_ROOT = "mird-scalogram"
DEFAULT_ENDPOINT = "tcp://127.0.0.1:7475"
FLOOR_DBFS = -200.0
MAX_PAYLOAD_BYTES = 1 << 20
MAX_REQUEST_BYTES = 8 << 20  # of the control socket, in both directions
MAX_LABELS = 4096

Name = Annotated[str, Text(128, pattern="[^/]+")]
Label = Annotated[str, Text(64)]
Engine = Annotated[str, Text(128)]  # back end and encoder
Identity = Annotated[str, Text(64, least=0)]
Line = Annotated[str, Text(500, least=0, clean=True)]
Channel = Annotated[int, Whole(0, 65_535)]
Count = Annotated[int, Whole()]
Rate = Annotated[int, Whole(1, 10_000_000)]
Score01 = Annotated[float, Number(0.0, 1.0, slack=1e-6)]
Dbfs = Annotated[float, Number(FLOOR_DBFS, -FLOOR_DBFS, slack=float("inf"))]
Seconds = Annotated[float, Number(0.0)]
Milliseconds = Annotated[float, Number()]
Counters = Annotated[Mapping[str, int], Table(Whole())]


class MessageError(ValueError):
    """A message is not of this format; says which kind, which field and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What every message has; the publisher fills in what has a default here, when it sends."""

    kind: ClassVar[str]
    source: Name
    channel: Channel
    stream_id: Identity
    seq: Count = 0
    replay: Annotated[bool, Flag()] = False
    run_id: Identity = ""
    t_mono_ns: Count = 0
    t_utc_ns: Count = 0

    def topic(self) -> bytes:
        """The first ZeroMQ frame."""
        return f"mird/{SCHEMA}/{self.source}/{self.channel}/{self.kind}/".encode()


@dataclass(frozen=True, slots=True)
class Score:
    """One row of a frame's list: how much the sound is like a class."""

    label: Label
    score: Score01


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame(Header):
    """What one channel sounds like in one window, published each hop.

    Attributes
    ----------
    sample_start, sample_end : int
        The window, at `rate_hz` since the stream began; the end is exclusive.
    rate_hz : int
        Clock of the recognised stream: 44100 whatever the interface runs at.
    capture_utc_ns : int
        When the window's last sample was captured, as near as can be known.
    latency_ms : float
        From the capture of the window's last sample to publishing.
    hop_s, window_s : float
    label, confidence
        After smoothing: a class, ``silence`` or ``unknown``. Events follow this one.
    raw_label, raw_confidence
        The same of this window alone.
    top : tuple of Score
        The likeliest classes by smoothed score, the best first.
    level_dbfs : float
        RMS level of the newest 0.2 s (of the hop where that is longer): what the silence gate looks at.
    engine : str
        Back end and encoder that computed it.
    revision : int
        Of the support set: counts its changes.
    degraded : bool
        The daemon is skipping hops to keep up.
    n_gap_frames : int
        Samples (of each channel) that were lost inside this window; 1 where it is not known how many.
    """

    kind: ClassVar[str] = "frame"
    sample_start: Count
    sample_end: Count
    rate_hz: Rate
    capture_utc_ns: Count
    latency_ms: Milliseconds
    hop_s: Seconds
    window_s: Seconds
    label: Label
    confidence: Score01
    raw_label: Label
    raw_confidence: Score01
    top: Annotated[tuple[Score, ...], Sequence(Record.of(Score), MAX_LABELS)]
    level_dbfs: Dbfs
    engine: Engine
    revision: Count
    degraded: Annotated[bool, Flag()]
    n_gap_frames: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Header):
    """An instrument starts or ends in one channel; each start has its end, with the same `event_id`.

    Attributes
    ----------
    event : "start" or "end"
    event_id : str
    label : str
    sample_start, sample_end : int, int or None
        At `rate_hz`; there is no end yet in a start, and always one in an end. The same holds for `end_utc_ns`.
    start_utc_ns, end_utc_ns : int, int or None
    score, peak_score : float
        Mean and highest smoothed score of the event so far.
    rate_hz : int
    clip : str
        Name of the file in the clip store that has its sound; empty in a start, and where none is kept.
    """

    kind: ClassVar[str] = "event"
    event: Annotated[Literal["start", "end"], Choice(("start", "end"))]
    event_id: Label
    label: Label
    sample_start: Count
    sample_end: Annotated[int | None, Whole(optional=True)]
    start_utc_ns: Count
    end_utc_ns: Annotated[int | None, Whole(optional=True)]
    score: Score01
    peak_score: Score01
    rate_hz: Rate
    clip: Annotated[str, Text(255, least=0)] = ""

    def __post_init__(self) -> None:
        if (self.event == "end") != (self.sample_end is not None) or (self.sample_end is None) != (
            self.end_utc_ns is None
        ):
            raise MessageError(f"sample_end: {self.sample_end}, end_utc_ns {self.end_utc_ns} in the {self.event} event")


@dataclass(frozen=True, slots=True, kw_only=True)
class Level(Header):
    """How loud one channel is in the last hop, up to `sample_end` at 44.1 kHz."""

    kind: ClassVar[str] = "level"
    sample_end: Count
    rms_dbfs: Dbfs
    peak_dbfs: Dbfs


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Header):
    """What the daemon is doing; published on each change.

    Attributes
    ----------
    state : str
        ``WAITING`` (for the device), ``LIVE``, ``STALLED`` (no sound comes), ``LOST`` (device gone), ``ENDED`` (the
        file or the input is at its end, and nothing more comes); in capitals, and later versions may add some.
    detail : str
        One line for people.
    version, engine, fingerprint : str
        Of mird; of the back end and encoder; of the encoder.
    classes : tuple of str
        The support set's, at its `revision`.
    channels : tuple of int
        Those that are listened to; empty while there is no stream.
    hop_s, window_s : float
    counters, degraded
        As in :class:`Heartbeat`.
    """

    kind: ClassVar[str] = "state"
    state: Annotated[str, Text(32, pattern="[A-Z_]+")]
    detail: Line
    version: Identity
    engine: Engine
    fingerprint: Annotated[str, Text(128, least=0)]
    classes: Annotated[tuple[str, ...], Sequence(Text(64), MAX_LABELS)]
    revision: Count
    channels: Annotated[tuple[int, ...], Sequence(Whole(1, 65_535), 1024)]
    hop_s: Seconds
    window_s: Seconds
    counters: Counters
    degraded: Annotated[bool, Flag()] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Header):
    """The daemon is alive; published each second.

    Attributes
    ----------
    uptime_s : float
    counters : Mapping[str, int]
        Since the start: ``n_hops``, ``n_hops_skipped``, ``n_overflows``, ``n_gaps``, ``n_lost_frames``, ``n_opens``,
        and what later versions add.
    latency_p50_ms, latency_p99_ms : float or None
        From capture to publishing, over the last minute; None before the first frame.
    degraded : bool
        Hops were left out within the last ten seconds.
    """

    kind: ClassVar[str] = "hb"
    uptime_s: Seconds
    counters: Counters
    latency_p50_ms: Annotated[float | None, Number(optional=True)]
    latency_p99_ms: Annotated[float | None, Number(optional=True)]
    degraded: Annotated[bool, Flag()] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalogram(Header):
    """The newest columns of one channel's scalogram; published each hop while somebody subscribes.

    They are cut out of the picture that the encoder was given, somewhat before the window's end, which blurs its last
    columns. As many are sent as a hop has, rounded up: two messages may overlap by a part of a column, and the later
    one is to be drawn over the earlier. After hops that were skipped there is a gap.

    Attributes
    ----------
    sample_start, sample_end : int
        What the columns show, at `rate_hz` since the stream began; the end is exclusive. All columns are as wide.
    rate_hz : int
    n_rows, n_columns : int
    highest_hz, lowest_hz : float
        Frequency of the first and of the last row.
    spacing : "log" or "linear"
        The rows are evenly spaced in the frequency's logarithm, or in the frequency.
    floor_db, step_db : float
        A byte b stands for ``floor_db + step_db * b`` dB, where 0 dB is a full-scale sine at the row's frequency; a
        byte of 0 also for all that is less.
    levels : bytes
        ``n_columns * n_rows`` of them: column by column, the oldest first, in each the highest frequency first.
    """

    kind: ClassVar[str] = "scalogram"
    sample_start: Count
    sample_end: Count
    rate_hz: Rate
    n_rows: Annotated[int, Whole(1, 4096)]
    n_columns: Annotated[int, Whole(1, 4096)]
    highest_hz: Annotated[float, Number(0.0)]
    lowest_hz: Annotated[float, Number(0.0)]
    spacing: Annotated[Literal["log", "linear"], Choice(("log", "linear"))]
    floor_db: Annotated[float, Number()]
    step_db: Annotated[float, Number(0.0)]
    levels: Annotated[bytes, Bytes(MAX_PAYLOAD_BYTES, least=1)]

    def __post_init__(self) -> None:
        if len(self.levels) != self.n_rows * self.n_columns:
            raise MessageError(f"levels: {len(self.levels)} bytes, not {self.n_rows} x {self.n_columns}")

    def topic(self) -> bytes:
        """The first ZeroMQ frame."""
        return scalogram_topic(self.source, self.channel)


def scalogram_topic(source: str, channel: int) -> bytes:
    """Topic of one channel's scalogram."""
    return f"{SCALOGRAM_ROOT}/{SCHEMA}/{source}/{channel}/".encode()


Message = Frame | Event | Level | State | Heartbeat
Published = Message | Scalogram
