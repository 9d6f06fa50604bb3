"""A user's own service under a real systemd of that user's, with a login that has ended."""

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.systemd.conftest import Machine

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]  # the first of them boots the machine

NAME = "eve"


def test_a_user_installs_a_service_and_takes_it_back(machine: "Machine") -> None:
    machine.do("useradd", "--create-home", NAME)
    machine.do("loginctl", "enable-linger", NAME)
    number = machine.do("id", "--user", NAME).strip()
    machine.until(lambda: machine.show("ActiveState", f"user@{number}") == "active", "the user's systemd")
    machine.do("systemctl", "start", "sound-server")
    own = ("env", f"XDG_RUNTIME_DIR=/run/user/{number}")

    said = machine.do(*own, "mird", "install-service", "--user", "--now", user=NAME)
    assert f"wrote /home/{NAME}/.config/systemd/user/mird.service" in said
    assert "enabled and started" in said

    def shown(name: str) -> str:
        told = machine.do(*own, "systemctl", "--user", "show", "--value", f"--property={name}", "mird", user=NAME)
        return told.strip()

    machine.until(lambda: shown("StatusText").startswith(("LIVE: ", "STALLED: ")), "the device")
    assert shown("SubState") == "running"
    # Its commands find it, and its support set is the one that they use without it.
    status = json.loads(machine.do(*own, "mird", "status", "--json", user=NAME))
    assert status["support"] == f"/home/{NAME}/.local/share/mird/support.mird"
    pid = shown("MainPID")
    machine.do(*own, "systemctl", "--user", "kill", "--kill-whom=main", "--signal=KILL", "mird", user=NAME)
    machine.until(lambda: shown("SubState") == "running" and shown("MainPID") not in ("0", pid), "the restart")

    said = machine.do(*own, "mird", "install-service", "--user", "--remove", user=NAME)
    assert "stopped and disabled" in said
    assert shown("LoadState") == "not-found"
