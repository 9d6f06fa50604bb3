"""`mird web` as a process of its own: its parts, what pages are told, the clips that they send, wrong options."""

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from tests.clients.conftest import PATIENCE_S, Script, Web, look, next_of

from mird.clients.web_browser import MAX_QUEUED, Browser
from mird.clients.web_feed import Feed
from mird.daemon.cli import main
from mird.daemon.messages import Event, Scalogram, State, scalogram_topic

STATIC = Path(str(files("mird.clients").joinpath("web")))

STATE = State(
    source="desk",
    channel=0,
    stream_id="s1",
    state="LIVE",
    detail="",
    version="0",
    engine="e",
    fingerprint="f",
    classes=("viola",),
    revision=0,
    channels=(1,),
    hop_s=0.1,
    window_s=1.0,
    counters={},
)
START = Event(
    source="desk",
    channel=1,
    stream_id="s1",
    event="start",
    event_id="e1",
    label="<b>viola</b>",
    sample_start=0,
    sample_end=None,
    start_utc_ns=0,
    end_utc_ns=None,
    score=0.5,
    peak_score=0.5,
    rate_hz=44_100,
)
PICTURE = Scalogram(
    source="desk",
    channel=1,
    stream_id="s1",
    sample_start=0,
    sample_end=4410,
    rate_hz=44_100,
    n_rows=2,
    n_columns=2,
    highest_hz=16_000.0,
    lowest_hz=31.0,
    spacing="log",
    floor_db=-100.0,
    step_db=0.4,
    levels=b"\x00\x01\x02\x03",
)


def _until(web: Web, condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
        web.publisher.service()


def test_pages_and_their_parts(web: Web) -> None:
    for path, kind in {
        "/": "text/html",
        "/overlay": "text/html",
        "/static/page.js": "text/javascript",
        "/static/style.css": "text/css",
        "/static/icon.svg": "image/svg+xml",
    }.items():
        status, headers, body = web.ask(path)
        assert status == 200
        assert body
        assert headers["content-type"].startswith(kind)
        assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    for path in ("/static/../web_app.py", "/static/%2e%2e/web_app.py", "/nothing", "/static/"):
        assert web.ask(path)[0] == 404


def test_nothing_comes_from_elsewhere_and_no_name_is_ever_markup() -> None:
    """The name of a class is anybody's text: only what cannot make elements of it is used."""
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), path
        markup = r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|DOMParser|srcdoc|\bon\w+="
        assert not re.findall(markup, text), path
        assert "style=" not in text.replace("style=${", ""), path


def test_a_sleeping_page_costs_nothing_and_catches_up(web: Web) -> None:
    topic = scalogram_topic("desk", 1)
    publisher = web.publisher
    with web.join() as page, web.join() as other:
        look(page, scalogram=True)
        look(other)
        _until(web, lambda: publisher.has_subscriber(topic))
        publisher.publish(STATE)
        publisher.publish(PICTURE)
        while isinstance(data := page.recv(PATIENCE_S), str):
            pass
        assert data.endswith(PICTURE.levels)
        header = json.loads(data[4:-4])
        assert (header["n_rows"], header["highest_hz"]) == (2, 16_000.0)
        look(page, awake=False)
        _until(web, lambda: not publisher.has_subscriber(topic))
        publisher.publish(START)
        publisher.publish(replace(Script.level(), rms_dbfs=-33.0))
        assert next_of(other, "event")["event_id"] == "e1"
        assert next_of(other, "level")["rms_dbfs"] == -33.0
        with contextlib.suppress(TimeoutError):
            while data := page.recv(0.2):
                assert json.loads(data)["kind"] not in ("event", "level")
        look(page, scalogram=True)
        snapshot = next_of(page, "snapshot")
        assert snapshot["state"]["source"] == "desk"
        assert [event["event_id"] for event in snapshot["events"]] == ["e1"]
        assert [message["rms_dbfs"] for message in snapshot["latest"]] == [-33.0]
        _until(web, lambda: publisher.has_subscriber(topic))
    _until(web, lambda: not publisher.has_subscriber(topic))


def test_a_daemon_that_was_silent_is_shown_as_it_is_again(web: Web) -> None:
    """It tells its state on a change alone, and no page shows one while it is silent."""
    with web.join() as page:
        look(page)
        next_of(page, "snapshot")
        _until(web, lambda: bool(web.publisher._subscriptions.prefixes))
        web.publisher.publish(replace(STATE, detail="as before"))
        assert next_of(page, "state")["detail"] == "as before"
        assert next_of(page, "link")["daemon"] is False
        web.publisher.publish(START)
        assert next_of(page, "link")["daemon"] is True
        assert next_of(page, "state")["detail"] == "as before"


def test_a_page_that_reads_too_slowly_gets_a_snapshot_instead() -> None:
    feed = Feed("tcp://127.0.0.1:1", lambda *_, **__: {})
    browser = Browser(None, feed)  # type: ignore[arg-type]
    for number in range(MAX_QUEUED + 3):
        browser.offer(str(number))
    assert browser.n_skipped == MAX_QUEUED
    waiting = list(browser._queue)
    assert json.loads(waiting[0])["kind"] == "snapshot"
    assert waiting[1:] == [str(MAX_QUEUED + n) for n in range(3)]


@pytest.mark.parametrize(
    ("query", "body", "status", "reason"),
    [
        ("file=a.wav", b"RIFF", 400, "the clip has no name: say what it is"),
        ("name=x&file=a.wav", b"", 400, "a.wav is empty"),
        ("name=x&file=a.wav", b"hello" * 100, 422, "a.wav is no audio that libsndfile reads"),
        ("name=x&file=../../etc/passwd", b"hello" * 100, 422, "passwd is no audio"),
        ("name=x&file=%00%0A%3Cb%3E", b"hello" * 100, 422, "is no audio"),
        ("name=x&file=", b"hello" * 100, 422, "clip is no audio"),
        ("name=x&channel=two", b"hello", 400, "channel 'two' is no number"),
    ],
)
def test_what_cannot_be_enrolled_is_refused_in_a_line(
    web: Web, query: str, body: bytes, status: int, reason: str
) -> None:
    actual, _, answer = web.ask(f"/enroll?{query}", "POST", body)
    told = json.loads(answer)["error"]
    assert actual == status
    assert reason in told
    assert "\n" not in told
    assert "/tmp" not in told


def test_a_clip_that_is_too_large_is_not_taken(web: Web) -> None:
    with socket.create_connection(("127.0.0.1", web.port), PATIENCE_S) as raw:
        head = f"POST /enroll?name=x HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n"
        raw.sendall(f"{head}Content-Length: 1000000000000\r\n\r\n".encode())
        assert b"413" in raw.recv(4096).partition(b"\r\n")[0]
    chunk = bytes(1 << 20)
    status = 0
    with contextlib.suppress(ConnectionError):
        status, _, answer = web.ask("/enroll?name=x", "POST", (chunk for _ in range(80)))
        assert b"more than 64 MB" in answer
    assert status in (0, 413)
    assert web.ask("/")[0] == 200


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--listen", "nonsense"], 2, "'nonsense': must be ADDRESS:PORT, such as 127.0.0.1:7480"),
        (["--listen", "127.0.0.1:99999"], 2, "must be ADDRESS:PORT"),
        (["--listen", "192.0.2.1:7480"], 7, "cannot listen at 192.0.2.1:7480: "),
        (["--token-file", "/dev/null"], 3, "a token has at least 16 letters"),
        (["--token-file", "/nowhere/token"], 3, "--token-file /nowhere/token cannot be written"),
    ],
)
def test_wrong_options(arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    listen = [] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
    try:
        actual = main(["web", *listen, *arguments])
    except SystemExit as caught:
        actual = int(caught.code or 0)
    assert actual == status
    assert message in capsys.readouterr().err


def test_a_port_in_use_is_told(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["web", "--listen", f"127.0.0.1:{web.port}"]) == 7
    error = capsys.readouterr().err
    assert f"cannot listen at 127.0.0.1:{web.port}: Address already in use; stop what does" in error
