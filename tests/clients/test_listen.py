"""What `mird listen` writes: lines, JSON, the summary, and the command on a real terminal."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from tests.clients.conftest import RATE_HZ, Script

from mird.clients.listen import form_for, kinds_for, listen
from mird.clients.subscriber import Subscriber
from mird.clients.summary import LabelTotal, Summary
from mird.daemon import cli_subscription
from mird.daemon.cli import main
from mird.daemon.messages import KINDS, Message
from mird.daemon.publisher import Publisher

PROGRAM = "import sys; from mird.daemon.cli import main; sys.exit(main())"


def test_summary() -> None:
    summary = Summary()
    for message in (
        Script.frame(end_s=1.0),
        Script.start("viola", 0.5, "e1"),
        Script.frame(end_s=2.0),
        Script.frame(end_s=2.1),
        Script.end("viola", 0.5, 2.0, event_id="e1"),
        Script.start("oboe", 2.0, "e2"),
        Script.frame(end_s=3.0, label="oboe"),
        Script.start("viola", 2.5, "e3"),
        Script.end("viola", 2.5, 3.0, event_id="e3"),
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
        Script.start("tuba", 0.5, "e1", replay=True),
        Script.start("oboe", 1.0, "e2", channel=2, replay=True),
        Script.frame(end_s=10.0),
        Script.frame(channel=2, end_s=10.0),
        Script.frame(end_s=11.4, sample_start=10 * RATE_HZ),
        Script.end("tuba", 0.5, 11.0, event_id="e1"),
    ):
        summary.add(message)
    assert summary.totals() == (LabelTotal("tuba", 2.0, 1), LabelTotal("oboe", 1.0, 1))
    assert summary.lines()[0] == "Heard in 2.4 s of sound on 2 channels:"


def test_the_summary_says_on_how_many_channels() -> None:
    summary = Summary()
    for channel in range(1, 9):
        summary.add(Script.frame(channel=channel, end_s=1.0))
        summary.add(Script.start("tuba", 0.0, f"e{channel}", channel=channel))
        summary.add(Script.frame(channel=channel, end_s=5.0, sample_start=RATE_HZ))
    assert summary.lines() == ["Heard in 5.0 s of sound on 8 channels:", "  tuba      40.0 s     8 events"]


def test_the_summary_of_events_alone_does_not_say_of_how_much_sound() -> None:
    summary = Summary()
    summary.add(Script.end("viola", 0.5, 2.0))
    assert summary.lines() == ["Heard:", "  viola       1.5 s     1 event"]


def test_an_event_before_the_first_frame_of_a_new_stream_is_not_cut_off() -> None:
    summary = Summary()
    for message in (
        Script.frame(end_s=9.0),
        Script.end("viola", 0.5, 2.0, stream_id="s2"),
        Script.frame(end_s=3.0, stream_id="s2"),
    ):
        summary.add(message)
    assert summary.totals() == (LabelTotal("viola", 1.5, 1),)


@pytest.mark.parametrize(
    "message",
    [
        Script.frame(end_s=1.0, stream_id="s2"),
        Script.frame(end_s=9.0, run_id="r2"),
        Script.start("viola", 0.0, "e9", run_id="r2"),
    ],
)
def test_an_event_whose_end_was_lost_ends_with_its_stream(message: Message) -> None:
    summary = Summary()
    for each in (Script.start("viola", 0.0, "e1"), Script.frame(end_s=4.0, sample_start=0), message):
        summary.add(each)
    assert summary.totals()[0].heard_s == 4.0
    summary.add(Script.frame(end_s=30.0, stream_id="s3", run_id="r3"))
    assert summary.totals()[0].heard_s == 4.0


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher("tcp://127.0.0.1:*") as each:
        yield each


def publish_show(publisher: Publisher, *, ended: bool) -> None:
    """Wait for a subscriber, then publish a short show."""
    assert publisher._socket.poll(30_000)
    publisher.service()
    messages: list[Message] = [
        Script.state(),
        Script.frame(),
        Script.level(),
        Script.start(),
        Script.frame(end_s=2.0),
        Script.end(),
    ]
    for message in [*messages, Script.state("ENDED", detail="end of file")] if ended else messages:
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
        assert subscriber._socket.poll(30_000)
        listen(subscriber, out, "json", stop=stop)
    messages = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [message["kind"] for message in messages] == ["state", "frame", "level", "event", "frame", "event"]


class SlowFile(io.StringIO):
    """What takes each line only after a while, as a terminal far away or a busy machine does."""

    def write(self, text: str) -> int:
        time.sleep(0.1)
        return super().write(text)


def test_however_slowly_it_is_shown_the_end_is_shown_too(publisher: Publisher) -> None:
    out = SlowFile()
    stop = threading.Event()
    stop.set()
    with Subscriber(publisher.endpoint, KINDS) as subscriber:
        publish_show(publisher, ended=True)
        assert subscriber._socket.poll(30_000)
        listen(subscriber, out, "json", stop=stop)
    assert json.loads(out.getvalue().splitlines()[-1])["state"] == "ENDED"


def test_a_pause_before_the_end_is_not_taken_for_it(publisher: Publisher) -> None:
    out = io.StringIO()
    stop = threading.Event()
    stop.set()
    with Subscriber(publisher.endpoint, KINDS) as subscriber:
        publish_show(publisher, ended=False)
        late = threading.Timer(0.3, publisher.publish, [Script.state("ENDED")])
        late.start()
        listen(subscriber, out, "json", stop=stop)
        late.join()
    assert json.loads(out.getvalue().splitlines()[-1])["state"] == "ENDED"


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
        while b"end  " not in seen:  # the last message
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
