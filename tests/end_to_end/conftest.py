"""The installed command in processes of its own: a user, a daemon, a listener, and what the demonstration holds."""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mird.daemon.paths import shipped

PROGRAM = Path(sys.executable).with_name("mird")
PATIENCE_S = 60.0
"""For what takes a second on an idle machine: a machine that tests is seldom idle."""

Values = dict[str, Any]
Span = tuple[float, float, str]


class Listener:
    """``mird listen --json`` in a process of its own, and what it has received so far."""

    def __init__(self, user: "User", *kinds: str) -> None:
        command: list[str | Path] = [PROGRAM, "listen", "--json", *(f"--kind={kind}" for kind in kinds)]
        self._process = subprocess.Popen(
            command, env=user.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )
        self._come = threading.Condition()
        self._messages: list[Values] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def received(self, kind: str = "event") -> list[Values]:
        """The messages of one kind so far, in their order."""
        with self._come:
            return [message for message in self._messages if message["kind"] == kind]

    def first(self, wanted: Callable[[Values], bool], timeout_s: float = PATIENCE_S) -> Values:
        """The first message, from the beginning, of which something is true; waited for where there is none yet."""
        n_seen = 0
        found: list[Values] = []

        def come() -> bool:
            nonlocal n_seen
            found.extend(filter(wanted, self._messages[n_seen:]))
            n_seen = len(self._messages)
            return bool(found)

        with self._come:
            assert self._come.wait_for(come, timeout_s), f"not within {timeout_s:g} s; last: {self._messages[-3:]}"
        return found[0]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            with self._come:
                self._messages.append(message)
                self._come.notify_all()


class User:
    """Somebody who uses mird: folders, addresses and environment of his own.

    Parameters
    ----------
    folder : Path
        Empty, with a short path, for sockets are in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publish = f"ipc://{folder}/publish"
        self.control = f"ipc://{folder}/runtime/mird/control"
        self.support = folder / "data" / "mird" / "support.mird"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MIRD_"))},
            "HOME": str(folder),
            "MIRD_PUBLISH": self.publish,
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_RUNTIME_DIR": str(folder / "runtime"),
        }
        (folder / "runtime").mkdir(mode=0o700)

    def run(self, *arguments: str | Path, stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            env=self.environment | variables,
            input=stdin,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command; the caller waits for its end."""
        return subprocess.Popen(
            [PROGRAM, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def daemon(self, *arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """``mird run --quiet`` in the background; at the end it is told to stop, and must do so in order."""
        log = self.folder / "log"
        with (
            log.open("wb") as err,
            subprocess.Popen(
                [PROGRAM, "run", "--quiet", *arguments], env=self.environment, stdin=subprocess.DEVNULL, stderr=err
            ) as process,
        ):
            try:
                yield process
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE_S) == 0, log.read_text()
            finally:
                process.kill()

    @contextmanager
    def listening(self, *kinds: str) -> Iterator[Listener]:
        """A listener that has joined: a daemon tells whoever joins its state. It must be there, or start meanwhile."""
        listener = Listener(self, "state", *kinds)
        try:
            listener.first(lambda message: message["kind"] == "state")
            yield listener
        finally:
            listener.close()


class Demonstration:
    """The recording that mird ships, and what it is known to be."""

    def __init__(self) -> None:
        self.path = shipped("demo/demo.flac")
        with shipped("demo/demo.csv").open(newline="") as file:
            self.spans: list[Span] = [
                (float(row["start_s"]), float(row["end_s"]), row["label"]) for row in csv.DictReader(file)
            ]

    def recognised(
        self, events: Sequence[Values], from_s: float = 0.0, spans: Sequence[Span] | None = None
    ) -> list[str]:
        """The labels, in their order, that were heard longer than any other in their span, and for at least a second.

        Parameters
        ----------
        events : sequence of maps
            As received, of one channel and stream; only their ends count.
        from_s : float
            Where on the stream's clock the demonstration begins.
        spans : sequence of (start_s, end_s, label), optional
            Of another order of the same instruments.
        """
        return [
            label
            for start_s, end_s, label in spans or self.spans
            if self._most(events, from_s + start_s, end_s - start_s) == label
        ]

    def backwards(self) -> tuple[NDArray[np.float32], int, list[Span]]:
        """The same with the instruments in the opposite order: samples, shape (n,), their rate, and the spans."""
        samples, rate_hz = soundfile.read(self.path, dtype="float32")
        begins = [round(start_s * rate_hz) for start_s, _, _ in self.spans]
        parts = np.split(samples[begins[0] :], [begin - begins[0] for begin in begins[1:]])
        spans, from_s = [], 0.0
        for part, (start_s, end_s, label) in zip(parts[::-1], self.spans[::-1], strict=True):
            spans.append((from_s, from_s + end_s - start_s, label))
            from_s += len(part) / rate_hz
        return np.concatenate(parts[::-1]), rate_hz, spans

    @staticmethod
    def _most(events: Sequence[Values], start_s: float, duration_s: float) -> str:
        heard: dict[str, float] = {}
        for event in events:
            if event["kind"] == "event" and event["event"] == "end":
                began_s, ended_s = (event[name] / event["rate_hz"] for name in ("sample_start", "sample_end"))
                shared_s = min(ended_s, start_s + duration_s) - max(began_s, start_s)
                heard[event["label"]] = heard.get(event["label"], 0.0) + max(0.0, shared_s)
        label = max(heard, key=lambda label: heard[label], default="")
        return label if label and heard[label] >= 1.0 else ""


@contextmanager
def _new_user() -> Iterator[User]:
    with tempfile.TemporaryDirectory(prefix="mird-", dir="/tmp") as folder:
        yield User(Path(folder))


@pytest.fixture
def user() -> Iterator[User]:
    """A user of this test alone."""
    with _new_user() as one:
        yield one


@pytest.fixture(scope="module")
def lasting_user() -> Iterator[User]:
    """A user of all of a module's tests, who must leave things as they were."""
    with _new_user() as one:
        yield one


@pytest.fixture(scope="session")
def demonstration() -> Demonstration:
    """The recording that mird ships."""
    return Demonstration()


@pytest.fixture(scope="session")
def program() -> str:
    """The installed command."""
    return str(PROGRAM)
