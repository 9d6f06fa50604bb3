"""The units that are shipped, and the care with which they are installed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mird.daemon import units
from mird.daemon.errors import ServiceError
from mird.daemon.paths import shipped

MAX_EXPOSURE = 2.0


@pytest.fixture
def written(tmp_path: Path) -> dict[Path, str]:
    return {tmp_path / "sysusers.d" / "mird.conf": "u mird\n", tmp_path / "system" / "mird.service": "[Unit]\n"}


def installed(folder: Path, *, user: bool) -> Path:
    """A unit as it is installed, that runs a program there is."""
    unit = folder / "mird.service"
    name = "systemd/mird-user.service" if user else "systemd/mird.service"
    unit.write_text(units.understood(shipped(name).read_text(), units.systemd_version()).replace("@MIRD@", "/bin/true"))
    return unit


def systemd(*command: str | Path) -> str:
    program = shutil.which(str(command[0]))
    if program is None:
        pytest.skip(f"needs {command[0]}")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("user", [False, True], ids=["system", "user"])
def test_systemd_understands_the_unit(tmp_path: Path, user: bool) -> None:
    said = systemd(
        "systemd-analyze", *(["--user"] if user else []), "verify", "--man=no", installed(tmp_path, user=user)
    )
    assert "mird.service" not in said


@pytest.mark.parametrize("user", [False, True], ids=["system", "user"])
def test_an_older_systemd_gets_no_directive_that_it_would_warn_of(user: bool) -> None:
    template = shipped("systemd/mird-user.service" if user else "systemd/mird.service").read_text()
    older, newer = (units.understood(template, version).splitlines() for version in (253, 254))
    assert [line for line in newer if line not in older] == ["RestartSteps=4", "RestartMaxDelaySec=8"]
    assert "RestartSec=1" in older
    assert units.understood(template, None).splitlines() == newer == template.splitlines()


def test_the_exposure_of_the_system_service(tmp_path: Path) -> None:
    said = systemd("systemd-analyze", "security", "--offline=yes", "--no-pager", installed(tmp_path, user=False))
    found = re.search(r"Overall exposure level for mird\.service: ([\d.]+)", said)
    assert found, said
    assert float(found[1]) <= MAX_EXPOSURE


def test_files_are_written_once_and_removed(written: dict[Path, str]) -> None:
    said: list[str] = []
    units.write(written, said.append)
    assert said == [f"wrote {path}" for path in written]
    for path, body in written.items():
        assert path.read_text().endswith(f"\n{body}")
        assert path.stat().st_mode & 0o777 == 0o644
    said.clear()
    units.write(written, said.append)
    assert said == [f"{path} is as it should be" for path in written]
    said.clear()
    units.remove(written, said.append)
    assert said == [f"removed {path}" for path in written]
    assert not any(path.exists() for path in written)


def test_the_files_of_an_earlier_mird_are_brought_up_to_date(written: dict[Path, str]) -> None:
    units.write(written, lambda _: None)
    newer = {path: f"{body}# more\n" for path, body in written.items()}
    said: list[str] = []
    units.write(newer, said.append)
    assert said == [f"brought up to date {path}" for path in written]
    assert all(path.read_text().endswith("# more\n") for path in written)


@pytest.mark.parametrize("edited", [lambda text: f"{text}Nice=-5\n", lambda _: "[Service]\n", lambda _: "\udcff"])
@pytest.mark.parametrize("change", [units.write, units.remove])
def test_an_edited_unit_is_left_alone_unless_told_so(written: dict[Path, str], change, edited) -> None:  # type: ignore[no-untyped-def]
    units.write(written, lambda _: None)
    conf, unit = written
    text = edited(unit.read_text())
    unit.write_text(text, errors="surrogateescape")
    before = conf.read_text()
    with pytest.raises(ServiceError, match=rf"^{unit} was edited .*--replace$"):
        change(written, lambda _: None)
    assert unit.read_text(errors="surrogateescape") == text
    assert conf.read_text() == before, "nothing else was changed either"
    change(written, lambda _: None, replace=True)
    assert (unit.parent / "mird.service.old").read_text(errors="surrogateescape") == text
    assert unit.exists() == (change is units.write)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match=r"mird\.service cannot be written: File exists; look at its folder$"):
        units.write({tmp_path / "file" / "mird.service": ""}, lambda _: None)


@pytest.mark.parametrize(
    ("path", "hidden"), [("/home/ada/.venv/bin/mird", "/home"), ("/root/mird", "/root"), ("/var/tmp/mird", "/var/tmp")]
)
def test_a_program_that_the_service_cannot_see_is_refused(path: str, hidden: str) -> None:
    with pytest.raises(ServiceError, match=rf"does not get at {path}, since {hidden} is closed .*/opt/mird.*--user"):
        units.check_reachable(Path("/usr/bin/env"), Path(path))


def test_a_folder_that_others_cannot_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "HIDDEN", ())
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(ServiceError, match="is closed to it; install mird for all"):
        units.check_reachable(closed / "mird")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/opt/mird/bin/mird", "/opt/mird/bin/mird"),
        ("/opt/my mird/bin/mird", '"/opt/my mird/bin/mird"'),
        ("/opt/100%/mird", "/opt/100%%/mird"),
    ],
)
def test_paths_are_written_as_systemd_reads_them(path: str, text: str) -> None:
    assert units.escaped(Path(path)) == text


@pytest.mark.parametrize("path", ['/opt/"x"/mird', "/opt/$HOME/mird", "/opt/a\nb/mird", "/opt/a\\b/mird"])
def test_paths_that_systemd_cannot_read_are_refused(path: str) -> None:
    with pytest.raises(ServiceError, match="install mird elsewhere"):
        units.escaped(Path(path))


def test_the_unit_runs_this_installation() -> None:
    service = units.service(user=False)
    assert f"ExecStart={units.installed_program()} run --quiet\n" in service.files[units.SYSTEM_UNIT]
    assert units.SYSUSERS in service.files
    assert set(units.service(user=True).files) == {units.user_unit()}
