"""What is wrong gets one line that says what, where and what to do, and an exit status; nothing is half-written."""

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

if TYPE_CHECKING:
    from tests.conftest import NullSink
    from tests.end_to_end.conftest import Demonstration, User

pytestmark = pytest.mark.system

RATE_HZ = 44_100


@pytest.fixture(scope="module")
def bad(lasting_user: "User", demonstration: "Demonstration") -> Path:
    """A folder of files that are wrong, each in its way, and good.wav."""
    folder = lasting_user.folder / "bad"
    folder.mkdir()
    samples, rate_hz = soundfile.read(demonstration.path, dtype="float32", frames=3 * RATE_HZ)
    soundfile.write(folder / "good.wav", samples, rate_hz)
    soundfile.write(folder / "zero.wav", np.zeros(RATE_HZ), RATE_HZ)
    soundfile.write(folder / "none.wav", np.zeros(0), RATE_HZ)
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("hello")
    (folder / "cut.wav").write_bytes((folder / "good.wav").read_bytes()[:150_000])
    (folder / "cut.flac").write_bytes(demonstration.path.read_bytes()[:100_000])
    (folder / "damaged.mird").write_bytes(b"x" * 100)
    (folder / "unknown.toml").write_text("hopms = 50\n")
    (folder / "wrong.toml").write_text('hop_ms = "often"\n')
    (folder / "broken.toml").write_text("hop_ms = = 50\n")
    (folder / "columns.csv").write_text("path,class\n")
    (folder / "rows.csv").write_text("path,class,source\n")
    (folder / "missing.csv").write_text("path,class,source\nnowhere.wav,a,x\n")
    (folder / "one.csv").write_text("path,class,source\ngood.wav,a,x\n")
    return folder


def state_of(user: "User") -> dict[str, bytes]:
    """Everything that lasts."""
    files = (path for place in ("data", "config") for path in (user.folder / place).rglob("*"))
    return {str(path): path.read_bytes() for path in files if path.is_file() and path.suffix != ".lock"}


def assert_one_line(stderr: str, *parts: str) -> None:
    errors = [line for line in stderr.splitlines() if not line.startswith("mird: INFO:")]
    assert len(errors) == 1, stderr
    assert errors[0].startswith("mird: error: ")
    for part in parts:
        assert part in errors[0]


CASES: dict[str, tuple[int, str, *tuple[str, ...]]] = {
    "no such file": (4, "run --quiet --source file:{bad}/nowhere.wav", "nowhere.wav does not exist"),
    "empty file": (4, "run --quiet --source file:{bad}/empty.wav", "empty.wav is empty"),
    "file without samples": (4, "run --quiet --source file:{bad}/none.wav", "none.wav", "holds no sound"),
    "no audio": (4, "run --quiet --source file:{bad}/text.wav", "text.wav is no audio file"),
    "a folder": (4, "run --quiet --source file:{bad}", "is a folder"),
    "cut short": (4, "run --quiet --fast --source file:{bad}/cut.flac", "cut.flac is cut short", "s could be read of"),
    "nothing on stdin": (4, "run --quiet --source stdin", "stdin ended before any sound came"),
    "no source": (3, "run --source radio", "'radio' is no source"),
    "device by number": (3, "run --source device:3", "a part of the device's name"),
    "no such channel": (4, "run --source file:{bad}/good.wav --channels 3", "channel 3 does not exist"),
    "no channels": (3, "run --source file:{bad}/good.wav --channels x", "channels 'x'"),
    "source name": (3, "run --source file:{bad}/good.wav --name a/b", "source name 'a/b'"),
    "tag: no such file": (4, "tag {bad}/nowhere.wav", "nowhere.wav does not exist"),
    "tag: cut short": (4, "tag {bad}/cut.wav", "cut.wav is cut short"),
    "clip: no such file": (4, "enroll viola {bad}/nowhere.wav", "nowhere.wav does not exist"),
    "clip: empty": (4, "enroll viola {bad}/empty.wav", "empty.wav is empty"),
    "clip: no audio": (4, "enroll viola {bad}/text.wav", "text.wav is no audio"),
    "clip: cut short": (4, "enroll viola {bad}/cut.wav", "cut.wav is cut short"),
    "clip without sound": (5, "enroll viola {bad}/zero.wav", "nothing sounds in", "zero.wav"),
    "one clip of two without sound": (5, "enroll viola {bad}/good.wav {bad}/zero.wav", "zero.wav"),
    "clip: no such channel": (5, "enroll viola {bad}/good.wav --channel 2", "it has channels 1 to 1"),
    "name with a slash": (5, "enroll a/b {bad}/good.wav", "class name 'a/b' has a slash"),
    "name of 300 characters": (5, f"enroll {300 * 'x'} {{bad}}/good.wav", "has 300 characters"),
    "name that is an answer": (5, "enroll silence {bad}/good.wav", "class name 'silence'"),
    "rename to a bad name": (5, "classes rename piano a/b", "class name 'a/b' has a slash"),
    "rename what is not known": (6, "classes rename nobody viola", "'nobody' is not known"),
    "rename to what is there": (6, "classes rename piano violin", "'violin' exists already"),
    "forget what is not known": (6, "classes forget nobody", "'nobody' is not known"),
    "nothing to undo": (6, "classes undo", "nothing to undo"),
    "damaged support set": (6, "run --source stdin --support {bad}/damaged.mird", "damaged.mird is damaged"),
    "enroll into a damaged one": (6, "enroll viola {bad}/good.wav --support {bad}/damaged.mird", "damaged.mird"),
    "tag with a damaged one": (6, "tag {bad}/good.wav --support {bad}/damaged.mird", "damaged.mird is damaged"),
    "wrong setting": (3, "run --hop-ms 5", "hop_ms='5' (--hop-ms): must be a whole number from 20 to 1000"),
    "wrong setting in a file": (3, "run --config {bad}/wrong.toml", "hop_ms='often'", "wrong.toml"),
    "unknown setting in a file": (3, "run --config {bad}/unknown.toml", "unknown setting hopms", "mean hop_ms?"),
    "unknown setting as an option": (2, "run --hop 50", "unrecognized arguments: --hop 50; did you mean --hop-ms?"),
    "settings file that is no TOML": (3, "run --config {bad}/broken.toml", "broken.toml: not TOML"),
    "no such settings file": (3, "run --config {bad}/nowhere.toml", "nowhere.toml: No such file"),
    "threshold": (3, "run --class-threshold viola=7", "class_thresholds.viola='7'", "from 0 to 1"),
    "address": (3, "run --publish here", "setting publish='here'", "tcp:// or ipc://"),
    "address that the network reaches": (7, "run --source file:{bad}/good.wav --publish tcp://0.0.0.0:9", "127.0.0.1"),
    "no such encoder": (9, "run --source file:{bad}/good.wav --engine {bad}/nowhere.onnx", "no such encoder file"),
    "encoder that is none": (9, "run --source file:{bad}/good.wav --engine {bad}/text.wav", "is no encoder"),
    "manifest: no such file": (10, "evaluate {bad}/nowhere.csv", "nowhere.csv: cannot read the manifest"),
    "manifest: a column": (10, "evaluate {bad}/columns.csv", "column source missing"),
    "manifest: no rows": (10, "evaluate {bad}/rows.csv", "has no rows"),
    "manifest: no such recording": (10, "evaluate {bad}/missing.csv", "missing.csv:2:", "nowhere.wav does not exist"),
    "manifest: no table": (10, "evaluate {bad}/good.wav", "is not a CSV file"),
    "manifest: one class": (10, "evaluate {bad}/one.csv", "class a has too few clips"),
    "manifest: no such class": (10, "evaluate {bad}/one.csv --classes x,y", "one.csv: class x, y does not occur"),
}


@pytest.fixture(scope="module")
def outcomes(lasting_user: "User", bad: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """Every case, several at a time, each with sockets of its own."""

    def outcome(number: int, line: str) -> subprocess.CompletedProcess[str]:
        words = [word.format(bad=bad) for word in line.split()]
        publish, control = (f"ipc://{lasting_user.folder}/{name}-{number}" for name in ("publish", "control"))
        return lasting_user.run(*words, MIRD_PUBLISH=publish, MIRD_CONTROL=control)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(outcome, range(len(CASES)), (line for _, line, *_ in CASES.values()))
    return dict(zip(CASES, done, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line(outcomes: dict[str, subprocess.CompletedProcess[str]], case: str) -> None:
    status, _, *parts = CASES[case]
    assert outcomes[case].returncode == status, outcomes[case].stderr
    assert_one_line(outcomes[case].stderr, *parts)


def test_bad_input_changes_nothing(
    outcomes: dict[str, subprocess.CompletedProcess[str]], lasting_user: "User", bad: Path
) -> None:
    assert len(outcomes) == len(CASES)
    assert state_of(lasting_user) == {}
    assert (bad / "damaged.mird").read_bytes() == b"x" * 100
    assert not [path for path in bad.iterdir() if path.name.startswith(".")]


def test_an_unknown_variable_is_named_with_the_nearest_known_one(lasting_user: "User") -> None:
    done = lasting_user.run("run", MIRD_HOP="50")
    assert done.returncode == 3
    assert_one_line(done.stderr, "unknown setting MIRD_HOP in the environment; did you mean MIRD_HOP_MS?")


def test_a_wrong_variable_is_named(lasting_user: "User") -> None:
    done = lasting_user.run("run", MIRD_TOP_K="all")
    assert done.returncode == 3
    assert_one_line(done.stderr, "top_k='all' (MIRD_TOP_K)", "from 1 to 100")


def test_a_support_set_of_another_encoder_is_refused_and_kept(user: "User", bad: Path) -> None:
    from mird.daemon.support import Shot, SupportSet, save

    made = SupportSet("0123456789abcdef", 4).with_shots("viola", (Shot(np.ones(4, np.float32), "clip.wav", 1),))
    user.support.parent.mkdir(parents=True)
    save(made, user.support)
    before = user.support.read_bytes()
    good = bad / "good.wav"
    for command in (("run", "--source", f"file:{good}"), ("enroll", "viola", good), ("tag", good), ("classes",)):
        done = user.run(*command)
        assert done.returncode == 6, done.stderr
        assert_one_line(done.stderr, str(user.support), "was made with encoder 0123456789abcdef, this one is")
    assert user.support.read_bytes() == before


def test_a_damaged_support_set_is_kept(user: "User", bad: Path) -> None:
    assert user.run("enroll", "viola", bad / "good.wav").returncode == 0
    whole = user.support.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    for content in (bytes(damaged), whole[:-1], b""):
        user.support.write_bytes(content)
        done = user.run("enroll", "viola", bad / "good.wav")
        assert done.returncode == 6
        assert_one_line(done.stderr, str(user.support), "move it away")
        assert user.support.read_bytes() == content
    user.support.write_bytes(whole)
    assert user.run("classes").returncode == 0


def test_addresses_in_use_are_named(user: "User", bad: Path) -> None:
    source = ("--source", f"file:{bad / 'good.wav'}", "--loop")
    with user.daemon(*source), user.listening():
        second = user.run("run", "--quiet", *source)
        assert second.returncode == 7
        assert_one_line(second.stderr, user.publish, "in use", "setting publish")
        second = user.run("run", "--quiet", *source, "--publish", f"ipc://{user.folder}/other")
        assert second.returncode == 7
        assert_one_line(second.stderr, user.control, "in use", "setting control")
        assert user.run("classes").returncode == 0, "the first one still answers"
        assert not (user.folder / "other").exists()


def test_a_port_in_use_is_named(user: "User", bad: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        done = user.run("run", "--quiet", "--source", f"file:{bad / 'good.wav'}", "--publish", address)
    assert done.returncode == 7
    assert_one_line(done.stderr, address, "in use")


def test_a_file_that_cannot_be_written_is_no_loss(user: "User", bad: Path) -> None:
    user.support.parent.parent.mkdir()
    user.support.parent.write_text("a file where the folder should be")
    done = user.run("enroll", "viola", bad / "good.wav")
    assert done.returncode == 6
    assert_one_line(done.stderr, str(user.support.parent))


def test_a_daemon_that_hangs_is_not_gone_behind(user: "User", bad: Path) -> None:
    with user.daemon("--source", f"file:{bad / 'good.wav'}", "--loop") as process, user.listening():
        process.send_signal(signal.SIGSTOP)
        try:
            done = user.run("classes", "forget", "piano")
        finally:
            process.send_signal(signal.SIGCONT)
        assert done.returncode == 8
        assert_one_line(done.stderr, user.control, "did not answer within 5 s")
        assert not user.support.exists()


@pytest.mark.pulseaudio
def test_a_missing_device_is_waited_for(null_sink: "NullSink", user: "User") -> None:
    """The daemon says that it waits, answers, hears the device as soon as it is there, and ends when told to."""
    null_sink.kill()
    user.environment |= null_sink.environment
    with user.daemon("--source", "device") as process, user.listening("hb", "frame") as listener:
        detail = "there is no audio input; waiting for it. Inputs that exist: none"
        waiting = listener.first(lambda message: message["kind"] == "state" and message["detail"] == detail)
        assert waiting["state"] == "WAITING"
        assert waiting["source"] == "device"
        assert "piano" in waiting["classes"]
        uptime_s = listener.first(lambda message: message["kind"] == "hb")["uptime_s"]
        listener.first(lambda message: message["kind"] == "hb" and message["uptime_s"] > uptime_s + 1)
        assert user.run("classes", "forget", "piano").returncode == 0
        listener.first(lambda message: message["kind"] == "state" and "piano" not in message["classes"])
        null_sink.start()
        first = listener.first(lambda message: message["kind"] == "frame")
        null_sink.kill()
        listener.first(lambda message: message["kind"] == "state" and message["state"] == "LOST")
        null_sink.start()
        listener.first(lambda message: message["kind"] == "frame" and message["stream_id"] != first["stream_id"])
        assert process.poll() is None


@pytest.mark.pulseaudio
def test_a_pattern_that_matches_no_device_names_what_there_is(null_sink: "NullSink", user: "User") -> None:
    user.environment |= null_sink.environment
    detail = "no input matches 'Scarlett'; waiting for it. Inputs that exist: 'default'"
    with user.daemon("--source", "device:Scarlett"), user.listening() as listener:
        waiting = listener.first(lambda message: message["kind"] == "state" and detail in message["detail"])
    assert waiting["state"] == "WAITING"
    assert waiting["source"] == "Scarlett"
