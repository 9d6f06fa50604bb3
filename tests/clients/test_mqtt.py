"""MQTT: at a real mosquitto, read by its mosquitto_sub."""

import json
import shutil
import signal
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mird.clients.errors import OutletError
from mird.clients.mqtt_broker import Access, Broker
from mird.clients.mqtt_topics import Topics
from mird.daemon.cli import main

if TYPE_CHECKING:
    from tests.clients.conftest import RunBridge, Script, Show

PATIENCE_S = 20.0

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("mosquitto", "mosquitto_sub", "mosquitto_passwd", "openssl"))),
    reason="needs mosquitto, mosquitto-clients and openssl",
)


def free_port() -> int:
    with sockets.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Mosquitto:
    """A broker that keeps nothing over a restart, and everything that was published at it since it was made."""

    def __init__(self, folder: Path, *settings: str, sub: tuple[str, ...] = ()) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        # It may read this folder as root only, which it gives up otherwise.
        lines = ["user root", f"listener {self.port} 127.0.0.1", "persistence false", *settings]
        self._config.write_text("\n".join([*lines, ""]))
        self._sub = sub
        self.received: list[tuple[str, str, bool]] = []
        self.start()

    def start(self) -> None:
        self._broker = subprocess.Popen(
            ["/usr/sbin/mosquitto", "-c", self._config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                sockets.create_connection(("127.0.0.1", self.port), 1.0).close()
                break
            except OSError:
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.port), "-t", "#", "-q", "1", "-F", "%r %t %p"]
        self._reader = subprocess.Popen([*command, *self._sub], stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, args=(self._reader,))
        self._thread.start()

    def stop(self) -> None:
        for process in (self._broker, self._reader):
            process.terminate()
            try:
                process.wait(PATIENCE_S / 4)
            except subprocess.TimeoutExpired:  # once in thousands, one of mosquitto's programs does not end
                process.kill()
                process.wait()
        self._thread.join()

    def wait_for(self, topic: str, true: Callable[[str], bool], *, since: int = 0) -> tuple[str, bool]:
        """Payload of the first message on a topic of which something is true, and whether it was retained."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            for each, payload, retained in self.received[since:]:
                if each == topic and true(payload):
                    return payload, retained
            time.sleep(0.01)
        raise AssertionError(
            f"{topic} is not in {[(each, payload[:80]) for each, payload, _ in self.received[since:]]}"
        )

    def kept(self, *topics: str) -> dict[str, str]:
        """What the broker tells whoever joins; asked until some topics are among it, for it is heard for a second."""
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.port), "-t", "#", "--retained-only", "-W", "1"]
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            done = subprocess.run([*command, "-F", "%t %p"], capture_output=True, text=True, check=False)
            told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
            if told.keys() >= {*topics}:
                return told
            assert time.monotonic() < deadline_s, told

    def _read(self, reader: "subprocess.Popen[str]") -> None:
        assert reader.stdout is not None
        with reader.stdout as out:
            for line in out:
                retained, topic, payload = line.rstrip("\n").split(" ", 2)
                self.received.append((topic, payload, retained == "1"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker for everybody."""
    one = Mosquitto(tmp_path, "allow_anonymous true")
    yield one
    one.stop()


def equals(wanted: str) -> Callable[[str], bool]:
    return lambda payload: payload == wanted


@pytest.mark.system
def test_what_is_so_is_kept_and_what_happens_is_told(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", broker: Mosquitto
) -> None:
    bridge = run_bridge("mqtt", "--broker", f"127.0.0.1:{broker.port}")
    broker.wait_for("mird/status", equals("online"))  # levels and events of before that are not told
    show.publish(script.state(), script.frame("silence"), script.start(), script.frame(end_s=2.0))
    broker.wait_for("mird/desk/1/label", equals("viola"))
    broker.wait_for("mird/desk/1/level", equals("-20.0"))
    payload, _ = broker.wait_for("mird/desk/1/event", lambda payload: "start" in payload)
    assert json.loads(payload)["label"] == "viola"
    show.publish(script.end(), script.frame("unknown", 2.1))
    broker.wait_for("mird/desk/1/event", lambda payload: '"end"' in payload)
    broker.wait_for("mird/desk/1/label", equals("unknown"))
    kept = broker.kept("mird/status", "mird/desk/1/label", "mird/desk/state")
    assert (kept["mird/status"], kept["mird/desk/1/label"]) == ("online", "unknown")
    assert json.loads(kept["mird/desk/state"])["state"] == "LIVE"
    assert not [topic for topic in kept if topic.endswith(("/event", "/level"))]
    assert bridge.end() == 0
    broker.wait_for("mird/status", equals("offline"))
    kept = broker.kept("mird/status", "mird/desk/1/label")
    assert (kept["mird/status"], kept["mird/desk/1/label"]) == ("offline", "none")


@pytest.mark.system
def test_home_assistant_is_told_what_there_is(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", broker: Mosquitto
) -> None:
    bridge = run_bridge("mqtt", "--broker", f"127.0.0.1:{broker.port}", "--prefix", "stage/left")
    show.publish(script.state())
    topic = "homeassistant/sensor/stage_left_desk_channel_2/config"
    payload, _ = broker.wait_for(topic, lambda payload: True)
    config: dict[str, Any] = json.loads(payload)
    assert config["state_topic"] == "stage/left/desk/2/label"
    assert config["availability_topic"] == "stage/left/status"
    assert config["unique_id"] == "stage_left_desk_channel_2"
    assert config["device"]["identifiers"] == ["stage_left_desk"]

    def configured() -> set[str]:
        return {topic for topic, _, _ in broker.received if topic.startswith("homeassistant/")}

    bridge.wait_until(lambda: len(configured()) >= 1 + 3 * 2)
    kept = broker.kept(*configured())
    configs = [json.loads(payload) for topic, payload in kept.items() if topic.startswith("homeassistant/")]
    assert len(configs) == 1 + 3 * 2
    assert len({config["unique_id"] for config in configs}) == len(configs)
    assert bridge.end() == 0


@pytest.mark.system
def test_a_broker_that_restarts_and_a_daemon_that_is_killed(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", broker: Mosquitto
) -> None:
    bridge = run_bridge("mqtt", "--broker", f"127.0.0.1:{broker.port}")
    show.publish(script.state(), script.start(), script.frame())
    broker.wait_for("mird/desk/1/label", equals("viola"))
    broker.stop()
    bridge.wait_for_log("has gone")
    show.publish(script.end())
    since = len(broker.received)
    broker.start()
    broker.wait_for("mird/desk/1/label", equals("viola"), since=since)
    broker.wait_for("mird/status", equals("online"), since=since)
    bridge.wait_for_log("messages were dropped while there was no MQTT broker")
    show.stop()
    broker.wait_for("mird/status", equals("offline"), since=since)
    broker.wait_for("mird/desk/1/label", equals("none"), since=since)
    assert bridge.end(signal.SIGINT) == 0


@pytest.mark.system
def test_the_last_will_of_a_bridge_that_is_killed(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", broker: Mosquitto
) -> None:
    bridge = run_bridge("mqtt", "--broker", f"127.0.0.1:{broker.port}", "--discovery", "none")
    show.publish(script.state())
    broker.wait_for("mird/status", equals("online"))
    bridge.end(signal.SIGKILL)
    broker.wait_for("mird/status", equals("offline"))
    assert not [topic for topic, _, _ in broker.received if topic.startswith("homeassistant")]


@pytest.mark.system
def test_tls_and_passwords(show: "Show", script: "type[Script]", run_bridge: "RunBridge", tmp_path: Path) -> None:
    certificate, key, passwords = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "passwords"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "stage", "s3cret"], check=True, capture_output=True)
    settings = (f"certfile {certificate}", f"keyfile {key}", "allow_anonymous false", f"password_file {passwords}")
    broker = Mosquitto(tmp_path, *settings, sub=("--cafile", str(certificate), "-u", "stage", "-P", "s3cret"))
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("s3cret\n")
    wrong.write_text("wrong\n")
    to = ("mqtt", "--broker", f"127.0.0.1:{broker.port}", "--tls", "--user", "stage", "--password-file")
    bridges = [
        run_bridge(*to, right, "--ca", certificate),
        run_bridge(*to, wrong, "--ca", certificate, "--prefix", "wrong"),
        run_bridge(*to, right, "--prefix", "unchecked"),
    ]
    try:
        show.publish(script.state())
        broker.wait_for("mird/status", equals("online"))
        bridges[1].wait_for_log("does not let us in: Not authorized; see --user and --password-file, trying on")
        bridges[2].wait_for_log("certificate verify failed")
        assert "s3cret" not in "".join(bridge.log for bridge in bridges)
        assert [bridge.end() for bridge in bridges] == [0, 0, 0]
        assert not [topic for topic, _, _ in broker.received if topic.startswith(("wrong", "unchecked"))]
    finally:
        broker.stop()


@pytest.mark.system
def test_a_broker_that_comes_later(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", broker: Mosquitto
) -> None:
    broker.stop()
    bridge = run_bridge("mqtt", "--broker", f"127.0.0.1:{broker.port}")
    bridge.wait_for_log("cannot be reached: Connection refused; trying on")
    show.publish(script.state())
    broker.start()
    broker.wait_for("mird/status", equals("online"))
    broker.wait_for("mird/desk/state", lambda payload: "LIVE" in payload)
    assert bridge.log.count("cannot be reached") == 1
    assert bridge.end() == 0


def test_names_that_topics_do_not_allow(script: "type[Script]") -> None:
    assert Topics().label("a+b#c$", 1, "x").topic == "mird/a_b_c_/1/label"
    config, *_ = Topics().discovery("ha", script.state(source="a+b ü"))
    assert config.topic == "ha/sensor/mird_a_b___state/config"


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["--broker", "b:x"], 2, "'b:x': must be HOST:PORT"),
        (["--prefix", "a/#"], 2, "must be topics without + and #"),
        (["--prefix", "/"], 2, "must be topics without + and #"),
        (
            ["--password-file", "/nowhere"],
            13,
            "--password-file /nowhere: No such file or directory; name a readable file",
        ),
        (["--ca", "x"], 2, "--ca, --cert and --key are for --tls"),
    ],
)
def test_bad_arguments(argv: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mqtt", *argv]) == status
    assert message in capsys.readouterr().err


def test_a_certificate_that_is_none() -> None:
    with pytest.raises(OutletError, match=r"^/nowhere: cannot be used for TLS: .*; name PEM files$"):
        Broker(Access(tls=True, ca="/nowhere"), Topics().online(alive=False))


def test_without_its_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith(("paho", "mird.clients.mqtt"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "paho", None)
    assert main(["mqtt"]) == 13
    assert "install it with: pip install 'mird[mqtt]'" in capsys.readouterr().err
