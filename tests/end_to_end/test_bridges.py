"""A real daemon and all bridges at once: the same everywhere, control from outside, and a daemon that is killed."""

import json
import os
import shutil
import signal
import socket as sockets
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pythonosc.osc_packet import OscPacket

from mird.clients.midi_notes import NoteMap
from mird.clients.osc_packets import osc_message

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Demonstration, User

pytestmark = pytest.mark.system

PATIENCE_S = 60.0


class OscEnd:
    """A UDP socket that keeps what comes in."""

    def __init__(self) -> None:
        self.socket = sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(PATIENCE_S)
        self.port: int = self.socket.getsockname()[1]

    def first(self, wanted: Callable[[str, list[Any]], bool]) -> list[Any]:
        """The arguments of the next message of which something is true."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            for _, message in OscPacket(self.socket.recv(65_535)).messages:
                if wanted(message.address, message.params):
                    return list(message.params)
        raise AssertionError("did not come")

    def ask(self, port: int, verb: str, *arguments: str | float) -> list[Any]:
        """Send a control message; the answer's kind and its arguments after the verb."""
        self.socket.sendto(osc_message(f"/mird/control/{verb}", arguments).dgram, ("127.0.0.1", port))
        ((_, message),) = OscPacket(self.socket.recv(65_535)).messages
        assert message.params[0] == verb
        return [message.address.rpartition("/")[2], *message.params[1:]]


def free_port(kind: int) -> int:
    with sockets.socket(sockets.AF_INET, kind) as socket:
        socket.bind(("127.0.0.1", 0))
        port: int = socket.getsockname()[1]
        return port


def wait_until(true: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, what()
        time.sleep(0.02)


class Rig:
    """What stands on a stage: a JACK server with a MIDI monitor, an MQTT broker with a reader, an OSC receiver."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.osc = OscEnd()
        stack.callback(self.osc.socket.close)
        self.control_port = free_port(sockets.SOCK_DGRAM)
        self.broker_port = free_port(sockets.SOCK_STREAM)
        self.jack = f"mird-e2e-{os.getpid()}"
        self._stack = stack
        config = folder / "mosquitto.conf"
        config.write_text(f"user root\nlistener {self.broker_port} 127.0.0.1\nallow_anonymous true\n")
        self._start("/usr/sbin/mosquitto", "-c", str(config))
        self._start("jackd", "--no-realtime", "-n", self.jack, "-d", "dummy", "-r", "44100", "-p", "512")
        wait_until(lambda: "system:capture_1" in self._jack_ports(), self._jack_ports)
        self._notes = self._start("stdbuf", "-oL", "jack_midi_dump", "monitor")
        wait_until(lambda: "monitor:input" in self._jack_ports(), self._jack_ports)
        self._mqtt = self._start("mosquitto_sub", "-p", str(self.broker_port), "-t", "mird/#", "-F", "%t %p")

    @property
    def notes(self) -> list[tuple[int, bool]]:
        """MIDI notes so far, and whether they were on."""
        lines = self._notes.read_text().splitlines()
        words = [line.replace(",", "").split() for line in lines if "pitch" in line]
        return [(int(each[each.index("pitch") + 1]), int(each[-1]) > 0) for each in words]

    @property
    def mqtt(self) -> list[tuple[str, str]]:
        """Topics and payloads so far."""
        lines = [line.partition(" ") for line in self._mqtt.read_text().splitlines()]
        return [(topic, payload) for topic, _, payload in lines]

    def _start(self, *command: str) -> Path:
        """Start a program; what it prints is in the file."""
        path = self.folder / f"{Path(command[0]).name}-{command[-1].replace('/', '_')}.out"
        with path.open("wb") as out:
            environment = os.environ | {"JACK_DEFAULT_SERVER": self.jack}
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env=environment)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        return path

    def _jack_ports(self) -> str:
        environment = os.environ | {"JACK_DEFAULT_SERVER": self.jack}
        return subprocess.run(["jack_lsp"], capture_output=True, text=True, check=False, env=environment).stdout


@pytest.mark.skipif(
    not all(map(shutil.which, ("mosquitto", "mosquitto_sub", "jackd", "jack_midi_dump"))),
    reason="needs mosquitto, mosquitto-clients and jackd2",
)
def test_all_bridges_tell_the_same(user: "User", demonstration: "Demonstration", tmp_path: Path) -> None:
    with ExitStack() as stack:
        rig = Rig(tmp_path, stack)
        user.environment["JACK_DEFAULT_SERVER"] = rig.jack
        listen = f"127.0.0.1:{rig.control_port}"

        def start(*command: str | Path) -> subprocess.Popen[str]:
            process = stack.enter_context(user.start(*command))
            stack.callback(process.kill)
            return process

        bridges = [
            start(*command)
            for command in (
                ("osc", "--to", f"127.0.0.1:{rig.osc.port}", "--listen", listen),
                ("midi", "--api", "jack", "--port", "monitor"),
                ("mqtt", "--broker", f"127.0.0.1:{rig.broker_port}"),
                ("record", tmp_path / "show"),
            )
        ]
        for bridge in bridges:  # each says so when it is ready
            assert bridge.stderr is not None
            assert any("waiting for mird at" in line for line in iter(bridge.stderr.readline, ""))
        wait_until(lambda: rig.notes == [] and "mird/status" in dict(rig.mqtt), lambda: str(rig.mqtt))
        source = f"file:{demonstration.path}"
        daemon = start("run", "--quiet", "--source", source, "--loop")

        heard: list[tuple[str, str]] = []
        while len({label for _, label in heard}) < 2:
            event, label, score, seconds, _ = rig.osc.first(lambda address, _: address.endswith("/1/event"))
            assert 0.0 <= score <= 1.0
            assert (seconds > 0.0) == (event == "end")
            heard.append((event, label))

        # What sounds is taught, and taken back, from outside.
        asking = OscEnd()
        stack.callback(asking.socket.close)
        for verb, *arguments in (("enroll", "my own", 1.0, 1), ("correct", "somebody's")):
            kind, told = asking.ask(rig.control_port, verb, *arguments)
            assert (kind, json.loads(told)["name"]) == ("ok", arguments[0])
        assert json.loads(asking.ask(rig.control_port, "status")[1])["state"] == "LIVE"
        assert {"my own", "somebody's"} <= set(asking.ask(rig.control_port, "classes"))
        assert asking.ask(rig.control_port, "threshold", "my own", 0.9)[0] == "ok"
        assert asking.ask(rig.control_port, "undo")[0] == "ok"
        kept = asking.ask(rig.control_port, "forget", "somebody's")
        assert (kept[0], "my own" in kept, "somebody's" in kept) == ("ok", True, False)
        kind, text, status = asking.ask(rig.control_port, "forget", "nobody")
        assert (kind, status) == ("error", 6)
        assert "nobody" in text

        daemon.send_signal(signal.SIGKILL)
        rig.osc.first(lambda address, arguments: address == "/mird/status/alive" and arguments == [0])
        wait_until(lambda: ("mird/status", "offline") in rig.mqtt[-8:], lambda: str(rig.mqtt[-8:]))
        for bridge in bridges:
            bridge.send_signal(signal.SIGTERM)
            assert bridge.wait(PATIENCE_S) == 0
            assert bridge.stderr is not None
            assert "Traceback" not in bridge.stderr.read()

        notes = NoteMap()
        expected = [(notes.note(label), event == "start") for event, label in heard]
        # None hangs; the monitor prints in its own time.
        wait_until(
            lambda: len(expected) <= len(rig.notes) == 2 * sum(on for _, on in rig.notes), lambda: str(rig.notes)
        )
        assert rig.notes[: len(expected)] == expected
        told_mqtt = [json.loads(payload) for topic, payload in rig.mqtt if topic.endswith("/1/event")]
        assert [(each["event"], each["label"]) for each in told_mqtt][: len(heard)] == heard
        (lines,) = (tmp_path / "show").glob("*.jsonl")
        written = [json.loads(line) for line in lines.read_text().splitlines()]
        events = [(each["event"], each["label"]) for each in written if each["kind"] == "event"]
        assert events[: len(heard)] == heard
        assert sum(event == "start" for event, _ in events) * 2 == len(events)
