"""`mird web` as a process of its own, and what browsers, other sites' pages and attackers send to it."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from mird.clients.web_browser import MAX_QUEUED, Browser
from mird.clients.web_feed import Feed
from mird.daemon.cli import main
from mird.daemon.messages import Event, Level, Scalogram, State, scalogram_topic
from mird.daemon.publisher import Publisher

PROGRAM = Path(sys.executable).with_name("mird")
STATIC = Path(str(files("mird.clients").joinpath("web")))
PATIENCE_S = 30.0

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
LEVEL = Level(source="desk", channel=1, stream_id="s1", sample_end=4410, rms_dbfs=-20.0, peak_dbfs=-6.0)
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


class Web:
    """A running `mird web`, and the publisher that it listens to."""

    def __init__(self, publisher: Publisher, folder: Path, *arguments: str) -> None:
        self.publisher = publisher
        self._process = subprocess.Popen(
            [PROGRAM, "web", "--listen", "127.0.0.1:0", "--publish", publisher.endpoint, *arguments],
            env=os.environ | {"MIRD_CONTROL": f"ipc://{folder}/control"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        self.overlay = self._process.stdout.readline().strip()
        found = re.fullmatch(r"http://(.+):(\d+)/(?:\?token=(.+))?", self.address)
        assert found, self._process.communicate()[1]
        self.host, self.port, self.token = found[1], int(found[2]), found[3] or ""

    def ask(
        self, path: str, method: str = "GET", body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """One request: status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {"Host": f"127.0.0.1:{self.port}", **named})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def join(self, **headers: str) -> ClientConnection:
        """A WebSocket, as a page opens it."""
        return connect(
            f"ws://127.0.0.1:{self.port}/live",
            additional_headers={"Origin": f"http://127.0.0.1:{self.port}", **headers},
        )

    def end(self) -> str:
        """Stop it as systemd does: what it has written to standard error."""
        self._process.send_signal(signal.SIGTERM)
        _, errors = self._process.communicate(timeout=PATIENCE_S)
        assert self._process.returncode == 0, errors
        return errors


@contextlib.contextmanager
def _running(folder: Path, *arguments: str) -> Iterator[Web]:
    with Publisher("tcp://127.0.0.1:*") as publisher:
        web = Web(publisher, folder, *arguments)
        try:
            yield web
        finally:
            assert "Traceback" not in web.end()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with _running(tmp_path_factory.mktemp("web")) as each:
        yield each


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """With a token, as away from loopback."""
    folder = tmp_path_factory.mktemp("guarded")
    with _running(folder, "--token-file", str(folder / "token"), "--allow-host", "stage.example") as each:
        assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
        assert (folder / "token").read_text().strip() == each.token
        yield each


def _until(web: Web, condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
        web.publisher.service()


def _look(page: ClientConnection, *, awake: bool = True, scalogram: bool = False) -> None:
    page.send(json.dumps({"do": "look", "awake": awake, "scalogram": scalogram}))


def _first(page: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind."""
    while True:
        data = page.recv(PATIENCE_S)
        if isinstance(data, str) and json.loads(data)["kind"] == kind:
            values: dict[str, Any] = json.loads(data)
            return values


def _send_and_wait(page: ClientConnection, frames: list[str]) -> None:
    for frame in frames:
        page.send(frame)
    while True:
        page.recv(PATIENCE_S)


def _publish_until_heard(web: Web, page: ClientConnection) -> None:
    """The show goes on: what is published comes to a page."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        web.publisher.service()
        web.publisher.publish(LEVEL)
        with contextlib.suppress(TimeoutError):
            data = page.recv(0.1)
            if isinstance(data, str) and json.loads(data)["kind"] == "level":
                return
    raise AssertionError


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


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"])
def test_a_name_that_was_made_to_point_here_is_refused(web: Web, host: str) -> None:
    status, _, body = web.ask("/", Host=host)
    assert status in (400, 421)
    if status == 421:
        assert b"is no name of this page" in body


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"])
def test_other_sites_can_neither_listen_nor_teach(web: Web, origin: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        web.join(Origin=origin)
    assert caught.value.response.status_code == 403
    assert web.ask("/enroll?name=x", "POST", b"RIFF", Origin=origin)[0] == 403


def test_without_the_token_there_is_a_door_and_nothing_else(guarded: Web) -> None:
    for path in ("/", "/overlay", "/static/page.js", "/?token=", "/?token=wrong"):
        status, _, body = guarded.ask(path)
        assert status == 401
        assert b"Token" in body
        assert b"script" not in body
    assert guarded.ask("/enroll?name=x", "POST", b"RIFF")[0] == 401
    assert guarded.ask("/", Authorization="Bearer wrong")[0] == 401
    assert guarded.ask("/", Cookie=f"mird-token-{guarded.port}=wrong")[0] == 401
    with pytest.raises(InvalidStatus) as caught:
        guarded.join()
    assert caught.value.response.status_code == 403


def test_the_token_opens_the_door_once_and_for_all(guarded: Web) -> None:
    status, headers, _ = guarded.ask(f"/overlay?channel=2&token={guarded.token}", Host="stage.example")
    assert status == 303
    assert headers["location"] == "/overlay?channel=2"
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=lax"} <= set(attributes)
    assert guarded.ask("/overlay?channel=2", Cookie=cookie)[0] == 200
    assert guarded.ask("/", Authorization=f"Bearer {guarded.token}")[0] == 200
    with guarded.join(Cookie=cookie) as page:
        _look(page)
        assert _first(page, "snapshot")["daemon"] in (True, False)
    assert guarded.ask(f"//evil.example/?token={guarded.token}")[1]["location"] == "/evil.example/"


def test_a_name_that_a_proxy_lends_asks_for_a_token(tmp_path: Path) -> None:
    with _running(tmp_path, "--allow-host", "stage.example") as web:
        assert len(web.token) == 32
        assert web.ask("/", Host="stage.example")[0] == 401


def test_an_address_that_others_reach_asks_for_a_token(tmp_path: Path) -> None:
    with _running(tmp_path, "--listen", "0.0.0.0:0") as web:
        assert len(web.token) == 32
        assert web.overlay.endswith(f"/overlay?token={web.token}")
        assert web.ask("/", Host=f"10.1.2.3:{web.port}")[0] == 401
        assert web.ask(f"/?token={web.token}", Host=f"10.1.2.3:{web.port}")[0] == 303


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("{", "no JSON"),
        ("[" * 8_000, "no JSON"),
        ("[]", 'no object with "do"'),
        ('{"do": 1}', 'no object with "do"'),
        (b"\x00\xff", "a page sends text"),
        ('{"do": "stop", "id": 1}', "a page cannot ask for 'stop'"),
        ('{"do": "forget", "id": "1"}', "id: not a whole number"),
        ('{"do": "forget", "id": 1, "with": []}', "with: no object"),
        ('{"do": "forget", "id": 1, "with": {"verb": "stop"}}', "with: 'verb' is no argument"),
        ('{"do": "forget", "id": 1, "with": {"name": ["x"]}}', "name: neither text nor a number"),
        ('{"do": "forget", "id": 1, "with": {"name": "\\ud800"}}', "name: half a character"),
        ('{"do": "forget", "id": 1, "with": {"name": 1' + "0" * 400 + "}}", "name: too large a number"),
        ('{"do": "forget", "id": 1, "with": {"name": "viola"}}', "no mird answers at"),
    ],
)
def test_a_bad_frame_gets_one_line(web: Web, frame: str | bytes, reason: str) -> None:
    with web.join() as page:
        page.send(frame)
        reply = json.loads(page.recv(PATIENCE_S))
        assert reply["kind"] == "reply"
        assert reply["ok"] is False
        assert reason in reply["error"]
        assert "\n" not in reply["error"]
        _look(page)
        _publish_until_heard(web, page)


def test_hostile_pages_are_shut_out_and_the_show_goes_on(web: Web) -> None:
    with web.join() as good:
        _look(good)
        for frames, code in (([" " * 20_000], 1009), (["{}"] * 200, 1008)):
            with web.join() as bad:
                with pytest.raises(ConnectionClosed) as caught:
                    _send_and_wait(bad, frames)
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == code
        with socket.create_connection(("127.0.0.1", web.port)) as raw:
            raw.sendall(b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\r\n\xff\x00\xff")
        _publish_until_heard(web, good)


def test_a_sleeping_page_costs_nothing_and_catches_up(web: Web) -> None:
    topic = scalogram_topic("desk", 1)
    publisher = web.publisher
    with web.join() as page, web.join() as other:
        _look(page, scalogram=True)
        _look(other)
        _until(web, lambda: publisher.has_subscriber(topic))
        publisher.publish(STATE)
        publisher.publish(PICTURE)
        while isinstance(data := page.recv(PATIENCE_S), str):
            pass
        assert data.endswith(PICTURE.levels)
        header = json.loads(data[4:-4])
        assert (header["n_rows"], header["highest_hz"]) == (2, 16_000.0)
        _look(page, awake=False)
        _until(web, lambda: not publisher.has_subscriber(topic))
        publisher.publish(START)
        publisher.publish(replace(LEVEL, rms_dbfs=-33.0))
        assert _first(other, "event")["event_id"] == "e1"
        assert _first(other, "level")["rms_dbfs"] == -33.0
        with contextlib.suppress(TimeoutError):
            while data := page.recv(0.2):
                assert json.loads(data)["kind"] not in ("event", "level")
        _look(page, scalogram=True)
        snapshot = _first(page, "snapshot")
        assert snapshot["state"]["source"] == "desk"
        assert [event["event_id"] for event in snapshot["events"]] == ["e1"]
        assert [message["rms_dbfs"] for message in snapshot["latest"]] == [-33.0]
        _until(web, lambda: publisher.has_subscriber(topic))
    _until(web, lambda: not publisher.has_subscriber(topic))


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
