"""How a daemon ends: by signals, by request, at the end of a recording, and on a terminal."""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from tests.conftest import quickest
from tests.end_to_end.conftest import PATIENCE_S

from mird.clients.control import ControlClient
from mird.clients.errors import ClientError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import NullSink
    from tests.end_to_end.conftest import Demonstration, Listener, User

pytestmark = pytest.mark.system

ENDS_WITHIN_S = 2.0


def is_event(kind: str, **values: object) -> Any:
    return lambda message: message["kind"] == "event" and message["event"] == kind and values.items() <= message.items()


def ending_s(process: subprocess.Popen[bytes], began_s: float) -> float:
    """How long a process took to end in order."""
    assert process.wait(PATIENCE_S) == 0
    return time.monotonic() - began_s


def assert_said_goodbye(listener: "Listener", start: dict[str, Any]) -> None:
    end = listener.first(is_event("end", event_id=start["event_id"]))
    assert end["sample_end"] > start["sample_start"]
    last = listener.first(lambda message: message["kind"] == "state" and message["state"] == "ENDED")
    assert "stop" in last["detail"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_running_events_and_the_daemon(
    user: "User", demonstration: "Demonstration", number: signal.Signals
) -> None:
    def attempt() -> float:
        with (
            user.daemon("--source", f"file:{demonstration.path}", "--loop") as process,
            user.listening("event") as listener,
        ):
            start = listener.first(is_event("start"))
            began_s = time.monotonic()
            process.send_signal(number)
            took_s = ending_s(process, began_s)
            assert_said_goodbye(listener, start)
        assert not list((user.folder / "runtime" / "mird").iterdir()), "its socket is gone"
        assert not (user.folder / "publish").exists()
        return took_s

    assert quickest(attempt, ENDS_WITHIN_S) < ENDS_WITHIN_S


def test_an_end_that_hangs_is_ended_by_a_second_interrupt(user: "User", demonstration: "Demonstration") -> None:
    support = user.folder / "mine.mird"
    process = user.start("run", "--quiet", "--source", f"file:{demonstration.path}", "--loop", "--support", support)

    def answers() -> bool:
        try:
            with ControlClient(user.control, timeout_s=2.0) as daemon:
                return bool(daemon.status())
        except ClientError:
            return False

    try:
        while not answers():
            assert process.poll() is None
            time.sleep(0.1)
        os.mkfifo(support)  # whoever reads it waits, as for a disk that does not answer
        while answers():
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2.0)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == -signal.SIGINT
    finally:
        process.kill()
        process.communicate()


def test_a_request_ends_it_too(user: "User", demonstration: "Demonstration") -> None:
    def attempt() -> float:
        with (
            user.daemon("--source", f"file:{demonstration.path}", "--loop", "--fast") as process,
            user.listening("event") as listener,
        ):
            start = listener.first(is_event("start"))
            with ControlClient(user.control) as daemon:
                status = daemon.request("status")
                assert status["state"] == "LIVE"
                assert status["publish"] == user.publish
                began_s = time.monotonic()
                assert daemon.request("stop") == {}
            took_s = ending_s(process, began_s)
            assert_said_goodbye(listener, start)
        return took_s

    assert quickest(attempt, ENDS_WITHIN_S) < ENDS_WITHIN_S


def test_a_daemon_that_was_killed_leaves_nothing_in_the_way(user: "User", demonstration: "Demonstration") -> None:
    source = ("--source", f"file:{demonstration.path}", "--loop")
    process = user.start("run", "--quiet", *source)
    with user.listening():
        process.kill()
        process.communicate()
    with user.daemon(*source), user.listening() as listener:
        listener.first(lambda message: message["kind"] == "state" and message["state"] == "LIVE")


def test_without_a_terminal_the_demonstration_is_played_once(user: "User", demonstration: "Demonstration") -> None:
    """``make run </dev/null``, but for the pace."""
    done = user.run("run", "--or-demo", "--fast")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (total,) = (number for number, line in enumerate(lines) if re.fullmatch(r"Heard in \d+\.\d s of sound:", line))
    heard = lines[total + 1 :]
    labels = {re.split(r" {2,}", line.strip())[0] for line in heard}
    assert len(labels & {label for _, _, label in demonstration.spans}) >= 4
    assert any("LIVE" in line for line in lines)
    assert "Traceback" not in done.stderr


class Terminal:
    """A terminal of 100 columns and 30 rows, and a command in the foreground of it."""

    def __init__(self, user: "User", *arguments: str) -> None:
        self._master, self._slave = os.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.modes = termios.tcgetattr(self._slave)
        self.written = b""
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *arguments],
            env=user.environment | {"TERM": "xterm-256color", "COLUMNS": "", "LINES": ""},
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
        )

    def await_text(self, wanted: bytes, timeout_s: float = 60.0) -> None:
        """Wait until the command has written something."""
        deadline_s = time.monotonic() + timeout_s
        while wanted not in self.written:
            assert time.monotonic() < deadline_s, self.written[-2000:]
            self._read(0.1)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def await_end(self, timeout_s: float = 30.0) -> int:
        """The exit status; everything that was written is read."""
        deadline_s = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline_s, self.written[-2000:]
            self._read(0.05)
        while self._read(0.0):
            pass
        return self.process.returncode

    def modes_now(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._master], [], [], timeout_s)[0]:
            return False
        self.written += os.read(self._master, 65_536)
        return True


@contextmanager
def terminal(user: "User", *arguments: str) -> Iterator[Terminal]:
    one = Terminal(user, *arguments)
    try:
        yield one
    finally:
        one.close()


def leaving_s(terminal: Terminal) -> float:
    """How long Ctrl-C takes to end a live view.

    The screen that was there before is back, with the cursor and the keyboard's modes.
    """
    terminal.await_text(b"\x1b[?1049h")
    terminal.await_text(b"LIVE")
    began_s = time.monotonic()
    terminal.type(b"\x03")
    assert terminal.await_end() in (0, 130)
    took_s = time.monotonic() - began_s
    after = terminal.written.rpartition(b"\x1b[?1049l")
    assert after[1], "the screen was given back"
    assert b"\x1b[?25h" in terminal.written, "the cursor shows"
    assert terminal.written.rindex(b"\x1b[?25h") > terminal.written.rindex(b"\x1b[?25l")
    assert terminal.modes_now() == terminal.modes
    assert b"Traceback" not in terminal.written
    return took_s


@pytest.mark.pulseaudio
def test_on_a_terminal_without_a_microphone_the_demonstration_is_shown_live(
    null_sink: "NullSink", user: "User", program: str
) -> None:
    null_sink.kill()
    user.environment |= null_sink.environment

    def attempt() -> float:
        with terminal(user, program, "run", "--or-demo") as shown:
            shown.await_text(b"demo.flac")
            shown.await_text(b"start  ")
            took_s = leaving_s(shown)
            assert b"Heard in" in shown.written.rpartition(b"\x1b[?1049l")[2], "the summary stays on the screen"
        return took_s

    assert quickest(attempt, 2 * ENDS_WITHIN_S) < 2 * ENDS_WITHIN_S


@pytest.mark.pulseaudio
def test_on_a_terminal_with_a_microphone_it_is_listened_to(
    null_sink: "NullSink", user: "User", program: str, demonstration: "Demonstration"
) -> None:
    user.environment |= null_sink.environment

    def attempt() -> float:
        with null_sink.playing(demonstration.path), terminal(user, program, "run", "--or-demo") as shown:
            shown.await_text(b"default")
            took_s = leaving_s(shown)
        assert b"demo.flac" not in shown.written
        return took_s

    assert quickest(attempt, 2 * ENDS_WITHIN_S) < 2 * ENDS_WITHIN_S


def test_a_source_that_is_set_is_no_demonstration(user: "User", demonstration: "Demonstration") -> None:
    done = user.run("run", "--or-demo", "--source", "file:/nowhere/else.wav")
    assert done.returncode == 4
    assert "/nowhere/else.wav" in done.stderr


def test_nothing_is_left_in_the_home_of_who_only_listens(user: "User", demonstration: "Demonstration") -> None:
    """ONNX Runtime would keep an identity there and report to its maker."""
    assert user.run("tag", demonstration.path).returncode == 0
    left = [path for path in user.folder.rglob("*") if path.is_file()]
    assert left == []


def test_a_recording_without_an_instrument_is_told_of(user: "User", tmp_path: "Path") -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * 44_100).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", noise, 44_100)
    done = user.run("tag", tmp_path / "noise.wav")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"mird: {tmp_path / 'noise.wav'}: no instrument heard\n"
