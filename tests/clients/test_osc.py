"""OSC: received by liblo's oscdump and sent by its oscsend, which share nothing with python-osc."""

import re
import shutil
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pythonosc.osc_packet import OscPacket

from mird.clients.addresses import host_and_port
from mird.clients.errors import ListenError, UsageError
from mird.clients.osc import OscOutlet
from mird.clients.osc_control import TAKEN_PORTS, OscControl
from mird.clients.osc_messages import osc_messages
from mird.clients.osc_packets import osc_bundle, osc_message
from mird.daemon.cli import main
from mird.daemon.control import ControlServer
from mird.daemon.errors import ClipError
from mird.daemon.messages import Message

if TYPE_CHECKING:
    from tests.clients.conftest import RunBridge, Script, Show

PATIENCE_S = 20.0


def free_port() -> int:
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as socket:
        socket.bind(("127.0.0.1", 0))
        port: int = socket.getsockname()[1]
        return port


class OscDump:
    """liblo's oscdump at a port, and the lines that it has printed: ``timetag address types arguments``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.lines: list[str] = []
        self.process = subprocess.Popen(["oscdump", "-L", str(port)], stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def wait_for(self, pattern: str) -> str:
        """The first line that a pattern is found in."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            for line in list(self.lines):
                if re.search(pattern, line):
                    return line
            time.sleep(0.01)
        raise AssertionError(f"{pattern!r} is not in {self.lines}")

    def wait_until_ready(self) -> None:
        """Send to it until it prints something."""
        with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as socket:
            deadline_s = time.monotonic() + PATIENCE_S
            while not self.lines:
                assert time.monotonic() < deadline_s
                socket.sendto(osc_message("/ready", ()).dgram, ("127.0.0.1", self.port))
                time.sleep(0.02)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._thread.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            for line in out:
                self.lines.append(line.rstrip("\n"))


@pytest.fixture
def dumps() -> Iterator[list[OscDump]]:
    """Two receivers."""
    if shutil.which("oscdump") is None:
        pytest.skip("needs oscdump (liblo-tools)")
    receivers = [OscDump(free_port()) for _ in range(2)]
    for receiver in receivers:
        receiver.wait_until_ready()
    yield receivers
    for receiver in receivers:
        receiver.close()


def test_what_each_message_becomes(script: "type[Script]") -> None:
    messages = {
        "event": [("/mird/desk/1/event", ("start", "viola", 0.75, 0.0, "e1"))],
        "end": [("/mird/desk/1/event", ("end", "viola", 0.75, 2.0, "e1"))],
        "frame": [
            ("/mird/desk/1/label", ("viola", 0.875, -20.0)),
            ("/mird/desk/1/scores", ("viola", 0.875, "Flöte", 0.25)),
        ],
        "level": [("/mird/desk/1/level", (-20.0, -6.0))],
        "state": [("/mird/status/state", ("desk", "LIVE", "Scarlett 2i2"))],
        "hb": [("/mird/status/heartbeat", ("desk", 9.0, 11.0, -1.0))],
    }
    made: dict[str, Message] = {
        "event": script.start(),
        "end": script.end(),
        "frame": script.frame(),
        "level": script.level(),
    }
    made |= {"state": script.state(), "hb": script.heartbeat()}
    assert {name: list(osc_messages(message)) for name, message in made.items()} == messages
    ((address, _),) = osc_messages(script.start(source="a b#*,?[]{}ü"))
    assert address == "/mird/a_b_________/1/event"


@pytest.mark.system
def test_two_receivers_of_another_implementation(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", dumps: list[OscDump]
) -> None:
    to = [word for receiver in dumps for word in ("--to", f"127.0.0.1:{receiver.port}")]
    bridge = run_bridge("osc", *to, "--listen", "none")
    show.publish(script.state(), script.level(), script.frame(), script.start("琵琶"), script.end("琵琶"))
    for receiver in dumps:
        receiver.wait_for(r"/mird/status/alive i 1$")
        receiver.wait_for(r'/mird/status/state sss "desk" "LIVE" "Scarlett 2i2"$')
        receiver.wait_for(r'/mird/status/heartbeat sfff "desk" 9.0+ 11.0+ -1.0+$')
        receiver.wait_for(r"/mird/desk/1/level ff -20.0+ -6.0+$")
        receiver.wait_for(r'^ed003781.00000000 /mird/desk/1/label sff "viola" 0.8750* -20.0+$')
        receiver.wait_for(r'^ed003781.00000000 /mird/desk/1/scores sfsf "viola" 0.8750* "Flöte" 0.250*$')
        receiver.wait_for(r'^ed003780.00000000 /mird/desk/1/event ssffs "start" "琵琶" 0.750* 0.0+ "e1"$')
        receiver.wait_for(r'^ed003782.00000000 /mird/desk/1/event ssffs "end" "琵琶" 0.750* 2.0+ "e1"$')
    assert bridge.end() == 0
    for receiver in dumps:
        receiver.wait_for(r"/mird/status/alive i 0$")
    assert "Traceback" not in bridge.log


@pytest.mark.system
def test_a_killed_daemon_leaves_no_event_running(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", dumps: list[OscDump]
) -> None:
    bridge = run_bridge("osc", "--to", f"127.0.0.1:{dumps[0].port}", "--listen", "none", "--kind", "event")
    show.publish(script.state(), script.frame(end_s=3.0), script.start())
    dumps[0].wait_for('"start" "viola"')
    show.stop()
    dumps[0].wait_for('"end" "viola" 0.750* 3.0+ "e1"')
    dumps[0].wait_for("alive i 0$")
    assert not [line for line in dumps[0].lines if "/level" in line or "/label" in line]
    assert bridge.end(signal.SIGINT) == 0
    assert "has gone; waiting for it" in bridge.log


@pytest.mark.system
def test_targets_that_are_not_there_are_told_of_once_and_keep_nobody_from_the_others(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", dumps: list[OscDump]
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    to = ("--to", nobody, "--to", "no-such-host.invalid", "--to", f"127.0.0.1:{dumps[0].port}")
    bridge = run_bridge("osc", *to, "--listen", "none")
    show.publish(script.state(), *(script.frame(end_s=1 + number / 10) for number in range(20)), script.start())
    dumps[0].wait_for('"start" "viola"')
    bridge.wait_for_log("OSC target no-such-host.invalid:7476: ")  # a look-up may take its time
    assert bridge.log.count(f"OSC target {nobody}: Connection refused") == 1
    assert bridge.log.count("OSC target no-such-host.invalid:7476: ") == 1
    assert bridge.end() == 0


def test_a_receiver_that_comes_later_misses_nothing_that_is_sent_from_then_on(script: "type[Script]") -> None:
    port = free_port()
    outlet = OscOutlet([("127.0.0.1", port)])
    for _ in range(3):
        outlet.send(script.level())
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", port))
        receiver.settimeout(PATIENCE_S)
        outlet.send(script.start())
        assert b"/event" in receiver.recv(9999)
    assert outlet.targets[0].n_failed == 3
    outlet.close()


def test_without_bundles_and_with_bundles_for_at_once(script: "type[Script]") -> None:
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(PATIENCE_S)
        address: tuple[str, int] = receiver.getsockname()
        plain, at_once = OscOutlet([address], time_tag="none"), OscOutlet([address], time_tag="now")
        plain.send(script.frame())
        assert [receiver.recv(9999)[:18] for _ in range(2)] == [b"/mird/desk/1/label", b"/mird/desk/1/score"]
        at_once.send(script.frame())
        assert receiver.recv(9999).startswith(b"#bundle\0\0\0\0\0\0\0\0\1")
        for outlet in (plain, at_once):
            outlet.close()


class Desk:
    """A controller that sends OSC and reads the answers."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(address)

    def ask(self, verb: str, *arguments: str | float) -> list[Any]:
        """The answer's address, without what all have, and its arguments."""
        self.socket.send(osc_message(f"/mird/control/{verb}", arguments).dgram)
        return self.answer()

    def answer(self) -> list[Any]:
        ((_, message),) = OscPacket(self.socket.recv(65_535)).messages
        return [message.address.removeprefix("/mird/control/"), *message.params]


@pytest.fixture
def control(tmp_path: Path) -> Iterator[tuple[OscControl, list[Mapping[str, Any]]]]:
    """Control by OSC of a control server, and the arguments of what it was asked."""
    asked: list[Mapping[str, Any]] = []

    def forget(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(arguments)
        raise ClipError(f"there is no class {arguments['name']!r}")

    handlers = {
        "forget": forget,
        "classes": lambda _: {"classes": [{"name": "viola"}, {"name": "琵琶"}]},
        "undo": lambda _: {"classes": [{"id": 7}]},  # as of a mird that this one does not know
    }
    stop = threading.Event()
    with ControlServer(f"ipc://{tmp_path}/control", handlers) as server:

        def serve() -> None:
            while not stop.is_set():
                server.poll(0.02)

        thread = threading.Thread(target=serve)
        thread.start()
        with OscControl("127.0.0.1", 0, server.endpoint) as listening:
            yield listening, asked
        stop.set()
        thread.join()


def test_control_answers_whoever_asked(control: tuple[OscControl, list[Mapping[str, Any]]]) -> None:
    listening, asked = control
    desk = Desk(listening.address)
    assert desk.ask("classes", 1.0) == ["ok", "classes", "viola", "琵琶"]
    assert desk.ask("undo") == ["error", "undo", "a fault in mird: KeyError: 'name'", 1]
    assert desk.ask("forget", "tuba") == ["error", "forget", "there is no class 'tuba'", 5]
    assert asked == [{"name": "tuba"}]
    desk.socket.close()


@pytest.mark.skipif(shutil.which("oscsend") is None, reason="needs oscsend (liblo-tools)")
def test_control_understands_another_implementation(control: tuple[OscControl, list[Mapping[str, Any]]]) -> None:
    listening, asked = control
    host, port = listening.address
    subprocess.run(["oscsend", host, str(port), "/mird/control/forget", "s", "horn"], check=True, timeout=PATIENCE_S)
    deadline_s = time.monotonic() + PATIENCE_S
    while not asked and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert asked == [{"name": "horn"}]


@pytest.mark.parametrize(
    ("verb", "arguments", "expected"),
    [
        ("forget", (), "it takes name"),
        ("forget", (1,), "1 is no text"),
        ("forget", ("a", "b"), "has 2 arguments"),
        ("enroll", ("a",), "it takes name, seconds"),
        ("enroll", ("a", "soon"), "'soon' is no number"),
        ("enroll", ("a", 3.0, "left"), "number of a channel"),
        ("enroll", ("a", 3.0, float("inf")), "number of a channel"),
        ("enroll", ("a", 3.0, float("nan")), "number of a channel"),
        ("enroll", ("a", 3.0, 1e30), "an argument cannot be sent"),
        ("correct", ("a", "e1", 1, 2), "it takes name"),
        ("correct", ("a", 1.5), "number of a channel"),
        ("threshold", ("a", "b"), "'b' is no number"),
        ("rename", ("a",), "it takes name, new name"),
        ("stop", (), "/mird/control/stop: there are"),
        ("x" * 5000, (), "there are"),
    ],
)
def test_control_refuses(
    control: tuple[OscControl, list[Mapping[str, Any]]],
    verb: str,
    arguments: tuple[str | float, ...],
    expected: str,
) -> None:
    desk = Desk(control[0].address)
    answer = desk.ask(verb, *arguments)
    assert answer[:2] == ["error", verb[:64]]
    assert expected in answer[2]
    assert answer[3] == 8
    desk.socket.close()


def test_control_outlives_what_is_no_osc(control: tuple[OscControl, list[Mapping[str, Any]]]) -> None:
    listening, _ = control
    desk = Desk(listening.address)
    deep = osc_message("/mird/control/status", ()).dgram
    for _ in range(1500):
        deep = b"#bundle\0" + bytes(7) + b"\1" + len(deep).to_bytes(4, "big") + deep
    packets = (b"", b"\0", b"/", b"/a\0\0,s\0\0", b"#bundle\0", b"#bundle\0" + bytes(8) + b"\xff" * 8, b"\xff" * 9000)
    bundle = b"#bundle\0" + bytes(7) + b"\1"
    back_for_ever, empty = bundle + (-4).to_bytes(4, "big", signed=True), bundle + bytes(4000)
    unknown = b"/a\0\0," + b"x" * 4000 + bytes(3)
    for packet in (*packets, b"/\xff\xff\0,\0\0\0", deep, b"/a\0\0,[[[\0\0\0\0", back_for_ever, empty, unknown):
        desk.socket.send(packet)
    desk.socket.send(osc_bundle([osc_message("/mird/control/classes", ())], None))
    answer = desk.answer()
    while answer[0] == "error":  # some of them are OSC after all
        answer = desk.answer()
    assert answer[:2] == ["ok", "classes"]
    assert listening.n_malformed >= 7
    desk.socket.close()


def test_control_without_a_daemon_says_so_at_once(tmp_path: Path) -> None:
    with OscControl("127.0.0.1", 0, f"ipc://{tmp_path}/none") as listening:
        desk = Desk(listening.address)
        answer = desk.ask("undo")
        assert answer[:2] == ["error", "undo"]
        assert "no mird answers at" in answer[2]
        desk.socket.close()


@pytest.mark.parametrize(("host", "warns"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_whoever_opens_control_to_others_is_told(run_bridge: "RunBridge", host: str, warns: bool) -> None:
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    bridge = run_bridge("osc", "--listen", f"{host}:{port}")
    assert (f"whoever reaches {host}:{port} can teach and forget" in bridge.log) is warns
    assert bridge.end() == 0


def test_ports_that_are_taken(tmp_path: Path) -> None:
    with (
        OscControl("127.0.0.1", 0, f"ipc://{tmp_path}/none") as listening,
        pytest.raises(ListenError, match="Address already in use; another bridge or program has it"),
    ):
        OscControl("127.0.0.1", listening.address[1], f"ipc://{tmp_path}/none")
    for port in TAKEN_PORTS:
        with pytest.raises(ListenError, match=r"is where .* listens; choose another"):
            OscControl("127.0.0.1", port, f"ipc://{tmp_path}/none")
    with pytest.raises(ListenError, match=r"cannot listen at 203\.0\.113\.1:9999"):
        OscControl("203.0.113.1", 9999, f"ipc://{tmp_path}/none")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9000", ("h", 9000)),
        ("desk", ("desk", 1)),
        ("desk.local:53000", ("desk.local", 53000)),
        ("[::1]:9", ("::1", 9)),
        ("[::1]", ("::1", 1)),
        (":9", ("h", 9)),
    ],
)
def test_hosts_and_ports(text: str, expected: tuple[str, int]) -> None:
    assert host_and_port(text, "h", 1) == expected


@pytest.mark.parametrize("text", ["desk:", "desk:0", "desk:65536", "desk:x", "udp://desk:9", "a b:9", "desk:²"])
def test_what_is_no_host_and_port(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(text))):
        host_and_port(text, "h", 1)


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["--to", "desk:x"], 2, "'desk:x': must be HOST:PORT"),
        (["--listen", "53000"], 7, "port 53000 is where QLab listens; choose another"),
        (["--time-tag", "later"], 2, "invalid choice: 'later'"),
        (["--publish", "tcp://nonsense"], 8, "'tcp://nonsense' is no address such as"),
    ],
)
def test_bad_arguments(argv: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        sys.exit(main(["osc", *argv]))
    assert raised.value.code == status
    assert message in capsys.readouterr().err


def test_without_its_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith(("pythonosc", "mird.clients.osc"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pythonosc", None)
    assert main(["osc"]) == 13
    assert "install it with: pip install 'mird[osc]'" in capsys.readouterr().err
