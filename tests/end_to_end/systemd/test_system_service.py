"""The system service under a real systemd: installed, started, heard, reloaded, hung, killed, stopped and removed."""

import json
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import soundfile
from tests.conftest import quickest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Demonstration
    from tests.end_to_end.systemd.conftest import Machine

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]  # the first of them boots the machine

UNIT = "/etc/systemd/system/mird.service"
DROP_IN = "/etc/systemd/system/mird.service.d/tests.conf"
CONTROL = "ipc:///run/mird/control"
WATCHDOG_S = 2.0
STOPS_WITHIN_S = 2.0
N_SPANS = 2


@pytest.fixture(scope="module")
def service(machine: "Machine") -> "Machine":
    """The machine with the service installed and started, before there is any sound server; and two people."""
    for name in ("ada", "bob"):
        machine.do("useradd", "--create-home", name)
    said = machine.do("mird", "install-service")
    assert f"wrote {UNIT}" in said
    assert "systemctl enable --now mird" in said
    machine.do("usermod", "--append", "--groups", "mird", "ada")
    machine.do("systemctl", "enable", "--now", "mird")
    return machine


def main_pid(machine: "Machine") -> int:
    return int(machine.show("MainPID"))


def send(machine: "Machine", signal: str) -> None:
    """Send the daemon a signal, as `kill` does."""
    machine.do("systemctl", "kill", "--kill-whom=main", f"--signal={signal}", "mird")


def restarted(machine: "Machine", pid: int) -> bool:
    """Whether the service is up again as another process."""
    return machine.show("SubState") == "running" and main_pid(machine) not in (0, pid)


def has_device(machine: "Machine") -> bool:
    """Whether it listens: the null sink gives exact zeros while nothing is played, which is told as STALLED."""
    return machine.show("StatusText").startswith(("LIVE: ", "STALLED: "))


def classes(machine: "Machine", user: str) -> set[str]:
    listing = machine.do("mird", "classes", "--json", user=user)
    return {json.loads(line)["name"] for line in listing.splitlines()}


def test_without_rights_it_is_not_installed(service: "Machine") -> None:
    done = service.run("mird", "install-service", user="ada")
    assert done.returncode == 12
    assert done.stderr.startswith("mird: error: a system service needs the rights of root; use sudo, or --user")


def test_it_is_ready_before_there_is_a_device_and_starts_at_boot(service: "Machine") -> None:
    assert service.show("SubState") == "running"
    assert service.show("UnitFileState") == "enabled"
    service.until(lambda: service.show("StatusText").startswith("WAITING: "), "its state in systemctl status")


def test_it_runs_without_rights(service: "Machine") -> None:
    status = dict(line.split(":\t", 1) for line in service.do("cat", f"/proc/{main_pid(service)}/status").splitlines())
    uid = service.do("id", "--user", "mird").strip()
    assert set(status["Uid"].split()) == {uid} != {"0"}
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_it_names_what_is_played(service: "Machine", demonstration: "Demonstration") -> None:
    """Through ALSA's default device, a sound server, PortAudio and ZeroMQ, within the unit's sandbox."""
    service.do("systemctl", "start", "sound-server")
    service.until(lambda: has_device(service), "the device that came later")
    samples, rate_hz = soundfile.read(demonstration.path, dtype="float32")
    spans = demonstration.spans[:N_SPANS]
    soundfile.write(service.folder / "played.wav", samples[: round(spans[-1][1] * rate_hz)], rate_hz)
    wanted = [label for _, _, label in spans]
    with service.running(
        "mird", "listen", "--json", "--kind=event", "--kind=frame", "--kind=state", "--only-channel=1", user="bob"
    ) as lines:

        def told(kind: str, since: int = 0) -> list[dict[str, Any]]:
            return [message for message in map(json.loads, lines()[since:]) if message["kind"] == kind]

        service.until(lambda: told("state"), "the state, which whoever joins is told")
        assert told("state")[0]["state"] in ("LIVE", "STALLED")
        heard: list[list[str]] = []
        while wanted not in heard and len(heard) < 3:  # a dropout on a busy machine parts what sounds in two
            n_before = len(lines())
            service.do("paplay", "/opt/shared/played.wav")
            service.until(partial(silent_again, partial(told, "frame", n_before)), "the silence after it")
            heard.append(heard_long(told("event", n_before)))
        assert wanted in heard


def silent_again(frames: Callable[[], list[dict[str, Any]]]) -> bool:
    """Whether something sounded and then nothing for two seconds; the pauses between the instruments have one."""
    silent = [frame["label"] == "silence" for frame in frames()]
    return not all(silent) and all(silent[-20:])


def heard_long(events: list[dict[str, Any]]) -> list[str]:
    """What sounded for more than a second, in its order."""
    ends = [event for event in events if event["event"] == "end"]
    return [end["label"] for end in ends if end["sample_end"] - end["sample_start"] > end["rate_hz"]]


def test_whoever_is_in_its_group_may_teach_it_and_nobody_else(service: "Machine") -> None:
    said = service.do("mird", "enroll", "ada's viola", "/opt/shared/played.wav", user="ada")
    assert "ada's viola" in said
    assert "ada's viola" in classes(service, "ada")
    done = service.run("mird", "classes", "--control", CONTROL, user="bob")
    assert done.returncode == 8
    assert "permission denied" in done.stderr


def told_since_reload(machine: "Machine", words: str) -> bool:
    return words in machine.journal().rpartition("Reloading mird")[2]


def test_it_reloads(service: "Machine") -> None:
    pid = main_pid(service)
    for text, said in (("hold_ms = 250\n", "hold_ms"), ("hold_ms = -1\n", "must be a whole number"), ("", "hold_ms")):
        service.write("/etc/mird/mird.toml", text)
        service.do("systemctl", "reload", "mird")
        service.until(partial(told_since_reload, service, said), f"a word of {said}")
        assert service.show("SubState") == "running"
        assert main_pid(service) == pid


def test_a_loop_that_is_stopped_is_started_anew(service: "Machine") -> None:
    """With a watchdog that is more impatient than what is shipped; not for long, since it bites who pauses, too."""
    service.write(DROP_IN, f"[Service]\nWatchdogSec={WATCHDOG_S:g}\n")
    try:
        service.do("systemctl", "daemon-reload")
        service.do("systemctl", "restart", "mird")
        pid = main_pid(service)
        send(service, "STOP")
        service.until(lambda: restarted(service, pid), "the watchdog's restart")
        service.until(lambda: "watchdog" in service.journal().lower(), "the reason in the journal")
    finally:
        service.do("rm", DROP_IN)
        service.do("systemctl", "daemon-reload")
        service.do("systemctl", "restart", "mird")


def test_a_kill_loses_nothing_that_was_enrolled(service: "Machine") -> None:
    service.do("mird", "enroll", "bass oboe", "/opt/shared/played.wav", user="ada")
    pid = main_pid(service)
    send(service, "KILL")
    service.until(lambda: restarted(service, pid), "the restart")
    assert {"ada's viola", "bass oboe"} <= classes(service, "ada")


def test_what_a_restart_does_not_mend_is_not_tried_again(service: "Machine") -> None:
    service.write("/etc/mird/mird.toml", 'source = "radio"\n')
    assert service.run("systemctl", "restart", "mird").returncode != 0
    assert service.show("ActiveState") == "failed"
    service.until(lambda: "'radio' is no source" in service.journal(), "the reason in the journal")
    assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("3", "0")
    service.write("/etc/mird/mird.toml", "")
    service.do("systemctl", "start", "mird")


def test_it_stops_at_once(service: "Machine") -> None:
    def attempt() -> float:
        service.do("systemctl", "start", "mird")
        service.until(lambda: has_device(service), "the device")
        began_s = time.monotonic()
        service.do("systemctl", "stop", "mird")
        took_s = time.monotonic() - began_s
        assert service.show("Result") == "success"
        assert service.run("ls", "/run/mird").returncode != 0, "its sockets are gone"
        return took_s

    assert quickest(attempt, STOPS_WITHIN_S) < STOPS_WITHIN_S


def test_an_edited_unit_is_left_alone(service: "Machine") -> None:
    before = service.do("cat", UNIT)
    service.write(UNIT, f"{before}# mine\n")
    for options in ([], ["--remove"]):
        done = service.run("mird", "install-service", *options)
        assert done.returncode == 12
        assert "was edited" in done.stderr
    service.write(UNIT, before)


def test_it_is_removed_and_what_it_learned_is_kept(service: "Machine") -> None:
    said = service.do("mird", "install-service", "--remove")
    assert f"removed {UNIT}" in said
    assert service.show("LoadState") == "not-found"
    assert "support.mird" in service.do("ls", "/var/lib/mird").split()
    assert service.run("mird", "install-service", "--remove").returncode == 12
