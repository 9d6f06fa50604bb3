"""What `mird listen` shows: the live view at any size, lines, JSON, the summary, and the command on a real terminal."""

import dataclasses
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from rich.cells import cell_len
from rich.console import Console

from mird.clients.lines import json_line, line_of
from mird.clients.listen import form_for, kinds_for, listen
from mird.clients.subscriber import Subscriber
from mird.clients.summary import LabelTotal, Summary
from mird.clients.view import LiveView
from mird.daemon import cli_subscription
from mird.daemon.cli import main
from mird.daemon.messages import KINDS, Event, Frame, Heartbeat, Level, Message, Score, State
from mird.daemon.publisher import Publisher

PROGRAM = "import sys; from mird.daemon.cli import main; sys.exit(main())"

RATE_HZ = 44_100


def frame(channel: int = 1, end_s: float = 1.0, label: str = "viola", **changes: object) -> Frame:
    message = Frame(
        source="desk",
        channel=channel,
        stream_id="s1",
        run_id="r1",
        sample_start=round((end_s - 1) * RATE_HZ),
        sample_end=round(end_s * RATE_HZ),
        rate_hz=RATE_HZ,
        capture_utc_ns=0,
        latency_ms=12.3,
        hop_s=0.1,
        window_s=1.0,
        label=label,
        confidence=0.91,
        raw_label=label,
        raw_confidence=0.9,
        top=(Score(label, 0.91), Score("Flöte", 0.4), Score("琵琶", 0.3), Score("oboe", 0.2), Score("x" * 64, 0.0)),
        level_dbfs=-20.0,
        engine="onnxruntime:light",
        revision=0,
        degraded=False,
        n_gap_frames=0,
    )
    return dataclasses.replace(message, **changes)  # type: ignore[arg-type]


def start(label: str = "viola", start_s: float = 0.0, event_id: str = "e1", **changes: object) -> Event:
    message = Event(
        source="desk",
        channel=1,
        stream_id="s1",
        run_id="r1",
        event="start",
        event_id=event_id,
        label=label,
        sample_start=round(start_s * RATE_HZ),
        sample_end=None,
        start_utc_ns=1_767_225_600_000_000_000,
        end_utc_ns=None,
        score=0.5,
        peak_score=0.5,
        rate_hz=RATE_HZ,
    )
    return dataclasses.replace(message, **changes)  # type: ignore[arg-type]


def end(label: str = "viola", start_s: float = 0.0, end_s: float = 2.0, **changes: object) -> Event:
    message = start(label, start_s, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(
        message, event="end", sample_end=round(end_s * RATE_HZ), end_utc_ns=1_767_225_602_000_000_000
    )


def state(name: str = "LIVE", channels: tuple[int, ...] = (1,), detail: str = "Scarlett 2i2, 48000 Hz") -> State:
    return State(
        source="desk",
        channel=0,
        stream_id="s1",
        run_id="r1",
        state=name,
        detail=detail,
        version="0.1.0",
        engine="onnxruntime:light",
        fingerprint="f",
        classes=("viola", "oboe"),
        revision=0,
        channels=channels,
        hop_s=0.1,
        window_s=1.0,
        counters={},
    )


def level(channel: int = 1, rms_dbfs: float = -20.0) -> Level:
    return Level(
        source="desk", channel=channel, stream_id="s1", run_id="r1", sample_end=1, rms_dbfs=rms_dbfs, peak_dbfs=-3.0
    )


HEARTBEAT = Heartbeat(
    source="desk",
    channel=0,
    stream_id="s1",
    run_id="r1",
    uptime_s=9.0,
    counters={"n_hops": 90, "n_hops_skipped": 3, "n_overflows": 0},
    latency_p50_ms=11.0,
    latency_p99_ms=25.0,
)


def rendered(view: LiveView, width: int = 80, height: int = 24, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=file, width=width, height=height, color_system=None)
    console.print(view, end="")
    file.flush()
    lines = raw.getvalue().decode(encoding).split("\n")
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
    return lines


def view_of(*messages: Message) -> LiveView:
    view = LiveView("tcp://127.0.0.1:7475")
    for message in messages:
        view.add(message)
    return view


def test_the_view_of_one_channel() -> None:
    text = "\n".join(rendered(view_of(state(), frame(), level(), HEARTBEAT, start(), end())))
    for part in (
        "mird 0.1.0  desk  LIVE  Scarlett 2i2, 48000 Hz",
        "2 classes, hop 100 ms, latency 12 ms, p99 25 ms, 3 hops skipped, onnx",
        "  1  viola",
        " 91 %  █████████████░░░░░░░  -20 dBFS",
        "Flöte",
        "琵琶",
        "desk 1  start  viola  0.50",
        "desk 1  end    viola  0.50  2.0 s",
    ):
        assert part in text


def test_the_view_before_anything_comes() -> None:
    assert "nothing yet from tcp://127.0.0.1:7475" in rendered(view_of())[0]


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (20, 5), (10, 2), (200, 60), (80, 1)])
@pytest.mark.parametrize("n_channels", [1, 2, 3, 16, 64])
def test_the_view_keeps_to_the_terminal(size: tuple[int, int], n_channels: int) -> None:
    channels = tuple(range(1, n_channels + 1))
    view = view_of(state(channels=channels, detail="x" * 500), HEARTBEAT)
    for channel in channels:
        view.add(frame(channel, label="琵琶" * 16))
        view.add(level(channel))
        for number in range(30):
            view.add(start(event_id=f"{channel}-{number}", channel=channel))
    lines = rendered(view, *size)
    if size == (80, 24):
        assert sum("dBFS" in line for line in lines) == min(n_channels, 16)
        assert ("and 48 channels more" in "\n".join(lines)) == (n_channels == 64)
        assert sum("start" in line for line in lines) >= 4


def test_the_view_on_a_terminal_without_unicode() -> None:
    lines = rendered(view_of(state(detail="y" * 500), level(), frame(top=())), encoding="ascii")
    assert "#############......." in "\n".join(lines)


def test_silence_and_waiting_are_said() -> None:
    text = "\n".join(rendered(view_of(state(), frame(label="silence", top=()), level(rms_dbfs=-200.0))))
    assert "silence" in text
    assert "no sound" in text
    text = "\n".join(rendered(view_of(state(), frame(), state("LOST", detail="unplugged; trying again in 1 s"))))
    assert "LOST  unplugged; trying again in 1 s" in text
    assert "91 %" not in text


def test_names_with_markup_are_shown_as_they_are() -> None:
    assert "[bold red]x[/]" in "\n".join(rendered(view_of(state(), frame(label="[bold red]x[/]"))))


@pytest.mark.parametrize("message", [frame(), start(), end(), state(), level(), HEARTBEAT])
def test_lines(message: Message) -> None:
    line = line_of(message)
    assert "\n" not in line
    assert "desk" in line
    assert json.loads(json_line(message))["kind"] == message.kind


def test_a_time_that_no_calendar_has() -> None:
    assert line_of(start(start_utc_ns=2**63 - 1)).startswith(("--:--:--.-", "0", "1", "2"))


def test_summary() -> None:
    summary = Summary()
    for message in (
        frame(end_s=1.0),
        start("viola", 0.5, "e1"),
        frame(end_s=2.0),
        frame(end_s=2.1),
        end("viola", 0.5, 2.0, event_id="e1"),
        start("oboe", 2.0, "e2"),
        frame(end_s=3.0, label="oboe"),
        start("viola", 2.5, "e3"),
        end("viola", 2.5, 3.0, event_id="e3"),
    ):
        summary.add(message)
    assert summary.totals() == (LabelTotal("viola", 2.0, 2), LabelTotal("oboe", 1.0, 1))
    assert summary.listened_s == pytest.approx(3.0)
    assert summary.lines() == [
        "Heard in 3.0 s of sound:",
        "  viola       2.0 s     2 events",
        "  oboe        1.0 s     1 event",
    ]
    assert Summary().lines() == ["No instrument was heard."]


def test_the_summary_of_who_joined_late_begins_when_they_did() -> None:
    summary = Summary()
    for message in (
        start("tuba", 0.5, "e1", replay=True),
        start("oboe", 1.0, "e2", channel=2, replay=True),
        frame(end_s=10.0),
        frame(channel=2, end_s=10.0),
        frame(end_s=11.4, sample_start=10 * RATE_HZ),
        end("tuba", 0.5, 11.0, event_id="e1"),
    ):
        summary.add(message)
    assert summary.totals() == (LabelTotal("tuba", 2.0, 1), LabelTotal("oboe", 1.0, 1))
    assert summary.lines()[0] == "Heard in 2.4 s of sound on 2 channels:"


def test_the_summary_says_on_how_many_channels() -> None:
    summary = Summary()
    for channel in range(1, 9):
        summary.add(frame(channel=channel, end_s=1.0))
        summary.add(start("tuba", 0.0, f"e{channel}", channel=channel))
        summary.add(frame(channel=channel, end_s=5.0, sample_start=RATE_HZ))
    assert summary.lines() == ["Heard in 5.0 s of sound on 8 channels:", "  tuba      40.0 s     8 events"]


def test_the_summary_of_events_alone_does_not_say_of_how_much_sound() -> None:
    summary = Summary()
    summary.add(end("viola", 0.5, 2.0))
    assert summary.lines() == ["Heard:", "  viola       1.5 s     1 event"]


def test_an_event_before_the_first_frame_of_a_new_stream_is_not_cut_off() -> None:
    summary = Summary()
    for message in (frame(end_s=9.0), end("viola", 0.5, 2.0, stream_id="s2"), frame(end_s=3.0, stream_id="s2")):
        summary.add(message)
    assert summary.totals() == (LabelTotal("viola", 1.5, 1),)


@pytest.mark.parametrize(
    "message", [frame(end_s=1.0, stream_id="s2"), frame(end_s=9.0, run_id="r2"), start("viola", 0.0, "e9", run_id="r2")]
)
def test_an_event_whose_end_was_lost_ends_with_its_stream(message: Message) -> None:
    summary = Summary()
    for each in (start("viola", 0.0, "e1"), frame(end_s=4.0, sample_start=0), message):
        summary.add(each)
    assert summary.totals()[0].heard_s == 4.0
    summary.add(frame(end_s=30.0, stream_id="s3", run_id="r3"))
    assert summary.totals()[0].heard_s == 4.0


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher("tcp://127.0.0.1:*") as each:
        yield each


def publish_show(publisher: Publisher, *, ended: bool) -> None:
    """Wait for a subscriber, then publish a short show."""
    assert publisher._socket.poll(15_000)
    publisher.service()
    messages: list[Message] = [state(), frame(), level(), start(), frame(end_s=2.0), end()]
    for message in [*messages, state("ENDED", detail="end of file")] if ended else messages:
        publisher.publish(message)


def test_lines_until_the_source_ends(publisher: Publisher) -> None:
    out = io.StringIO()
    assert form_for(out) == "lines"
    assert form_for(out, json=True) == "json"
    with Subscriber(publisher.endpoint, kinds_for("lines")) as subscriber:
        publish_show(publisher, ended=True)
        summary = listen(subscriber, out, "lines", until_ended=True)
    assert summary.totals() == (LabelTotal("viola", 2.0, 1),)
    lines = out.getvalue().splitlines()
    assert [line.split("  ")[2] for line in lines[:4]] == ["LIVE", "start", "end", "ENDED"]
    assert lines[4:] == summary.lines()


def test_what_is_on_its_way_is_shown_after_stop(publisher: Publisher) -> None:
    out = io.StringIO()
    stop = threading.Event()
    stop.set()
    with Subscriber(publisher.endpoint, KINDS) as subscriber:
        publish_show(publisher, ended=False)
        listen(subscriber, out, "json", stop=stop)
    messages = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [message["kind"] for message in messages] == ["state", "frame", "level", "event", "frame", "event"]


@pytest.mark.system
def test_the_command_writes_json_lines(publisher: Publisher) -> None:
    command = [sys.executable, "-c", PROGRAM, "listen", "--json", "--publish", publisher.endpoint]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [*command, "--kind", "event", "--kind", "hb"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        publish_show(publisher, ended=False)
        assert process.stdout is not None
        messages = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=20)
    assert [message["event"] for message in messages] == ["start", "end"]
    assert process.returncode == 130
    assert rest == ""
    assert errors == ""


@pytest.mark.system
def test_the_command_says_that_it_waits() -> None:
    with Publisher("tcp://127.0.0.1:*") as unused:
        endpoint = unused.endpoint
    command = [sys.executable, "-c", PROGRAM, "listen", "--publish", endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert line == f"mird: nothing yet from {endpoint}; waiting (start one with `mird run`)\n"
    assert out == "No instrument was heard.\n"


@pytest.mark.system
def test_the_command_on_a_terminal_of_80_by_24(publisher: Publisher) -> None:
    main_end, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "PYTHONUTF8": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "listen", "--publish", publisher.endpoint],
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        os.close(terminal)
        seen = b""
        publish_show(publisher, ended=False)
        while b"dBFS" not in seen:
            seen += os.read(main_end, 65_536)
        process.send_signal(signal.SIGINT)
        try:
            while chunk := os.read(main_end, 65_536):
                seen += chunk
        except OSError:
            pass  # its end of the terminal is closed
        _, errors = process.communicate(timeout=20)
    os.close(main_end)
    assert errors == b""
    assert process.returncode == 130
    text = seen.decode()
    assert text.index("\x1b[?1049h") < text.index("viola") < text.index("\x1b[?1049l")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "Heard in 2.0 s of sound:" in text[text.index("\x1b[?1049l") :]


def test_the_command_knows_the_kinds() -> None:
    assert cli_subscription.KINDS == KINDS


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["--publish", "nonsense"], 3, "must be an address that begins with tcp:// or ipc://"),
        (["--publish", "tcp://nonsense"], 8, "'tcp://nonsense' is no address such as"),
        (["--kind", "frames"], 2, "invalid choice: 'frames'"),
        (["--only-channel", "0"], 2, "channels count from 1"),
        (["--only-channel", "abc"], 2, "--only-channel: 'abc': must be the number of a channel; channels count from 1"),
        (["--max-age", "-1"], 2, "not a time above 0 s"),
        (["--max-age", "soon"], 2, "--max-age: 'soon': not a time above 0 s"),
        (["--max-age", "nan"], 2, "not a time above 0 s"),
    ],
)
def test_wrong_options(argv: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        actual = main(["listen", *argv])
    except SystemExit as caught:
        actual = int(caught.code or 0)
    assert actual == status
    assert message in capsys.readouterr().err
