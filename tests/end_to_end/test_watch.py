"""`mird watch` in a real terminal of 80 columns and 24 rows, with a real daemon that hears two channels."""

import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from mird.clients.control import ControlClient

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Demonstration, User

pytestmark = pytest.mark.system

PATIENCE_S = 40.0
MARKUP = "[red]x[bold] {b}"


class Terminal:
    """A terminal that tmux keeps, with one program in it."""

    def __init__(self, folder: Path, environment: dict[str, str], *command: str) -> None:
        self._tmux = ("tmux", "-S", str(folder / "tmux"), "-f", "/dev/null")
        self._environment = {**environment, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        self.status = folder / "status"
        program = f"{shlex.join(command)}; echo $? > {self.status}; sleep 60"
        self._run("new-session", "-d", "-x", "80", "-y", "24", program)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments], env=self._environment, capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout

    def screen(self) -> list[str]:
        return self._run("capture-pane", "-p").split("\n")[:24]

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def write(self, text: str) -> None:
        self._run("send-keys", "-l", text)

    def until(self, condition: Callable[[str], object]) -> str:
        """Wait until something is so of the screen."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition(screen := "\n".join(self.screen())):
            assert time.monotonic() < deadline_s, f"never so:\n{screen}"
            time.sleep(0.05)
        return screen

    def close(self) -> None:
        self._run("kill-server")


@pytest.fixture(scope="module")
def daemon(lasting_user: "User", demonstration: "Demonstration") -> Iterator[ControlClient]:
    """It hears a trumpet on channel 1 and a piano on channel 2, each of them struck anew every few seconds."""
    samples, rate_hz = soundfile.read(demonstration.path, dtype="float32")
    starts = {label: round(start_s * rate_hz) for start_s, _, label in demonstration.spans}
    trumpet, piano = (samples[starts[label] :][: 5 * rate_hz] for label in ("trumpet", "piano"))
    path = lasting_user.folder / "duo.wav"
    soundfile.write(path, np.stack([trumpet, piano], axis=1), rate_hz)
    with (
        lasting_user.daemon("--source", f"file:{path}", "--loop", "--name", "duo"),
        lasting_user.listening("frame") as listener,
        ControlClient(lasting_user.control) as client,
    ):
        listener.first(lambda message: message["kind"] == "frame" and message["label"] == "trumpet")
        yield client


@pytest.fixture
def terminal(lasting_user: "User", tmp_path: Path, program: str, daemon: ControlClient) -> Iterator[Terminal]:
    each = Terminal(tmp_path, lasting_user.environment, program, "watch")
    try:
        yield each
    finally:
        each.close()


def _names(daemon: ControlClient) -> list[str]:
    return [known["name"] for known in daemon.classes()["classes"]]


def _shows_all(screen: str) -> bool:
    """Both channels, and what there is around them; a screen that is being drawn has only some of it."""
    lines = screen.split("\n")
    return (
        bool(re.search(r"1  trumpet.*dBFS", screen) and re.search(r"2  piano.*dBFS", screen))
        and lines[0].startswith(" mird ")
        and "  duo  LIVE" in lines[0]
        and "40 classes" in lines[1]
        and "e Learn  c Correct  f Forget  u Undo  ? Help  q Quit" in lines[23]
        and any(re.match(r"[ ▌]+trumpet +\d+ %  █+", line) for line in lines)
        and any(re.search("[▄▅▆▇█]{10}", line) for line in lines)
    )


def test_it_shows_all_in_80_by_24_and_ends_in_order(terminal: Terminal) -> None:
    screen = terminal.until(_shows_all)
    assert max(map(len, screen.split("\n"))) <= 80
    terminal.until(lambda text: re.search(r"\d\d:\d\d:\d\d +1 ● trumpet +\d+\.\d s +\d+ %", text))
    terminal.press("?")
    terminal.until(lambda text: "learn an instrument from the last seconds heard" in text)
    terminal.press("Escape")
    terminal.until(lambda text: "learn an instrument" not in text)
    terminal.press("q")
    deadline_s = time.monotonic() + PATIENCE_S
    while not terminal.status.exists() or not terminal.status.read_text():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert terminal.status.read_text().strip() == "0"


def test_keys_teach_correct_forget_and_undo(terminal: Terminal, daemon: ControlClient) -> None:
    terminal.until(lambda text: "2  piano" in text)
    terminal.press("2", "e")
    terminal.until(lambda text: "Learn what was just heard on channel 2" in text)
    terminal.press("Enter")
    terminal.until(lambda text: "a name is needed" in text)
    terminal.write(MARKUP)
    terminal.press("Enter")
    terminal.until(lambda text: f"{MARKUP}: " in text)
    assert MARKUP in _names(daemon)
    terminal.until(lambda text: re.search(rf"2  {re.escape(MARKUP)} ", text))  # it wins where it was learned

    terminal.press("f")
    terminal.until(lambda text: "Forget an instrument" in text)
    terminal.write("nothing")
    terminal.press("Enter")
    terminal.until(lambda text: "forget failed" in text and "'nothing'" in text)
    terminal.press("f")
    terminal.until(lambda text: "Forget an instrument" in text)
    terminal.write(MARKUP)
    terminal.press("Enter")
    terminal.until(lambda text: "is forgotten" in text)
    assert MARKUP not in _names(daemon)
    terminal.press("u")
    terminal.until(lambda text: "is taken back" in text)
    assert MARKUP in _names(daemon)
    daemon.undo()

    terminal.press("1", "c")
    terminal.until(lambda text: "What was heard last on channel 1?" in text)
    terminal.write("cornetto")
    terminal.press("Enter")
    terminal.until(lambda text: "cornetto" in text and "What was" not in text)
    assert "cornetto" in _names(daemon)
    daemon.undo()

    terminal.press("BTab", "BTab", "Tab", "Tab", "Tab")
    terminal.press("c")
    terminal.until(lambda text: "What was" in text)
    terminal.press("Escape")
    terminal.until(lambda text: "What was" not in text)


def test_without_a_terminal_it_says_so(lasting_user: "User") -> None:
    done = lasting_user.run("watch")
    assert done.returncode == 2
    assert done.stderr == "mird: error: mird watch needs a terminal; without one there is mird listen\n"
