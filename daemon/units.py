"""The systemd units that mird ships: written where systemd looks for them, and removed again.

A file that is written begins with a line that holds a checksum of the rest. So an installed unit that somebody edited
is told from one of an earlier mird: the one is never overwritten unasked, the other is brought up to date.
"""

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from mird.daemon.errors import ServiceError
from mird.daemon.paths import shipped, user_config_folder

SYSTEM_UNIT: Final = Path("/etc/systemd/system/mird.service")
SYSUSERS: Final = Path("/etc/sysusers.d/mird.conf")

HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""Folders that the system unit's ProtectHome and PrivateTmp hide."""

SINCE: Final = {"RestartSteps": 254, "RestartMaxDelaySec": 254}
"""Directives that an older systemd would warn of with each of its reloads: with the version that understands them."""

_SEAL = re.compile(r"# mird install-service (\S+) sha256=([0-9a-f]{64})\n")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Service:
    """A service as it is to be installed.

    Attributes
    ----------
    unit : Path
        Its unit file.
    files : Mapping[Path, str]
        What is written, unsealed: the unit and what it needs.
    user : bool
        Whether it is a user's own.
    """

    unit: Path
    files: Mapping[Path, str]
    user: bool


def service(*, user: bool) -> Service:
    """The service that runs this installation of mird.

    Raises
    ------
    ServiceError
        The program has a path that no unit can name.
    """
    program = installed_program()
    unit = user_unit() if user else SYSTEM_UNIT
    template = shipped("systemd/mird-user.service" if user else "systemd/mird.service").read_text(encoding="utf-8")
    files = {unit: understood(template, systemd_version()).replace("@MIRD@", escaped(program))}
    if not user:
        files = {SYSUSERS: shipped("systemd/mird.sysusers.conf").read_text(encoding="utf-8"), **files}
    return Service(unit, files, user)


def understood(template: str, version: int | None) -> str:
    """A unit without the directives that a systemd of this version does not know; None knows them all."""
    lines = template.splitlines(keepends=True)
    return "".join(line for line in lines if version is None or SINCE.get(line.partition("=")[0], 0) <= version)


def systemd_version() -> int | None:
    """The version of the systemd here; None where there is none to ask."""
    try:
        said = subprocess.run(
            ["systemctl", "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return None
    match = re.match(r"systemd (\d+)", said)
    return int(match[1]) if match else None


def user_unit() -> Path:
    """Where a user's unit stands."""
    return user_config_folder() / "systemd" / "user" / "mird.service"


def installed_program() -> Path:
    """The ``mird`` of this installation."""
    beside = Path(sys.executable).with_name("mird")
    return beside if beside.exists() else Path(sys.argv[0]).absolute()


def escaped(program: Path) -> str:
    """A program's path as ExecStart takes it."""
    text = str(program)
    if not text.isprintable() or set(text) & set("\"'\\$"):
        raise ServiceError(f"{text!r}: systemd cannot run a program in a folder of that name; install mird elsewhere")
    text = text.replace("%", "%%")
    return f'"{text}"' if " " in text else text


def check_reachable(*paths: Path) -> None:
    """Make sure that the system service, which is another user and does not see homes, gets at its own program.

    Raises
    ------
    ServiceError
        It does not; the message has the commands that install mird where it does.
    """
    for path in paths:
        hidden = next((folder for folder in HIDDEN if path.is_relative_to(folder)), None)
        closed = hidden or next((each for each in path.parents if not each.stat().st_mode & stat.S_IXOTH), None)
        if closed:
            raise ServiceError(
                f"a system service does not get at {path}, since {closed} is closed to it; install mird for all: "
                "python3 -m venv /opt/mird && /opt/mird/bin/pip install . && /opt/mird/bin/mird install-service "
                "(or a service of your own: mird install-service --user)"
            )


def check_unedited(files: Mapping[Path, str], *, replace: bool = False) -> list[Path]:
    """The files that are there and not as some mird wrote them.

    Raises
    ------
    ServiceError
        There are such files, and `replace` is not set; or one cannot be read.
    """
    edited = [path for path in files if path.exists() and not _is_ours(path)]
    if edited and not replace:
        raise ServiceError(
            f"{edited[0]} was edited or is not of mird, and is left alone; keep your changes in a drop-in "
            "(systemctl edit mird) and put the file aside with --replace"
        )
    return edited


def write(files: Mapping[Path, str], say: Say, *, replace: bool = False) -> None:
    """Write files with their seals.

    Parameters
    ----------
    files : Mapping[Path, str]
    say : Callable[[str], None]
        Is told each step.
    replace : bool
        Put a file that somebody edited aside, as ``NAME.old``.

    Raises
    ------
    ServiceError
        A file was edited and `replace` is not set, in which case none is written, or cannot be written.
    """
    edited = check_unedited(files, replace=replace)
    for path, body in files.items():
        text = f"# mird install-service {version('mird')} sha256={_digest(body)}\n{body}"
        try:
            if path in edited:
                path.replace(path.with_name(f"{path.name}.old"))
                say(f"kept the edited one as {path}.old")
            elif path.exists() and path.read_text(encoding="utf-8") == text:
                say(f"{path} is as it should be")
                continue
            verb = "brought up to date" if path.exists() else "wrote"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644)
        except OSError as error:
            raise ServiceError(f"{path} cannot be written: {error.strerror}; {_rights()}") from error
        say(f"{verb} {path}")


def remove(files: Mapping[Path, str], say: Say, *, replace: bool = False) -> None:
    """Remove what :func:`write` wrote, under the same conditions.

    Raises
    ------
    ServiceError
        A file was edited, or cannot be removed.
    """
    edited = check_unedited(files, replace=replace)
    for path in files:
        try:
            if path in edited:
                path.replace(path.with_name(f"{path.name}.old"))
                say(f"kept the edited one as {path}.old")
            elif path.exists():
                path.unlink()
                say(f"removed {path}")
        except OSError as error:
            raise ServiceError(f"{path} cannot be removed: {error.strerror}; {_rights()}") from error


def systemd_runs(*, user: bool) -> bool:
    """Whether there is a systemd that can be told about units: the machine's, or this user's."""
    if shutil.which("systemctl") is None or not Path("/run/systemd/system").is_dir():
        return False
    if not user:
        return True
    asked = ["systemctl", "--user", "show-environment"]
    return subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def run(*command: str) -> None:
    """Run a program of systemd's.

    Raises
    ------
    ServiceError
        It fails or is missing; the message is what it says.
    """
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ServiceError(f"{command[0]} cannot be run: {error.strerror}; a service needs systemd") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        raise ServiceError(f"{' '.join(command)} failed: {said}")


def _is_ours(path: Path) -> bool:
    """Whether a file is as some mird wrote it."""
    try:
        seal, _, body = path.read_text(encoding="utf-8").partition("\n")
    except OSError as error:
        raise ServiceError(f"{path} cannot be read: {error.strerror}; {_rights()}") from error
    except UnicodeDecodeError:
        return False
    match = _SEAL.fullmatch(f"{seal}\n")
    return match is not None and match[2] == _digest(body)


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _rights() -> str:
    return (
        "look at its folder" if os.geteuid() == 0 else "run it as root (sudo), or with --user for a service of your own"
    )
