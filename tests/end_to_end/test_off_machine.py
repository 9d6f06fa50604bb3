"""The installed command over an address that is not of this machine alone: with keys, with wrong ones, without."""

import json
import socket as sockets
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Demonstration, User

pytestmark = pytest.mark.system


def free_port() -> int:
    with sockets.create_server(("0.0.0.0", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def addresses() -> tuple[str, str]:
    """Two that are free now."""
    return f"tcp://0.0.0.0:{free_port()}", f"tcp://0.0.0.0:{free_port()}"


def test_a_daemon_is_taught_from_elsewhere_by_who_has_a_key(user: "User", demonstration: "Demonstration") -> None:
    source = ("--source", f"file:{demonstration.path}", "--loop")
    publish, control = addresses()
    refused = user.run("run", "--quiet", *source, "--publish", publish, "--control", control)
    assert refused.returncode == 7
    assert "make them with: mird keys server" in refused.stderr

    assert user.run("keys", "server").returncode == 0
    for name in ("stage", "stranger"):
        assert user.run("keys", "client", name, "--out", user.folder / name).returncode == 0
    assert user.run("keys", "remove", "stranger").returncode == 0
    stage, stranger = (("--keys", user.folder / name) for name in ("stage", "stranger"))

    publish, control = addresses()
    with user.daemon(*source, "--publish", publish, "--control", control):
        user.environment["MIRD_PUBLISH"] = publish
        with user.listening() as listener:  # the daemon's own user has a key in the usual place
            listener.first(lambda message: message["kind"] == "state" and message["state"] == "LIVE")
        enrolled = user.run("enroll", "my piano", demonstration.path, "--control", control, *stage)
        assert enrolled.returncode == 0, enrolled.stderr
        known = user.run("classes", "--json", "--control", control, *stage).stdout.splitlines()
        assert "my piano" in {json.loads(line)["name"] for line in known}
        for command in (("listen", "--json"), ("classes", "--control", control), ("stop", "--control", control)):
            done = user.run(*command, *stranger)
            assert (done.returncode, done.stdout) == (8, "")
            assert "refuses our key" in done.stderr
        status = json.loads(user.run("status", "--json", "--control", control, *stage).stdout)
        assert status["n_shut_out"] >= 3
