"""The support set on disk: read, edited and written so that no class is ever lost or half-written.

A save replaces the file whole (:mod:`mird.daemon.atomic_file`): whoever reads, and whenever the power fails, there is
either the old set or the new one. An edit holds a lock from reading to writing, so that a daemon and a command that
edit the same file at once both keep their classes.

The set itself is in :mod:`mird.daemon.support_set`, the bytes of the file in :mod:`mird.daemon.support_codec`.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from mird.daemon.atomic_file import replace_file, sync_folder
from mird.daemon.errors import SupportDamagedError, SupportError, SupportMismatchError
from mird.daemon.shot import Shot
from mird.daemon.support_codec import MAX_FILE_BYTES, REMEDY, decode, encode
from mird.daemon.support_set import Edit, SupportClass, SupportSet, check_class_name

__all__ = ["Edit", "Shot", "SupportClass", "SupportSet", "check_class_name", "edit", "load", "locked", "save"]

LOCK_TIMEOUT_S: Final = 5.0
LOCK_POLL_S: Final = 0.01


def load(path: Path, fingerprint: str) -> SupportSet:
    """Read a support set.

    Parameters
    ----------
    path : Path
    fingerprint : str
        Of the encoder that it will be used with.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    SupportDamagedError
        It is not a whole support set, or of a newer version.
    SupportMismatchError
        It was made with another encoder; the message has both fingerprints.
    SupportError
        It cannot be read.
    """
    try:
        with path.open("rb") as file:
            n_bytes = os.fstat(file.fileno()).st_size
            if n_bytes > MAX_FILE_BYTES:
                raise SupportDamagedError(
                    f"support set {path} has {n_bytes >> 20} MiB, {MAX_FILE_BYTES >> 20} are the most; {REMEDY}"
                )
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SupportError(f"support set {path} cannot be read: {error.strerror}; check its mode and owner") from error
    try:
        support = decode(data)
    except SupportDamagedError as error:
        raise SupportDamagedError(f"support set {path} {error}") from error
    if support.fingerprint != fingerprint:
        raise SupportMismatchError(
            f"support set {path} was made with encoder {support.fingerprint}, this one is {fingerprint}: "
            "run with the encoder that made it, or name another file and enrol the clips again"
        )
    return support


def save(support: SupportSet, path: Path) -> None:
    """Write a support set in the place of the file at `path`, whole or not at all.

    Parameters
    ----------
    support : SupportSet
    path : Path
        Its folder is made where missing. Where it is a link, the file that the link names is replaced.

    Raises
    ------
    SupportError
        It cannot be written (full disk, no permission): the old file is as it was.
    """
    data = encode(support)
    try:
        folder = replace_file(path, data)
    except OSError as error:
        raise SupportError(
            f"support set {path} cannot be written: {error.strerror}; it is as it was before: make room or check the "
            "folder's mode and owner, then try again"
        ) from error
    try:
        sync_folder(folder)
    except OSError as error:
        raise SupportError(
            f"support set {path} is written, but may not outlive a power failure: {error.strerror}; check the disk"
        ) from error


def edit(
    path: Path,
    fingerprint: str,
    change: Callable[[SupportSet], SupportSet],
    start: Callable[[], SupportSet],
) -> SupportSet:
    """Change the file at `path`: lock, read what is there now, change, write.

    Parameters
    ----------
    path : Path
    fingerprint : str
        Of the encoder in use.
    change : Callable[[SupportSet], SupportSet]
        One of the set's edits. What it raises leaves the file as it was.
    start : Callable[[], SupportSet]
        The set to begin with where there is no file yet.

    Returns
    -------
    SupportSet
        As it is on disk now.

    Raises
    ------
    SupportError
        As :func:`load`, :func:`save` and :func:`locked`.
    """
    with locked(path):
        try:
            current = load(path, fingerprint)
        except FileNotFoundError:
            current = start()
        changed = change(current)
        save(changed, path)
        return changed


@contextlib.contextmanager
def locked(path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the lock of the file at `path` (``PATH.lock``, which stays): one process, and one thread in it, at a time.

    Raises
    ------
    SupportError
        Another one holds it for longer than `timeout_s`, or the lock file cannot be made.
    """
    target = Path(os.path.realpath(path))
    lock = target.with_name(f"{target.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise SupportError(
            f"lock {lock} of the support set cannot be made: {error.strerror}; check the folder's mode and owner"
        ) from error
    try:
        _wait_for_lock(descriptor, path, timeout_s)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, path: Path, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise SupportError(
                    f"support set {path} is being edited by another process for {timeout_s:g} s; try again"
                ) from None
            time.sleep(LOCK_POLL_S)
        except OSError as error:  # a file system without locks
            raise SupportError(
                f"support set {path} cannot be locked: {error.strerror}; keep it on a local disk (setting support)"
            ) from error
        else:
            return
