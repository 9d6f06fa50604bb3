"""``mird doctor`` as a command: beside a daemon, with a wrong setting, in both forms."""

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Demonstration, User

pytestmark = pytest.mark.system


def test_beside_a_running_daemon(user: "User", demonstration: "Demonstration") -> None:
    with user.daemon("--source", f"file:{demonstration.path}", "--loop"), user.listening("frame") as listener:
        listener.first(lambda message: message["kind"] == "frame")
        done = user.run("doctor", "--json")
        shown = user.run("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    told = [each["what"] for each in findings if each["topic"] == "daemon"]
    assert any(line.startswith("runs for ") for line in told)
    assert any(line.startswith("LIVE: ") for line in told)
    assert any(each["what"] == f"publish: {user.publish}; control: {user.control}" for each in findings)
    assert any("not opened, since a daemon listens" in each["what"] for each in findings)
    assert {"settings", "files", "kernels", "encoder", "sound", "daemon", "addresses", "latency"} == {
        each["topic"] for each in findings
    }
    assert "ok   daemon     LIVE: " in shown.stdout


def test_a_wrong_setting_is_what_it_finds(user: "User") -> None:
    done = user.run("doctor", MIRD_HOP_MS="5")
    assert done.returncode == 3
    assert done.stdout.startswith("FAIL settings   setting hop_ms='5' (MIRD_HOP_MS): must be a whole number from 20")
