"""MIDI: through real ports of a JACK server without hardware, received by jack_midi_dump."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mird.clients import midi_port
from mird.clients.errors import OutletError
from mird.clients.midi_notes import FIRST_OTHER, TABLE, NoteMap
from mird.clients.midi_port import matches, open_output
from mird.daemon.cli import main
from mird.daemon.paths import shipped
from mird.daemon.support_codec import decode

if TYPE_CHECKING:
    from tests.clients.conftest import RunBridge, Script, Show

PATIENCE_S = 20.0
VIOLA, OBOE = 72, 56


class Monitor:
    """jack_midi_dump, and the notes that it has printed: MIDI channel from 0, note, velocity."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(["stdbuf", "-oL", "jack_midi_dump", "monitor"], stdout=out)
        wait_for_port("monitor:input")

    @property
    def notes(self) -> list[tuple[int, int, int]]:
        line = r"(?:8|9)[0-9a-f] .*\(channel +(\d+)\): pitch +(\d+), velocity +(\d+)"
        return [
            (int(channel), int(note), int(velocity))
            for channel, note, velocity in re.findall(line, self._log.read_text())
        ]

    def wait_for(self, *notes: tuple[int, int, int]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while len(self.notes) < len(notes) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert self.notes == [*notes]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        wait_for_port("monitor:input", there=False)  # else the next one gets another name


def ports() -> list[str]:
    return subprocess.run(["jack_lsp"], capture_output=True, text=True, check=False).stdout.splitlines()


def wait_for_port(name: str, *, there: bool = True) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while (name in ports()) != there:
        assert time.monotonic() < deadline_s, f"{name}: {ports()}"
        time.sleep(0.05)


class Jack:
    """A JACK server without hardware, which this process and its children are connected to."""

    def __init__(self, name: str) -> None:
        self._command = ["jackd", "--no-realtime", "-n", name, "-d", "dummy", "-r", "44100", "-p", "512"]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port("system:capture_1")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture(scope="module")
def jack() -> Iterator[Jack]:
    if not all(map(shutil.which, ("jackd", "jack_lsp", "jack_midi_dump"))):
        pytest.skip("needs jackd and its example programs (jackd2)")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("JACK_DEFAULT_SERVER", f"mird-{os.getpid()}")
        environment.setenv("JACK_NO_START_SERVER", "1")
        server = Jack(f"mird-{os.getpid()}")
        yield server
        server.stop()


@pytest.fixture
def monitor(jack: Jack, tmp_path: Path) -> Iterator[Monitor]:
    """Somebody who listens to MIDI."""
    one = Monitor(tmp_path / "notes")
    yield one
    one.close()


@pytest.mark.system
def test_notes_last_as_long_as_events(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", monitor: Monitor
) -> None:
    bridge = run_bridge("midi", "--api", "jack", "--port", "MONIT*put", "--note", "my viola=5")
    bridge.wait_for_log("MIDI port monitor:input: connected")
    show.publish(script.state(), script.start(), script.frame(end_s=2.0), script.end())
    show.publish(script.start("my viola", 2.0, "e2", channel=18, score=0.0))
    monitor.wait_for((0, VIOLA, 95), (0, VIOLA, 0), (1, 5, 1))
    assert bridge.end() == 0  # and what sounds ends
    monitor.wait_for((0, VIOLA, 95), (0, VIOLA, 0), (1, 5, 1), (1, 5, 0))


@pytest.mark.system
def test_a_port_of_its_own_plays_on_when_another_daemon_starts_and_ends_its_notes_when_that_is_killed(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", monitor: Monitor
) -> None:
    bridge = run_bridge("midi", "--api", "jack", "--virtual", "notes")
    wait_for_port("mird:notes")
    subprocess.run(["jack_connect", "mird:notes", "monitor:input"], check=True)
    show.publish(script.state(), script.start())
    monitor.wait_for((0, VIOLA, 95))
    show.restart()
    show.wait_for_subscriber()
    show.publish(script.start("oboe", 0.0, "e2"))
    monitor.wait_for((0, VIOLA, 95), (0, VIOLA, 0), (0, OBOE, 95))
    show.stop()
    monitor.wait_for((0, VIOLA, 95), (0, VIOLA, 0), (0, OBOE, 95), (0, OBOE, 0))
    assert bridge.end(signal.SIGINT) == 0


@pytest.mark.system
def test_a_port_that_comes_later_and_goes_and_comes_back(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", jack: Jack, tmp_path: Path
) -> None:
    bridge = run_bridge("midi", "--api", "jack", "--port", "monitor")
    bridge.wait_for_log("no MIDI port named like 'monitor'; waiting for it (there are: none)")
    show.publish(script.state(), script.start())
    for number in range(2):
        monitor = Monitor(tmp_path / f"notes{number}")
        monitor.wait_for((0, VIOLA, 95))
        monitor.close()
        bridge.wait_for_log("MIDI port monitor:input has gone; waiting for it")
    assert bridge.end() == 0


@pytest.mark.system
@pytest.mark.parametrize("way", [("--virtual", "notes"), ("--port", "monitor")])
def test_a_jack_server_that_ends_is_waited_for(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", jack: Jack, tmp_path: Path, way: tuple[str, str]
) -> None:
    bridge = run_bridge("midi", "--api", "jack", *way)
    bridge.wait_for_log("notes is there" if way[0] == "--virtual" else "no MIDI port named like 'monitor'")
    jack.stop()
    bridge.wait_for_log("the JACK server has ended: no JACK server runs; start one, or --api alsa; waiting for it")
    show.publish(script.state(), script.start())
    jack.start()
    monitor = Monitor(tmp_path / "notes")
    if way[0] == "--virtual":
        wait_for_port("mird:notes")
        subprocess.run(["jack_connect", "mird:notes", "monitor:input"], check=True)
        show.publish(script.end(), script.start("oboe", 2.0, "e2"))
    bridge.wait_for_log("a JACK server runs again")
    deadline_s = time.monotonic() + PATIENCE_S
    while not monitor.notes and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert monitor.notes[-1][1] in (VIOLA, OBOE)
    monitor.close()
    assert bridge.end() == 0


def test_two_channels_that_share_a_note_end_it_together(
    show: "Show", script: "type[Script]", run_bridge: "RunBridge", monitor: Monitor
) -> None:
    bridge = run_bridge("midi", "--api", "jack", "--port", "monitor")
    bridge.wait_for_log("connected")
    show.publish(script.start(event_id="e1"), script.start(event_id="e2", channel=17, score=1.0))
    show.publish(script.end(event_id="e1"), script.start("oboe", 2.0, "e3"))
    monitor.wait_for((0, VIOLA, 95), (0, VIOLA, 127), (0, OBOE, 95))
    show.publish(script.end(event_id="e2", channel=17))
    monitor.wait_for((0, VIOLA, 95), (0, VIOLA, 127), (0, OBOE, 95), (0, VIOLA, 0))
    assert bridge.end() == 0


def test_the_notes_of_the_table_never_move() -> None:
    notes = NoteMap()
    assert [notes.note(label) for label in ("accordion", "oboe", "piano", "viola", "xylophone")] == [36, 56, 59, 72, 75]
    assert [notes.note(label) for label in ("my viola", "琵琶", "x" * 64)] == [123, 127, 94]
    assert all(FIRST_OTHER <= notes.note(f"class {number}") <= 127 for number in range(1000))
    assert {36 + index for index in range(len(TABLE))} == {notes.note(label) for label in TABLE}


def test_every_class_that_mird_ships_has_a_note_of_its_own() -> None:
    shipped_set = decode(shipped("support/default.mird").read_bytes())
    assert not NoteMap().shared(each.name for each in shipped_set.classes)


def test_notes_that_are_shared_and_notes_that_are_chosen() -> None:
    assert NoteMap({"a": 1, "b": 1}).shared(["a", "b", "viola"]) == {1: ["a", "b"]}
    assert NoteMap({"viola": 1}).note("viola") == 1


def test_a_port_is_found_by_a_part_of_its_name() -> None:
    assert matches("USB MIDI Interface:USB MIDI Interface MIDI 1 20:0", "usb midi")
    assert matches("Synth [1]", "*th*1")
    assert not matches("Synth", "drum")


def test_without_an_alsa_sequencer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "mird-none")
    monkeypatch.setattr(midi_port, "SEQUENCER", tmp_path / "seq")
    with pytest.raises(OutletError, match=r"no ALSA sequencer \(/.*/seq\); try `modprobe snd-seq`, or --api jack"):
        open_output("alsa")
    with pytest.raises(OutletError, match=r"there is no ALSA sequencer .* and no JACK server runs"):
        open_output()


def test_without_a_jack_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "mird-none")
    with pytest.raises(OutletError, match="no JACK server runs; start one"):
        open_output("jack")


def test_lists(jack: Jack, monitor: Monitor, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["midi", "--api", "jack", "--list"]) == 0
    assert capsys.readouterr().out == "monitor:input\n"
    assert main(["midi", "--notes", "--note", "my viola=9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["  9  my viola", " 36  accordion"]
    assert len(lines) == len(TABLE) + 1


@pytest.mark.parametrize("note", ["viola", "viola=", "viola=128", "viola=-1", "=5", "viola=²"])
def test_notes_that_are_none(note: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["midi", "--note", note])
    assert f"{note!r}: must be NAME=NOTE, with a note from 0 to 127" in capsys.readouterr().err


def test_without_its_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith(("mird.clients.midi_port", "mird.clients.jack"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rtmidi", None)
    assert main(["midi"]) == 13
    assert "install it with: pip install 'mird[midi]'" in capsys.readouterr().err
