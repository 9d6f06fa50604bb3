"""A running daemon is taught, corrected, tuned and told to read its settings again, by commands."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from tests.end_to_end.conftest import PATIENCE_S

from mird.clients.control import ControlClient

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Listener, User

pytestmark = pytest.mark.system

RATE_HZ = 44_100
NAME = "spring bell"


def bell(seconds: float) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Frequency modulation at an odd ratio, struck thrice a second: like no instrument that is known."""
    strike_s = np.arange(round(RATE_HZ / 3)) / RATE_HZ
    index = 9.0 * np.exp(-strike_s / 0.08) + 2.0
    strikes = [
        np.sin(2 * np.pi * hz * strike_s + index * np.sin(2 * np.pi * 1.414 * hz * strike_s)) * np.exp(-strike_s / 0.25)
        for hz in (820.0, 1_230.0, 980.0)
    ]
    return 0.3 * np.resize(np.concatenate(strikes), round(seconds * RATE_HZ))


@pytest.fixture(scope="module")
def heard(lasting_user: "User") -> Path:
    """Two channels: the bell, and a room's noise at -66 dBFS."""
    path = lasting_user.folder / "heard.wav"
    noise = 10 ** (-66 / 20) * np.random.default_rng(1).normal(size=20 * RATE_HZ)
    soundfile.write(path, np.stack([bell(20.0), noise], axis=1), RATE_HZ, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def listener(lasting_user: "User", heard: Path) -> Iterator["Listener"]:
    with (
        lasting_user.daemon("--source", f"file:{heard}", "--loop"),
        lasting_user.listening("frame", "event") as listener,
    ):
        listener.first(lambda message: message["kind"] == "frame" and message["sample_end"] > 3 * RATE_HZ)
        yield listener


@pytest.fixture
def daemon(lasting_user: "User", listener: "Listener") -> Iterator[ControlClient]:
    with ControlClient(lasting_user.control) as client:
        before = client.classes()["classes"]
        yield client
        while client.classes()["classes"] != before:
            client.undo()


def until(wanted: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not wanted():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def is_frame(label: str, revision: int = 0) -> Callable[[dict[str, Any]], bool]:
    return lambda message: (
        message["kind"] == "frame"
        and message["channel"] == 1
        and message["label"] == label
        and message["revision"] >= revision
    )


def test_the_last_seconds_are_enrolled(lasting_user: "User", listener: "Listener", daemon: ControlClient) -> None:
    several = lasting_user.run("enroll", NAME, "--live", "2")
    assert several.returncode == 5
    assert several.stderr == "mird: error: there are channels 1, 2: say which one (--channel N)\n"
    assert lasting_user.run("enroll", NAME, "--live", "2", "--channel", "3").returncode == 5
    silent = lasting_user.run("enroll", NAME, "--live", "2", "--channel", "2")
    assert (silent.returncode, silent.stdout) == (5, "")
    assert "nothing sounds in clip 'live'" in silent.stderr

    done = lasting_user.run("enroll", NAME, "--live", "2s", "--channel", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{NAME}: 3 windows, 2.0 s of sound at ")
    assert "channel 1 of 2" in done.stdout
    known = daemon.classes()
    (mine,) = (each for each in known["classes"] if each["name"] == NAME)
    assert (mine["n_shots"], mine["origins"]) == (3, ["live"])
    listener.first(is_frame(NAME, known["revision"]))

    told = json.loads(lasting_user.run("enroll", NAME, "--live", "30", "--channel", "1", "--json").stdout)
    assert (told["clip"], told["n_added"], told["n_shots"], told["n_windows"]) == ("live", 5, 8, 5)


def test_either_a_clip_or_live(lasting_user: "User", heard: Path) -> None:
    for arguments in ((), (heard, "--live", "3")):
        done = lasting_user.run("enroll", NAME, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "give either clips or --live SECONDS" in done.stderr
    done = lasting_user.run("enroll", NAME, "--live", "0.1")
    assert done.returncode == 2
    assert "must be a number of seconds from 0.5 to 30" in done.stderr


def test_a_correction_is_heard_at_once_and_undone_without_a_trace(
    lasting_user: "User", listener: "Listener", daemon: ControlClient
) -> None:
    before = daemon.classes()
    done = lasting_user.run("correct", NAME, "--channel", "1")
    assert done.returncode == 0, done.stderr
    known = daemon.classes()
    (mine,) = (each for each in known["classes"] if each["name"] == NAME)
    assert done.stdout.startswith(f"{NAME}: {mine['n_shots']} shots from ")
    assert 2 <= mine["n_shots"] <= 5  # as many of its windows as were heard by then
    assert mine["origins"] == ["correction"]
    listener.first(is_frame(NAME, known["revision"]))

    start = listener.first(lambda message: message["kind"] == "event" and message["label"] == NAME)
    told = json.loads(lasting_user.run("correct", "cow bell", "--event", start["event_id"], "--json").stdout)
    assert (told["name"], told["was"], told["event_id"], told["channel"]) == ("cow bell", NAME, start["event_id"], 1)
    assert told["resembles"] == NAME
    daemon.undo()
    assert daemon.undo()["classes"] == before["classes"]
    missing = lasting_user.run("correct", NAME, "--event", "0123456789abcdef")
    assert missing.returncode == 5
    assert "event '0123456789abcdef' is not among the last 32" in missing.stderr


def test_a_threshold_is_in_force_from_the_next_hop_and_taken_back(
    lasting_user: "User", listener: "Listener", daemon: ControlClient
) -> None:
    daemon.enroll_live(NAME, 3, 1)
    revision = daemon.classes()["revision"]
    listener.first(is_frame(NAME, revision))
    done = lasting_user.run("classes", "threshold", NAME, "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{NAME!r} needs a score of 1; `mird classes undo` takes it back\n"
    assert "[threshold 1]" in lasting_user.run("classes").stdout
    listener.first(is_frame("unknown", revision + 1))
    removed = lasting_user.run("classes", "threshold", NAME, "none", "--json")
    (mine,) = (row for row in map(json.loads, removed.stdout.splitlines()) if row["name"] == NAME)
    assert mine["has_threshold"] is False
    assert 0.0 < mine["threshold"] < 1.0
    listener.first(is_frame(NAME, revision + 2))
    assert lasting_user.run("classes", "threshold", "nobody", "0.5").returncode == 6
    assert lasting_user.run("classes", "threshold", NAME, "2").returncode == 2


def test_room_tone_sets_the_gate_of_each_channel_that_is_silent(
    lasting_user: "User", listener: "Listener", daemon: ControlClient
) -> None:
    done = lasting_user.run("calibrate", "1")
    assert done.returncode == 5
    loud, quiet = done.stdout.splitlines()
    assert loud.startswith("channel 1: room tone ")
    assert "not calibrated" in loud
    assert "channel 1 keeps the gate that it had" in done.stderr
    assert quiet.startswith("channel 2: room tone -66.")
    rows = daemon.levels()["channels"]
    assert [row["channel"] for row in rows] == [1, 2]
    assert rows[0]["silence_dbfs"] == -55.0
    assert -61.0 <= rows[1]["silence_dbfs"] <= -59.0
    assert rows[1]["label"] == "silence"
    assert rows[0]["rms_dbfs"] > -30 > rows[1]["rms_dbfs"]
    assert lasting_user.run("calibrate", "--reset").returncode == 0
    assert [row["silence_dbfs"] for row in daemon.levels()["channels"]] == [-55.0, -55.0]


def test_a_set_that_is_edited_behind_the_daemons_back_is_read_anew(
    lasting_user: "User", listener: "Listener", daemon: ControlClient, heard: Path
) -> None:
    before = daemon.classes()["revision"]
    elsewhere = f"ipc://{lasting_user.folder}/nobody"
    done = lasting_user.run("enroll", NAME, heard, "--channel", "1", MIRD_CONTROL=elsewhere)
    assert done.returncode == 0, done.stderr
    listener.first(
        lambda message: message["kind"] == "state" and message["revision"] > before and NAME in message["classes"]
    )
    assert NAME in {known["name"] for known in daemon.classes()["classes"]}


def test_an_engine_of_another_kind_is_not_passed_over(lasting_user: "User", listener: "Listener", heard: Path) -> None:
    done = lasting_user.run("enroll", NAME, heard, "--engine", lasting_user.folder / "none.onnx")
    assert done.returncode == 9
    assert "none.onnx" in done.stderr


def test_settings_are_read_anew(user: "User", heard: Path) -> None:
    """By a command and by a signal; what is wrong changes nothing, what needs a restart is said."""
    settings = user.folder / "config" / "mird" / "mird.toml"
    settings.parent.mkdir(parents=True)
    with (
        user.daemon("--source", f"file:{heard}", "--loop", "--hold-ms", "50") as process,
        user.listening("frame"),
        ControlClient(user.control) as daemon,
    ):
        until(lambda: len(daemon.levels()["channels"]) == 2)
        assert user.run("reload").stdout == "nothing has changed\n"
        settings.write_text('silence_dbfs = -70\nhop_ms = 50\nhold_ms = 900\n[class_thresholds]\n"piano" = 0.9\n')
        done = user.run("reload", "--json")
        assert json.loads(done.stdout) == {
            "changed": ["silence_dbfs", "class_thresholds"],
            "restart_needed": ["hop_ms"],
            "support_changed": False,
            "calibration_changed": False,
        }, "and hold_ms stands on the command line, which is stronger"
        until(lambda: daemon.levels()["channels"][1]["label"] != "silence")
        (piano,) = (known for known in daemon.classes()["classes"] if known["name"] == "piano")
        assert (piano["threshold"], piano["has_threshold"]) == (0.9, False)

        settings.write_text("silence_dbfs = 7\n")
        assert user.run("reload", MIRD_SILENCE_DBFS="-50").returncode == 3
        assert {row["silence_dbfs"] for row in daemon.levels()["channels"]} == {-70.0}
        process.send_signal(signal.SIGHUP)
        until(lambda: "silence_dbfs=7" in (user.folder / "log").read_text())
        assert "everything is as it was" in (user.folder / "log").read_text()

        settings.write_text("silence_dbfs = -60\n")
        process.send_signal(signal.SIGHUP)
        until(lambda: {row["silence_dbfs"] for row in daemon.levels()["channels"]} == {-60.0})
        until(lambda: "in force now: silence_dbfs" in (user.folder / "log").read_text())

        gates = Path(daemon.status()["support"]).with_name("calibration.json")
        gates.parent.mkdir(parents=True, exist_ok=True)
        gates.write_text(json.dumps({"version": 1, "silence_dbfs": {daemon.levels()["source"]: {"2": -40}}}))
        assert user.run("reload").stdout == "the calibrated gates were read anew\n"
        assert [row["silence_dbfs"] for row in daemon.levels()["channels"]] == [-60.0, -40.0]


def test_thresholds_and_gates_outlive_a_restart_and_status_and_stop(user: "User", heard: Path) -> None:
    source = ("--source", f"file:{heard}", "--loop", "--name", "desk")
    with user.daemon(*source) as process, user.listening("frame"), ControlClient(user.control) as daemon:
        until(lambda: len(daemon.levels()["channels"]) == 2)
        daemon.threshold("violin", 0.9)
        until(lambda: daemon.levels()["channels"][1]["rms_dbfs"] > -100)
        with pytest.raises(Exception, match=r"only [\d.]+ s of 60 s were heard yet"):
            daemon.calibrate(60)
        assert daemon.calibrate(1)["channels"][1]["silence_dbfs"] is not None
        stopped = user.run("stop")
        assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "", "")
        assert process.wait(PATIENCE_S) == 0
        alone = user.run("stop")
        assert alone.returncode == 8
    with user.daemon(*source), user.listening("frame"), ControlClient(user.control) as daemon:
        until(lambda: len(daemon.levels()["channels"]) == 2)
        (violin,) = (known for known in daemon.classes()["classes"] if known["name"] == "violin")
        assert (violin["threshold"], violin["has_threshold"]) == (0.9, True)
        gates = [row["silence_dbfs"] for row in daemon.levels()["channels"]]
        assert gates[0] == -55.0
        assert -62.0 < gates[1] < -58.0
        shown = user.run("status")
        assert shown.returncode == 0
        assert "LIVE" in shown.stdout
        assert "channel 2" in shown.stdout
        assert json.loads(user.run("status", "--json").stdout)["channels"][1]["silence_dbfs"] == gates[1]
