"""A file that is replaced whole or not at all, whatever fails and whenever the power does.

The new file is written beside the old one, forced to the disk and put in its place in one step. While its writer lives
it is locked, so that what a killed one left behind can be told from one that is being written, and is removed.
"""

import contextlib
import fcntl
import glob
import os
import secrets
from pathlib import Path


def replace_file(path: Path, data: bytes) -> Path:
    """Put a new file in the place of the one at `path`, with its mode and owner: root may edit for a service.

    Parameters
    ----------
    path : Path
        Its folder is made where missing. Where it is a link, the file that the link names is replaced.
    data : bytes

    Returns
    -------
    Path
        The folder that :func:`sync_folder` then forces to the disk.

    Raises
    ------
    OSError
        It cannot be written (full disk, no permission): the old file is as it was.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    _write_beside(target, data).replace(target)
    return target.parent


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk; OSError where that fails."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_beside(target: Path, data: bytes) -> Path:
    path, descriptor = _open_beside(target)
    try:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            status = target.stat()
            os.fchmod(descriptor, status.st_mode & 0o777)
            os.fchown(descriptor, status.st_uid, status.st_gid)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return path


def _open_beside(target: Path) -> tuple[Path, int]:
    """Make a file that is locked while its writer lives."""
    while True:
        path = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)  # another save took it for abandoned before it was locked


def _remove_abandoned(target: Path) -> None:
    """Remove the half-written files of killed processes."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError, PermissionError):
            descriptor = os.open(left, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
            finally:
                os.close(descriptor)
