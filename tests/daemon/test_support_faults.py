"""A support set's file under kill -9, full disks and editors at the same time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mird.daemon.support import load

FINGERPRINT = "light-0123456789abcdef"
SAVER = Path(__file__).with_name("saver.py")
TMPFS = ("unshare", "--mount", "--map-root-user") if os.getuid() else ("unshare", "--mount")


def run(*arguments: str | Path, before: tuple[str, ...] = ()) -> str:
    command = [*before, sys.executable, str(SAVER), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tmpfs_mounts() -> bool:
    """Whether this process may mount a file system that nobody else sees."""
    command = [*TMPFS, "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_no_kill_at_a_random_moment_tears_the_file(tmp_path: Path) -> None:
    out = run("kill-at-random", tmp_path / "support.mird", "1000")
    found = re.fullmatch(r"whole (\d+) (\d+) files 1\n", out)
    assert found, out
    assert min(map(int, found.groups())) > 0
    assert sum(map(int, found.groups())) == 1000


def test_no_kill_before_any_step_of_a_save_tears_the_file(tmp_path: Path) -> None:
    out = run("kill-at-each-step", tmp_path / "support.mird")
    assert re.fullmatch(r"steps o{5,}n{2,}\n", out), out


def test_no_loss_of_power_tears_the_file(tmp_path: Path) -> None:
    """At every step and 1,000 times at random: what was not forced to the disk is lost, torn or filled with zeros."""
    out = run("lose-power", tmp_path / "support.mird", "1000")
    found = re.fullmatch(r"moments (\d+) old (\d+) new (\d+)\n", out)
    assert found, out
    n_moments, n_old, n_new = map(int, found.groups())
    assert n_moments >= 8
    assert n_old + n_new == n_moments + 1_000
    assert min(n_old, n_new) > 100


@pytest.mark.parametrize("disk", ["limited", "tmpfs"] if tmpfs_mounts() else ["limited"])
def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, disk: str) -> None:
    path = tmp_path / "support.mird"
    if disk == "tmpfs":
        script = f'mount -t tmpfs -o size=128k none {tmp_path} && exec "$@"'
        reason, out = "No space left on device", run("fill", path, "0", before=(*TMPFS, "sh", "-c", script, "sh"))
    else:
        reason, out = "File too large", run("fill", path, "100000")
    assert f"refused: support set {path} cannot be written: {reason}; it is as it was" in out
    assert "files ['support.mird']" in out


def test_editors_at_the_same_time_lose_no_class(tmp_path: Path) -> None:
    path = tmp_path / "support.mird"
    commands = [[sys.executable, str(SAVER), "enrol", str(path), who, "40"] for who in ("daemon", "command", "other")]
    editors = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for editor in editors:
        stderr = editor.communicate(timeout=60)[1]
        assert editor.returncode == 0, stderr
    support = load(path, FINGERPRINT)
    expected = {f"{who} {index}" for who in ("daemon", "command", "other") for index in range(40)}
    assert set(support.names) == expected | {"class 0"}
    assert support.revision == 1 + 120
