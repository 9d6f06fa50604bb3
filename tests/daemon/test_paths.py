"""Where settings, the support set and the control socket are."""

import os
from pathlib import Path

import pytest

from mird.daemon import paths
from mird.daemon.errors import SettingsError


def test_a_service_keeps_its_state_where_systemd_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/mird:/var/lib/other")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/mird-stage")
    assert paths.support_file() == Path("/var/lib/mird/support.mird")
    assert paths.control_endpoint() == "ipc:///run/mird-stage/control"


def test_a_user_has_the_xdg_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/home/ada/data")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/ada/config")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert paths.support_file() == Path("/home/ada/data/mird/support.mird")
    assert paths.settings_files() == (Path("/etc/mird/mird.toml"), Path("/home/ada/config/mird/mird.toml"))
    assert paths.runtime_folder() == Path("/run/user/1000/mird")


def test_a_relative_xdg_folder_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert paths.support_file() == Path("/home/ada/.local/share/mird/support.mird")


def test_a_command_asks_the_user_s_own_daemon_else_the_system_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    system = tmp_path / "system"
    monkeypatch.setattr(paths, "SYSTEM_CONTROL", system)
    own = tmp_path / "mird" / "control"
    assert paths.reached_control_endpoint() == f"ipc://{own}"
    system.touch()
    assert paths.reached_control_endpoint() == f"ipc://{system}"
    own.parent.mkdir()
    own.touch()
    assert paths.reached_control_endpoint() == f"ipc://{own}"


def test_the_runtime_folder_is_its_owner_s_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = paths.make_runtime_folder()
    assert folder == tmp_path / "mird"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert paths.make_runtime_folder() == folder


def test_a_runtime_folder_open_to_others_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "mird"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(SettingsError, match=r"mode 0700"):
        paths.make_runtime_folder()


def test_a_runtime_folder_that_is_a_link_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "mird").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match=r"runtime folder .*/mird: "):
        paths.make_runtime_folder()


def test_a_runtime_folder_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "file"))
    with pytest.raises(SettingsError, match=rf"{tmp_path}/file/mird: .*XDG_RUNTIME_DIR"):
        paths.make_runtime_folder()


def test_without_a_session_the_runtime_folder_has_the_user_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    expected = Path("/run/mird") if os.getuid() == 0 else Path(f"/tmp/mird-{os.getuid()}")
    assert paths.runtime_folder() == expected


def test_what_the_package_ships_is_found() -> None:
    assert paths.shipped("__init__.py").is_file()
