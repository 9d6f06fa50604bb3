"""A class is taught from one clip while the daemon runs, heard at once, and taken away again."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mird.clients.control import ControlClient
from mird.daemon.enroll import read_clip, windows_of

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Listener, User

pytestmark = pytest.mark.system

RATE_HZ = 44_100
NAME = "spring bell"


def struck(seconds: float, seed: int) -> NDArray[np.float64]:
    """A bell that no instrument resembles: frequency modulation at an odd ratio, struck thrice a second."""
    rng = np.random.default_rng(seed)
    sound = np.zeros(round(seconds * RATE_HZ))
    time_s = np.arange(round(0.33 * RATE_HZ)) / RATE_HZ
    for number, begin in enumerate(range(0, len(sound) - len(time_s), len(time_s))):
        carrier_hz = (820.0, 1_230.0, 980.0)[number % 3] * (1 + 0.002 * rng.normal())
        index = 9.0 * np.exp(-time_s / 0.08) + 2.0
        modulation = index * np.sin(2 * np.pi * 1.414 * carrier_hz * time_s)
        strike = np.sin(2 * np.pi * carrier_hz * time_s + modulation) * np.exp(-time_s / 0.25)
        sound[begin : begin + len(time_s)] += 0.3 * strike
    return sound + 1e-4 * rng.normal(size=len(sound))


@pytest.fixture(scope="module")
def clip(lasting_user: "User") -> Path:
    """One clip of the bell, not the sound that the daemon hears."""
    path = lasting_user.folder / "bell.wav"
    soundfile.write(path, 0.5 * struck(5.0, 1), RATE_HZ)
    return path


@pytest.fixture(scope="module")
def listener(lasting_user: "User") -> Iterator["Listener"]:
    """Of a daemon that hears the bell all the time, as if it were played now."""
    path = lasting_user.folder / "heard.wav"
    soundfile.write(path, struck(30.0, 2), RATE_HZ)
    with (
        lasting_user.daemon("--source", f"file:{path}", "--loop"),
        lasting_user.listening("frame", "event") as listener,
    ):
        listener.first(lambda message: message["kind"] == "frame")
        yield listener


def first_frame(listener: "Listener", revision: int) -> dict[str, Any]:
    return listener.first(lambda message: message["kind"] == "frame" and message["revision"] == revision)


def revision_of(user: "User") -> int:
    with ControlClient(user.control) as daemon:
        revision: int = daemon.request("classes")["revision"]
        return revision


def test_a_clip_is_recognised_within_the_next_second_and_undone(
    lasting_user: "User", listener: "Listener", clip: Path
) -> None:
    revision = revision_of(lasting_user)
    assert NAME not in {frame["label"] for frame in listener.received("frame")}

    done = lasting_user.run("enroll", NAME, clip, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["clip"], told["name"], told["n_added"], told["n_shots"]) == ("bell.wav", NAME, 5, 5)
    known = listener.first(lambda message: message["kind"] == "state" and NAME in message["classes"])
    assert known["revision"] == revision + 1
    enrolled = first_frame(listener, revision + 1)
    heard = listener.first(lambda message: message["kind"] == "frame" and message["label"] == NAME)
    assert heard["stream_id"] == enrolled["stream_id"], "without a restart"
    assert (heard["sample_end"] - enrolled["sample_end"]) / heard["rate_hz"] <= 1.0, "within the next second of sound"
    assert heard["confidence"] > 0.5
    start = listener.first(lambda message: message["kind"] == "event" and message["label"] == NAME)
    assert start["event"] == "start"

    assert lasting_user.run("classes", "undo").returncode == 0
    undone = first_frame(listener, revision + 2)
    assert NAME not in {score["label"] for score in undone["top"]}
    end = listener.first(
        lambda message: (
            message["kind"] == "event" and message["event_id"] == start["event_id"] and message["event"] == "end"
        )
    )
    assert end["label"] == NAME
    assert end["sample_end"] <= undone["sample_end"]
    assert NAME not in lasting_user.run("classes").stdout


def test_the_daemon_enrols_in_under_a_second(
    lasting_user: "User", listener: "Listener", clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From reading the clip to the reply, the file on disk by then; the best of three, for a machine that is busy."""
    taken_s = []
    with ControlClient(lasting_user.control) as daemon:
        for _ in range(3):
            began_s = time.monotonic()
            form = daemon.request("status")
            windows = windows_of(read_clip(clip), form["rate_hz"], form["window"], 5)
            raw = [window.astype("<f4").tobytes() for window in windows]
            daemon.request("enroll", name=NAME, rate_hz=form["rate_hz"], windows=raw, origin="bell.wav")
            taken_s.append(time.monotonic() - began_s)
            daemon.request("undo")
    assert min(taken_s) < 1.0
    with capsys.disabled():
        print(f"\nenrolled in {min(taken_s):.3f} s", end="")


def test_two_clips_are_two_changes_and_survive_a_restart(user: "User", clip: Path) -> None:
    source = ("--source", f"file:{clip}", "--loop")
    with user.daemon(*source), user.listening():
        assert user.run("enroll", NAME, clip, clip, "--windows", "2").returncode == 0
        renamed = user.run("classes", "rename", NAME, "bell")
        assert renamed.stdout == f"{NAME!r} is 'bell' now; `mird classes undo` takes it back\n", renamed.stderr
    with user.daemon(*source), user.listening() as listener:
        state = listener.first(lambda message: message["kind"] == "state")
        assert "bell" in state["classes"]
        assert state["revision"] == 3
        rows = [json.loads(line) for line in user.run("classes", "--json").stdout.splitlines()]
        assert [(row["n_shots"], row["origins"]) for row in rows if row["name"] == "bell"] == [(4, ["bell.wav"])]
        forgotten = user.run("classes", "forget", "bell")
        assert forgotten.stdout == "'bell' is forgotten; `mird classes undo` takes it back\n"
        undone = user.run("classes", "undo")
        assert undone.stdout == "the last change is taken back; changes before it that can be: 3\n"


def test_two_commands_at_once_without_a_daemon_both_count(user: "User", clip: Path) -> None:
    names = {"first", "second", "third"}
    commands = [user.start("enroll", name, clip) for name in names]
    told = [command.communicate(timeout=60) for command in commands]
    assert [command.returncode for command in commands] == [0, 0, 0], told

    def known(listing: str) -> set[str]:
        return {json.loads(line)["name"] for line in listing.splitlines()}

    assert names < known(user.run("classes", "--json").stdout)
    for n_left in (2, 1, 0):
        assert len(known(user.run("classes", "undo", "--json").stdout) & names) == n_left
