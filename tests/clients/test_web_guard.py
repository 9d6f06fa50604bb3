"""Whom `mird web` lets in, and what other sites' pages and attackers send to it."""

import contextlib
import json
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.clients.conftest import PATIENCE_S, Script, Web, look, next_of, running_web
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """With a token, as away from loopback."""
    folder = tmp_path_factory.mktemp("guarded")
    with running_web(folder, "--token-file", str(folder / "token"), "--allow-host", "stage.example") as each:
        assert stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
        assert (folder / "token").read_text().strip() == each.token
        yield each


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
        web.publisher.publish(Script.level())
        with contextlib.suppress(TimeoutError):
            data = page.recv(0.1)
            if isinstance(data, str) and json.loads(data)["kind"] == "level":
                return
    raise AssertionError


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
        look(page)
        assert next_of(page, "snapshot")["daemon"] in (True, False)
    assert guarded.ask(f"//evil.example/?token={guarded.token}")[1]["location"] == "/evil.example/"


def test_a_name_that_a_proxy_lends_asks_for_a_token(tmp_path: Path) -> None:
    with running_web(tmp_path, "--allow-host", "stage.example") as web:
        assert len(web.token) == 32
        assert web.ask("/", Host="stage.example")[0] == 401


def test_an_address_that_others_reach_asks_for_a_token(tmp_path: Path) -> None:
    with running_web(tmp_path, "--listen", "0.0.0.0:0") as web:
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
        look(page)
        _publish_until_heard(web, page)


def test_hostile_pages_are_shut_out_and_the_show_goes_on(web: Web) -> None:
    with web.join() as good:
        look(good)
        for frames, code in (([" " * 20_000], 1009), (["{}"] * 200, 1008)):
            with web.join() as bad:
                with pytest.raises(ConnectionClosed) as caught:
                    _send_and_wait(bad, frames)
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == code
        with socket.create_connection(("127.0.0.1", web.port)) as raw:
            raw.sendall(b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\r\n\xff\x00\xff")
        _publish_until_heard(web, good)
