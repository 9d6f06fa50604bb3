"""The examples, each in a process of its own against a publisher, and the one in JavaScript."""

import shutil
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.clients.conftest import Script, Show

EXAMPLES = Path(__file__).parents[2] / "clients" / "examples"
JAVASCRIPT = EXAMPLES / "javascript"
PATIENCE_S = 20.0

pytestmark = pytest.mark.system


class Example:
    """A process and the lines that it has printed so far."""

    def __init__(self, command: list[str | Path]) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def wait_for(self, n_lines: int, timeout_s: float = PATIENCE_S) -> list[str]:
        deadline_s = time.monotonic() + timeout_s
        while len(self.lines) < n_lines and time.monotonic() < deadline_s and self.process.poll() is None:
            time.sleep(0.01)
        return self.lines

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._thread.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            for line in out:
                self.lines.append(line.rstrip("\n"))


@contextmanager
def running(show: "Show", *command: str | Path) -> Iterator[Example]:
    """An example that has joined."""
    example = Example(list(command))
    try:
        show.wait_for_subscriber()
        yield example
    finally:
        example.close()


@pytest.mark.parametrize("language", ["Python", "JavaScript"])
def test_printing_events(show: "Show", script: "type[Script]", language: str) -> None:
    command: list[str | Path] = [sys.executable, EXAMPLES / "print_events.py"]
    if language == "JavaScript":
        if shutil.which("node") is None or not (JAVASCRIPT / "node_modules").is_dir():
            pytest.skip("needs Node.js, and `npm install` in clients/examples/javascript")
        command = ["node", JAVASCRIPT / "print_events.js"]
    with running(show, *command, show.endpoint) as example:
        show.publish(script.state(), script.frame(), script.level(), script.start("琵琶"), script.end("琵琶"))
        expected = ["channel 1: 琵琶 start (75%)", "channel 1: 琵琶 end (75%)"]
        assert example.wait_for(2) == expected
        show.restart()
        show.wait_for_subscriber()
        show.publish(script.start("Flöte", channel=2, score=0.5))
        assert example.wait_for(3) == [*expected, "channel 2: Flöte start (50%)"]


def test_a_cue_fires_once(show: "Show", script: "type[Script]") -> None:
    with running(show, sys.executable, EXAMPLES / "cue.py", show.endpoint, "viola", "echo", "lights!") as example:
        show.publish(script.start("oboe"), script.start(event_id="e2"), script.end(event_id="e2"))
        show.publish(script.start(event_id="e3"))
        assert example.wait_for(1) == ["lights!"]
        assert example.wait_for(2, timeout_s=0.3) == ["lights!"]


def test_lights_follow_what_is_heard(show: "Show", script: "type[Script]") -> None:
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as node:
        node.bind(("127.0.0.1", 0))
        node.settimeout(PATIENCE_S)
        address = f"127.0.0.1:{node.getsockname()[1]}"
        with running(show, sys.executable, EXAMPLES / "lights.py", show.endpoint, address, "oboe", "viola"):
            show.publish(*(script.frame("viola", 1 + number / 10) for number in range(30)))
            values: list[tuple[int, int, int]] = []
            while len(values) < 30:
                packet = node.recv(2048)
                assert packet[:18] == b"Art-Net\0\0\x50\0\x0e\0\0\0\0\x02\0"
                assert len(packet) == 18 + 512
                values.append((packet[18], packet[19], sum(packet[20:])))
    assert {(first, others) for first, _, others in values} == {(0, 0)}
    dimmer = [second for _, second, _ in values]
    assert dimmer == sorted(dimmer)
    assert dimmer[-1] == round(255 * 0.875)


def test_examples_are_short() -> None:
    for path in [*EXAMPLES.glob("*.py"), *JAVASCRIPT.glob("*.js")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 22, path
