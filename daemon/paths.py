"""Where things are: settings files, the support set, the control socket and what the package ships.

A system service is told its folders by systemd (``STATE_DIRECTORY``, ``RUNTIME_DIRECTORY``), a user's are those of the
XDG base directory specification. Nothing here is created but the runtime folder, by :func:`make_runtime_folder`.
"""

import os
import stat
from importlib.resources import files
from pathlib import Path

from mird.daemon.errors import SettingsError

SYSTEM_SETTINGS = Path("/etc/mird/mird.toml")

SYSTEM_CONTROL = Path("/run/mird/control")
"""Control socket of the system service, open to its group."""


def shipped(name: str) -> Path:
    """A file or folder that the package ships.

    Parameters
    ----------
    name : str
        Path inside ``mird.configs``, such as ``"demo"``.
    """
    return Path(str(files("mird.configs").joinpath(name)))


def settings_files() -> tuple[Path, ...]:
    """The settings files that are read where they exist, the weakest first."""
    return (SYSTEM_SETTINGS, user_config_folder() / "mird" / "mird.toml")


def user_config_folder() -> Path:
    """The folder of this user's settings, of all programs; SettingsError where the user has no home."""
    return _xdg_folder("XDG_CONFIG_HOME", ".config")


def support_file() -> Path:
    """The support set that enrolment changes.

    Raises
    ------
    SettingsError
        No variable names a folder and the user has no home.
    """
    state = _first_folder("STATE_DIRECTORY")
    if state is not None:
        return state / "support.mird"
    return _xdg_folder("XDG_DATA_HOME", ".local/share") / "mird" / "support.mird"


def engine_cache() -> Path:
    """The folder of compiled engines; what is in it can be made anew.

    Raises
    ------
    SettingsError
        No variable names a folder and the user has no home.
    """
    cache = _first_folder("CACHE_DIRECTORY")
    return (cache or _xdg_folder("XDG_CACHE_HOME", ".cache") / "mird") / "engines"


def runtime_folder() -> Path:
    """The folder of the control socket."""
    folder = _first_folder("RUNTIME_DIRECTORY")
    if folder is not None:
        return folder
    session = _absolute("XDG_RUNTIME_DIR")
    if session is not None:
        return session / "mird"
    if os.getuid() == 0:
        return Path("/run/mird")
    return Path(f"/tmp/mird-{os.getuid()}")


def control_endpoint() -> str:
    """The default address of a daemon's control socket."""
    return f"ipc://{runtime_folder() / 'control'}"


def reached_control_endpoint() -> str:
    """The address that a command asks at: this user's own daemon's, else the system service's if this user may."""
    if not os.access(runtime_folder() / "control", os.F_OK) and os.access(SYSTEM_CONTROL, os.W_OK):
        return f"ipc://{SYSTEM_CONTROL}"
    return control_endpoint()


def make_runtime_folder() -> Path:
    """Make the runtime folder where it is missing, open to its owner alone.

    Returns
    -------
    Path
        The folder. One that systemd made keeps the mode that its unit gives it.

    Raises
    ------
    SettingsError
        It cannot be made, or stands in ``/tmp`` and is not this user's own: another could answer in the daemon's place.
    """
    folder = runtime_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise SettingsError(
            f"runtime folder {folder}: {error.strerror}; set XDG_RUNTIME_DIR to a folder of your own"
        ) from error
    if _first_folder("RUNTIME_DIRECTORY") is None and (
        not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077
    ):
        raise SettingsError(
            f"runtime folder {folder}: not a folder that is this user's own with mode 0700; remove it, or set "
            "XDG_RUNTIME_DIR to a folder of your own"
        )
    return folder


def _xdg_folder(variable: str, under_home: str) -> Path:
    folder = _absolute(variable)
    if folder is not None:
        return folder
    try:
        return Path.home() / under_home
    except RuntimeError as error:
        raise SettingsError(f"this user has no home folder; set {variable} or HOME") from error


def _absolute(variable: str) -> Path | None:
    """The folder that a variable names; one that is not absolute counts as unset, as the specification says."""
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else None


def _first_folder(variable: str) -> Path | None:
    """The first of the folders in one of systemd's variables, which separates several by colons."""
    value = os.environ.get(variable, "").split(":", 1)[0]
    return Path(value) if value.startswith("/") else None
