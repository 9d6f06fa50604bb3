"""A support set's file: saved, loaded, and edited under a lock."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from tests.daemon.conftest import FINGERPRINT, empty, shots, viola_and_tuba

from mird.daemon.errors import SupportDamagedError, SupportError, SupportMismatchError
from mird.daemon.support import edit, load, locked, save
from mird.daemon.support_codec import MAX_FILE_BYTES


def test_saved_and_loaded_with_its_history(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "support.mird"
    support = viola_and_tuba().forgotten("viola")
    save(support, path)
    loaded = load(path, FINGERPRINT)
    assert loaded == support
    assert loaded.undone().names == ("viola", "tuba")
    assert [entry.name for entry in path.parent.iterdir()] == ["support.mird"]


def test_a_missing_file_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "support.mird", FINGERPRINT)


def test_another_encoder_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    path = tmp_path / "support.mird"
    save(viola_and_tuba(), path)
    with pytest.raises(SupportMismatchError, match=rf"{path} .*{FINGERPRINT}.*full-9999.*enrol") as caught:
        load(path, "full-9999")
    assert caught.value.exit_status == 6


def test_a_damaged_file_is_named_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "support.mird"
    save(viola_and_tuba(), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(SupportDamagedError, match=rf"^support set {path} is damaged.*restore a copy") as caught:
        load(path, FINGERPRINT)
    assert "\n" not in str(caught.value)


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "support.mird"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + (1 << 20))
    with pytest.raises(SupportDamagedError, match=rf"{path} has 513 MiB, 512 are the most"):
        load(path, FINGERPRINT)


def test_a_folder_in_the_files_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(SupportError, match=rf"{tmp_path} cannot be read: Is a directory"):
        load(tmp_path, FINGERPRINT)
    (tmp_path / "file").write_text("")
    with pytest.raises(SupportError, match=r"cannot be written: .*; it is as it was"):
        save(empty(), tmp_path / "file" / "support.mird")


def test_a_save_keeps_mode_and_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.mird", tmp_path / "link.mird"
    save(empty(), real)
    real.chmod(0o640)
    link.symlink_to(real)
    save(viola_and_tuba(), link)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert load(real, FINGERPRINT).names == ("viola", "tuba")


def test_a_save_removes_what_was_abandoned_and_nothing_that_is_being_written(tmp_path: Path) -> None:
    abandoned, in_use = tmp_path / ".support.mird.1.tmp", tmp_path / ".support.mird.2.tmp"
    abandoned.write_text("")
    with in_use.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        save(empty(), tmp_path / "support.mird")
        assert in_use.exists()
    assert not abandoned.exists()


def test_the_first_edit_begins_with_the_given_set(tmp_path: Path) -> None:
    path = tmp_path / "state" / "support.mird"
    changed = edit(path, FINGERPRINT, lambda support: support.with_shots("harp", shots(1)), viola_and_tuba)
    assert changed.names == ("viola", "tuba", "harp")
    assert load(path, FINGERPRINT) == changed


def test_an_edit_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "support.mird"
    save(viola_and_tuba(), path)
    before = path.read_bytes()
    with pytest.raises(SupportError, match="not known"):
        edit(path, FINGERPRINT, lambda support: support.forgotten("harp"), empty)
    assert path.read_bytes() == before
    with locked(path, timeout_s=0.0):
        pass


def test_a_lock_that_another_holds_is_waited_for_and_then_named(tmp_path: Path) -> None:
    path = tmp_path / "support.mird"
    with (
        locked(path),
        pytest.raises(SupportError, match=rf"{path} is being edited by another process"),
        locked(path, timeout_s=0.05),
    ):
        pytest.fail("two hold the lock")
