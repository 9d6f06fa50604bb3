"""What bridges and the page are tested with: a publisher that is served as a daemon's is, messages, their commands."""

import contextlib
import dataclasses
import http.client
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from mird.daemon.messages import Event, Frame, Heartbeat, Level, Message, Score, State
from mird.daemon.publisher import Publisher

PROGRAM = Path(sys.executable).with_name("mird")
PATIENCE_S = 30.0
RATE_HZ = 44_100
UTC_NS = 1_767_225_600_000_000_000


def wait_until(true: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait for something that another process does."""
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.01)


class Script:
    """Messages to play a show with."""

    @staticmethod
    def state(name: str = "LIVE", **changes: object) -> State:
        message = State(
            source="desk", channel=0, stream_id="s1", state=name, detail="Scarlett 2i2", version="0", engine="e",
            fingerprint="f", classes=("viola", "oboe"), revision=0, channels=(1, 2), hop_s=0.1, window_s=1.0,
            counters={},
        )  # fmt: skip
        return dataclasses.replace(message, **changes)  # type: ignore[arg-type]

    @staticmethod
    def heartbeat() -> Heartbeat:
        return Heartbeat(
            source="desk",
            channel=0,
            stream_id="s1",
            uptime_s=9.0,
            counters={},
            latency_p50_ms=11.0,
            latency_p99_ms=None,
        )

    @staticmethod
    def frame(label: str = "viola", end_s: float = 1.0, channel: int = 1, **changes: object) -> Frame:
        message = Frame(
            source="desk", channel=channel, stream_id="s1", sample_start=round((end_s - 1) * RATE_HZ),
            sample_end=round(end_s * RATE_HZ), rate_hz=RATE_HZ, capture_utc_ns=UTC_NS + round(end_s * 1e9),
            latency_ms=12.0, hop_s=0.1, window_s=1.0, label=label, confidence=0.875, raw_label=label,
            raw_confidence=0.9, top=(Score(label, 0.875), Score("Flöte", 0.25)), level_dbfs=-20.0, engine="e",
            revision=0, degraded=False, n_gap_frames=0,
        )  # fmt: skip
        return dataclasses.replace(message, **changes)  # type: ignore[arg-type]

    @staticmethod
    def level(channel: int = 1) -> Level:
        return Level(source="desk", channel=channel, stream_id="s1", sample_end=4410, rms_dbfs=-20.0, peak_dbfs=-6.0)

    @staticmethod
    def start(label: str = "viola", start_s: float = 0.0, event_id: str = "e1", **changes: object) -> Event:
        message = Event(
            source="desk", channel=1, stream_id="s1", event="start", event_id=event_id, label=label,
            sample_start=round(start_s * RATE_HZ), sample_end=None, start_utc_ns=UTC_NS + round(start_s * 1e9),
            end_utc_ns=None, score=0.75, peak_score=0.75, rate_hz=RATE_HZ,
        )  # fmt: skip
        return dataclasses.replace(message, **changes)  # type: ignore[arg-type]

    @staticmethod
    def end(label: str = "viola", start_s: float = 0.0, end_s: float = 2.0, **changes: object) -> Event:
        return dataclasses.replace(
            Script.start(label, start_s, **changes),  # type: ignore[arg-type]
            event="end",
            sample_end=round(end_s * RATE_HZ),
            end_utc_ns=UTC_NS + round(end_s * 1e9),
        )


class Show:
    """A publisher that a thread serves; `stop` is what a killed daemon does: nothing more, and no good-byes."""

    def __init__(self) -> None:
        self.endpoint = "tcp://127.0.0.1:*"
        self._start()

    def publish(self, *messages: Message) -> None:
        for message in messages:
            self._to_send.put(message)

    def wait_for_subscriber(self) -> None:
        wait_until(lambda: bool(self._publisher._subscriptions.prefixes), "a subscriber")

    def stop(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._publisher.close(flush_s=1.0)

    def restart(self) -> None:
        """Another daemon at the same address."""
        self.stop()
        self._start()

    def _start(self) -> None:
        self._publisher = Publisher(self.endpoint)
        self.endpoint = self._publisher.endpoint
        self._to_send: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        beat_s = 0.0
        while not self._stop.is_set():
            self._publisher.service()
            if time.monotonic() - beat_s > 0.5:
                beat_s = time.monotonic()
                self._publisher.publish(Script.heartbeat())
            try:
                self._publisher.publish(self._to_send.get(timeout=0.005))
            except queue.Empty:
                continue


class Bridge:
    """A bridge's command in a process of its own, and the log that it has written so far."""

    def __init__(self, *arguments: str | Path, log: Path) -> None:
        self._log = log
        with log.open("wb") as err:
            self.process = subprocess.Popen(
                [PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.log or self.process.poll() is not None, f"{text!r} in {self.log!r}")
        assert text in self.log

    def wait_until(self, true: Callable[[], bool]) -> None:
        """Wait for something that it does."""
        wait_until(lambda: true() or self.process.poll() is not None, self.log)
        assert true(), self.log

    def end(self, number: int = signal.SIGTERM) -> int:
        """Tell it to end. Returns its exit status."""
        self.process.send_signal(number)
        self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode


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
def running_web(folder: Path, *arguments: str) -> Iterator[Web]:
    """A `mird web` with a publisher of its own; it ends in order."""
    with Publisher("tcp://127.0.0.1:*") as publisher:
        web = Web(publisher, folder, *arguments)
        try:
            yield web
        finally:
            assert "Traceback" not in web.end()


def look(page: ClientConnection, *, awake: bool = True, scalogram: bool = False) -> None:
    """Say what is wanted, as a page does."""
    page.send(json.dumps({"do": "look", "awake": awake, "scalogram": scalogram}))


def next_of(page: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind."""
    while True:
        data = page.recv(PATIENCE_S)
        if isinstance(data, str) and json.loads(data)["kind"] == kind:
            values: dict[str, Any] = json.loads(data)
            return values


@pytest.fixture
def script() -> type[Script]:
    """Messages to play a show with."""
    return Script


@pytest.fixture
def show() -> Iterator[Show]:
    """A daemon's publisher with a heart that beats."""
    one = Show()
    yield one
    one.stop()


RunBridge = Callable[..., Bridge]


@pytest.fixture
def run_bridge(show: Show, tmp_path: Path) -> Iterator[RunBridge]:
    """Starts a bridge's command for `show` and waits until it has joined."""
    bridges: list[Bridge] = []

    def run(*arguments: str | Path) -> Bridge:
        bridge = Bridge(*arguments, "--publish", show.endpoint, log=tmp_path / f"log{len(bridges)}")
        bridges.append(bridge)
        show.wait_for_subscriber()
        return bridge

    yield run
    for bridge in bridges:
        if bridge.process.poll() is None:
            bridge.process.kill()
            bridge.process.communicate()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A `mird web` that the tests of a module share."""
    with running_web(tmp_path_factory.mktemp("web")) as each:
        yield each
