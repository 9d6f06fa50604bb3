"""A machine with a systemd of its own: this one's files under an overlay, booted in a container without a network.

What is installed in it is a wheel, under /opt/mird, as an administrator would do it; its dependencies are those that
the tests run with. Its sound server has one null sink, which the default device of ALSA leads to.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

SOUND = "unix:/run/sound/native"
PATIENCE_S = 60.0
"""For what takes a second or two on an idle machine."""
BOOTED_WITHIN_S = 300.0
"""With a virtual environment made and mird installed: ten seconds on an idle machine."""

# $1: the place of the mounts, $2: the interpreter's folder, $3: its packages, $4: a folder with a wheel,
# $5: the interpreter's name.
PREPARE = """
set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
rm -rf etc/systemd/system/*.wants etc/machine-id
mkdir -p opt/python opt/packages opt/mird opt/shared
mount --bind "$2" opt/python
mount --bind "$3" opt/packages
mount --bind "$4" opt/shared
cp opt/shared/sound-server.service etc/systemd/system/
cp opt/shared/asound.conf etc/
mkdir -p etc/pulse
cp opt/shared/client.conf etc/pulse/
echo /opt/python/lib >etc/ld.so.conf.d/zz-mird-tests.conf
chroot . ldconfig
chroot . "/opt/python/bin/$5" -m venv --without-pip /opt/mird
chroot . env PYTHONPATH=/opt/packages /opt/mird/bin/python -m pip --quiet --disable-pip-version-check \\
    install --no-deps --no-index --ignore-installed opt/shared/*.whl
echo /opt/packages >"$(echo opt/mird/lib/python3*/site-packages)/packages.pth"
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
exec systemd-nspawn --quiet --register=no --keep-unit --console=pipe --machine=mird-tests --directory="$1/root" \\
    --private-network --boot </dev/null
"""

SOUND_SERVER = """
[Service]
Type=notify
RuntimeDirectory=sound
Environment=HOME=/run/sound XDG_RUNTIME_DIR=/run/sound
ExecStart=pulseaudio -n --daemonize=no --use-pid-file=no --exit-idle-time=-1 --disable-shm=yes \\
    -L "module-native-protocol-unix socket=/run/sound/native auth-anonymous=1" \\
    -L "module-null-sink sink_name=mird channels=1 rate=44100"
"""

CLIENT = f"""
default-server = {SOUND}
autospawn = no
enable-shm = no
cookie-file = /run/sound/cookie
"""


class NotBootedError(Exception):
    """The container did not come up; the message is what its programs said."""


class Machine:
    """The container.

    Parameters
    ----------
    folder : Path
        An empty folder, for its mounts.
    wheel : Path
        The mird to install.

    Attributes
    ----------
    folder : Path
        The same; the machine sees what is in it under /opt/shared.
    """

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        folder.chmod(
            0o755
        )  # the people of the machine get at it; those of this one do not, for it is in a closed folder
        shutil.copy(wheel, folder)
        (folder / "sound-server.service").write_text(SOUND_SERVER)
        (folder / "asound.conf").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        (folder / "client.conf").write_text(CLIENT)
        (folder / "mounts").mkdir()
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        words = [f"{folder}/mounts", sys.base_prefix, sysconfig.get_paths()["purelib"], str(folder), python]
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "bash", "-c", PREPARE, "mird-tests", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._init = 0
        deadline_s = time.monotonic() + BOOTED_WITHIN_S
        while not self._booted():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.close()
                raise NotBootedError(self._log.read_text())
            time.sleep(0.1)

    def _booted(self) -> bool:
        """Whether its systemd answers, and has come to rest."""
        if not self._init:
            inits = [child for child in psutil.Process(self._process.pid).children() if child.name() == "systemd"]
            self._init = inits[0].pid if inits else 0
        return bool(self._init) and self.run("systemctl", "is-system-running").stdout in ("running\n", "degraded\n")

    def run(self, *command: str | Path, user: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end, as root or as a user of the machine."""
        return subprocess.run(
            self._words(command, user),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def do(self, *command: str | Path, user: str = "") -> str:
        """Run a command that must end well; what it wrote."""
        done = self.run(*command, user=user)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.journal()}"
        return done.stdout

    @contextmanager
    def running(self, *command: str | Path, user: str = "") -> Iterator[Callable[[], list[str]]]:
        """Run a command in it meanwhile; gives a function that tells the lines that it has written so far."""
        out = self.folder / "out"
        with out.open("wb") as file:
            process = subprocess.Popen(self._words(command, user), stdin=subprocess.DEVNULL, stdout=file)
        try:
            yield lambda: [line for line in out.read_text().splitlines(keepends=True) if line.endswith("\n")]
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.wait()

    def write(self, path: str, text: str) -> None:
        """Write a file in it, and the folder that it is in."""
        place = Path(f"/proc/{self._init}/root{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def show(self, name: str, unit: str = "mird") -> str:
        """A property of a unit of the system's."""
        return self.do("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self) -> str:
        """What mird and systemd said of it."""
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit=mird").stdout[-4000:]

    def until(self, true: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> float:
        """Wait until something is so; how long it took."""
        began_s = time.monotonic()
        while not true():
            assert time.monotonic() - began_s < timeout_s, f"{what}: not within {timeout_s:g} s\n{self.journal()}"
            time.sleep(0.05)
        return time.monotonic() - began_s

    def close(self) -> None:
        """Switch it off."""
        if self._init:
            os.kill(self._init, 9)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _words(self, command: tuple[str | Path, ...], user: str) -> list[str | Path]:
        words: list[str | Path] = [
            "nsenter",
            f"--target={self._init}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--",
        ]
        words += ["env", "-i", "PATH=/opt/mird/bin:/usr/bin:/usr/sbin:/bin:/sbin", "LANG=C.UTF-8"]
        if user:
            words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "env", f"HOME=/home/{user}"]
        return [*words, *command]


@pytest.fixture(scope="session")
def machine(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A booted machine with mird in /opt/mird."""
    if os.geteuid() != 0:
        pytest.skip("only root can boot a container")
    missing = [
        program
        for program in ("systemd-nspawn", "unshare", "nsenter", "setpriv", "pulseaudio", "paplay", "useradd")
        if shutil.which(program) is None
    ]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    try:
        one = Machine(tmp_path_factory.mktemp("machine"), wheel)
    except NotBootedError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no container here: {error}")
    try:
        yield one
    finally:
        one.close()
