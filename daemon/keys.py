"""The folder of keys that ZeroMQ's CURVE uses off this machine: the daemon's pair, the allow-list, a client's pair.

::

    keys/
    ├── server.key            the daemon's public key; every client needs it
    ├── server.key_secret     the daemon's pair; on the daemon's machine alone
    ├── client.key_secret     the pair that commands on this machine show
    └── clients/              the allow-list: a public key a file
        ├── local.key
        └── NAME.key

A client's folder on another machine has `server.key` and `client.key_secret`. The files are ZeroMQ's certificates, as
:mod:`zmq.auth` writes and reads them; folders have mode 0700 and files 0600.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import zmq.auth

from mird.daemon.errors import KeysError

SERVER: Final = "server.key"
SERVER_SECRET: Final = "server.key_secret"
CLIENT_SECRET: Final = "client.key_secret"
CLIENTS: Final = "clients"
LOCAL: Final = "local"
MAX_KEY_FILE_BYTES: Final = 10_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def make_server(folder: Path, *, replace: bool = False) -> list[Path]:
    """Make the daemon's pair, and one for the commands on its machine, which is let in as ``local``.

    Parameters
    ----------
    folder : Path
    replace : bool
        Make a new pair in the place of one that is there: no client that knows the old one gets in any more.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    KeysError
        There is a pair already, or the folder cannot be written.
    """
    if (folder / SERVER_SECRET).exists() and not replace:
        raise KeysError(
            f"{folder} has the keys of a daemon already; --replace makes new ones, and every client needs {SERVER} anew"
        )
    with _written(folder):
        for each in (folder, folder / CLIENTS):
            _make_folder(each)
        with _pair() as (public, secret):
            _place(public, folder / SERVER)
            _place(secret, folder / SERVER_SECRET)
        with _pair() as (public, secret):
            _place(public, folder / CLIENTS / f"{LOCAL}.key")
            _place(secret, folder / CLIENT_SECRET)
    return [folder / SERVER, folder / SERVER_SECRET, folder / CLIENT_SECRET, folder / CLIENTS / f"{LOCAL}.key"]


def make_client(folder: Path, name: str, out: Path) -> list[Path]:
    """Make a client's pair, let it in, and write what it needs to a folder of its own.

    Parameters
    ----------
    folder : Path
        The daemon's keys.
    name : str
        On the allow-list.
    out : Path
        A new folder; it goes to the client's machine, and nowhere else.

    Raises
    ------
    KeysError
        The daemon has no keys yet, the name is taken or none, or a folder cannot be written.
    """
    allowed = _free(folder, name)
    if out.exists():
        raise KeysError(f"{out} is there already; choose a new folder with --out")
    with _written(out), _pair() as (public, secret):
        _make_folder(out)
        _place(folder / SERVER, out / SERVER)
        _place(secret, out / CLIENT_SECRET)
        with _written(folder):
            _place(public, allowed)
    return [out / SERVER, out / CLIENT_SECRET, allowed]


def add_client(folder: Path, name: str, public: Path) -> Path:
    """Let in a client that made its pair itself.

    Parameters
    ----------
    folder : Path
    name : str
    public : Path
        Its public key, a certificate of ZeroMQ's.

    Raises
    ------
    KeysError
        The name is taken or none, the file is no public key, or cannot be copied.
    """
    allowed = _free(folder, name)
    if read_certificate(public)[1] is not None:
        raise KeysError(f"{public} holds a secret key, which stays with the client; name its public key")
    with _written(folder):
        _place(public, allowed)
    return allowed


def remove_client(folder: Path, name: str) -> Path:
    """Let a client in no more; KeysError if there is none of that name."""
    allowed = folder / CLIENTS / f"{name}.key"
    if not _NAME.fullmatch(name) or not allowed.exists():
        known = ", ".join(sorted(allow_list(folder).values())) or "nobody"
        raise KeysError(f"no client {name!r} is let in by {folder}; there are: {known}")
    with _written(folder):
        allowed.unlink()
    return allowed


def allow_list(folder: Path, warn: Callable[[str], None] = lambda _: None) -> dict[bytes, str]:
    """Who is let in: names by public key, in Z85.

    Parameters
    ----------
    folder : Path
    warn : Callable[[str], None]
        Is told of each file that is no public key; it lets nobody in.
    """
    found = {}
    try:
        paths = sorted((folder / CLIENTS).glob("*.key"))
    except OSError as error:
        raise KeysError(f"{folder / CLIENTS} cannot be read: {error.strerror}") from error
    for path in paths:
        try:
            found[read_certificate(path)[0]] = path.stem
        except KeysError as error:
            warn(str(error))
    return found


def server_pair(folder: Path) -> tuple[bytes, bytes]:
    """The daemon's public and secret key.

    Raises
    ------
    KeysError
        There is none, or others than its owner can read it.
    """
    path = folder / SERVER_SECRET
    try:
        there = path.exists()
    except OSError as error:  # a folder that is another user's
        raise KeysError(f"{path} cannot be read: {error.strerror}; run mird as its owner") from error
    if not there:
        raise KeysError(f"there are no keys in {folder}; make them with: mird keys server --keys {folder}")
    public, secret = read_certificate(path)
    mode = path.stat().st_mode
    if mode & 0o077:
        raise KeysError(f"{path} can be read by others than its owner (mode {mode & 0o777:04o}); chmod 600 it")
    if secret is None:
        raise KeysError(f"{path} holds no secret key; make new ones with: mird keys server --replace")
    return public, secret


def read_certificate(path: Path) -> tuple[bytes, bytes | None]:
    """The public key of a file, and the secret one where it has one.

    Raises
    ------
    KeysError
        It is missing, cannot be read, or is no certificate.
    """
    try:
        if path.stat().st_size > MAX_KEY_FILE_BYTES:
            raise KeysError(f"{path} is no key: it has {path.stat().st_size} bytes")
        public, secret = zmq.auth.load_certificate(path)
    except OSError as error:
        raise KeysError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise KeysError(f"{path} is no key: {error}") from error
    if any(len(key) != 40 for key in (public, secret) if key is not None):
        raise KeysError(f"{path} is no key: a key has 40 characters")
    return public, secret


def _free(folder: Path, name: str) -> Path:
    """The place of a new client's public key."""
    if not _NAME.fullmatch(name):
        raise KeysError(f"{name!r}: a client's name has 1 to 64 letters, digits, dots, hyphens and underscores")
    if not (folder / SERVER).exists():
        raise KeysError(f"there are no keys in {folder}; make them with: mird keys server --keys {folder}")
    place = folder / CLIENTS / f"{name}.key"
    if place.exists():
        raise KeysError(f"a client {name!r} is let in already; choose another name, or mird keys remove {name} first")
    return place


@contextmanager
def _pair() -> Iterator[tuple[Path, Path]]:
    """The files of a new pair, public and secret, for as long as they are not placed."""
    with tempfile.TemporaryDirectory() as folder:
        public, secret = zmq.auth.create_certificates(folder, "key")
        yield Path(public), Path(secret)


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
        _hand_over(folder)


def _place(source: Path, place: Path) -> None:
    """Copy a key whole or not at all, for its owner alone."""
    part = place.with_name(f".{place.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        with source.open("rb") as read:
            shutil.copyfileobj(read, file)
        file.flush()
        os.fsync(file.fileno())
    _hand_over(part)
    part.replace(place)


def _hand_over(path: Path) -> None:
    """What root makes in a folder of the service's user belongs to that user, who has to read it."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KeysError(f"keys in {folder} cannot be written: {error.strerror}; run it as their owner") from error
