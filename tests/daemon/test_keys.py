"""The folder of keys: what is made, with which modes, what is refused, and that nothing there is overwritten."""

import os
import stat
from pathlib import Path

import pytest
import zmq.auth

from mird.daemon import keys
from mird.daemon.cli import main
from mird.daemon.errors import KeysError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keys.make_server(tmp_path / "keys")
    return tmp_path / "keys"


def test_a_daemon_s_keys_are_for_its_owner_alone(folder: Path) -> None:
    modes = {path.relative_to(folder.parent): stat.S_IMODE(path.stat().st_mode) for path in folder.parent.rglob("*")}
    assert {str(path): mode for path, mode in modes.items()} == {
        "keys": 0o700,
        "keys/server.key": 0o600,
        "keys/server.key_secret": 0o600,
        "keys/client.key_secret": 0o600,
        "keys/clients": 0o700,
        "keys/clients/local.key": 0o600,
    }
    public, secret = keys.server_pair(folder)
    assert zmq.curve_public(secret) == public
    assert zmq.auth.load_certificate(folder / "server.key") == (public, None)


def test_the_modes_hold_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys.make_server(tmp_path / "keys")
    finally:
        os.umask(before)
    assert not any(path.stat().st_mode & 0o077 for path in tmp_path.rglob("*"))


def test_keys_that_are_there_are_not_replaced_unasked(folder: Path) -> None:
    before = keys.server_pair(folder)
    with pytest.raises(KeysError, match=r"has the keys of a daemon already; --replace"):
        keys.make_server(folder)
    assert keys.server_pair(folder) == before
    keys.make_server(folder, replace=True)
    assert keys.server_pair(folder) != before


def test_a_client_gets_a_folder_and_is_let_in(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "stage"
    keys.make_client(folder, "stage", out)
    assert {path.name for path in out.iterdir()} == {"server.key", "client.key_secret"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in [out, *out.iterdir()])
    public, secret = zmq.auth.load_certificate(out / "client.key_secret")
    assert secret is not None
    assert keys.allow_list(folder)[public] == "stage"
    assert zmq.auth.load_certificate(out / "server.key")[0] == keys.server_pair(folder)[0]
    with pytest.raises(KeysError, match="is let in already"):
        keys.make_client(folder, "stage", tmp_path / "other")
    with pytest.raises(KeysError, match="is there already; choose a new folder"):
        keys.make_client(folder, "other", out)
    keys.remove_client(folder, "stage")
    assert set(keys.allow_list(folder).values()) == {"local"}
    with pytest.raises(KeysError, match=r"no client 'stage' is let in by .*; there are: local"):
        keys.remove_client(folder, "stage")


def test_a_client_may_bring_its_own_public_key_and_never_its_secret(folder: Path, tmp_path: Path) -> None:
    public, secret = zmq.auth.create_certificates(tmp_path, "mine")
    with pytest.raises(KeysError, match="holds a secret key, which stays with the client"):
        keys.add_client(folder, "mine", Path(secret))
    keys.add_client(folder, "mine", Path(public))
    assert keys.allow_list(folder)[zmq.auth.load_certificate(public)[0]] == "mine"


@pytest.mark.parametrize("name", ["", ".", "../server", "a/b", "a b", "-x", "ä", "x" * 65])
def test_names_that_are_none(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(KeysError, match="a client's name has 1 to 64 letters"):
        keys.make_client(folder, name, tmp_path / "out")
    with pytest.raises(KeysError, match="no client"):
        keys.remove_client(folder, name)


@pytest.mark.parametrize("content", [b"", b"curve\n", b'curve\n    public-key = "short"\n', b"\xff\xfe", bytes(20_000)])
def test_a_file_that_is_no_key_lets_nobody_in_and_is_told_of(folder: Path, content: bytes) -> None:
    (folder / "clients" / "broken.key").write_bytes(content)
    told: list[str] = []
    assert set(keys.allow_list(folder, told.append).values()) == {"local"}
    assert len(told) == 1
    assert "broken.key is no key" in told[0]


def test_a_secret_that_others_can_read_is_not_used(folder: Path) -> None:
    (folder / "server.key_secret").chmod(0o640)
    with pytest.raises(KeysError, match=r"can be read by others than its owner \(mode 0640\); chmod 600 it"):
        keys.server_pair(folder)


def test_keys_that_cannot_be_looked_at_are_named(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"server\.key_secret cannot be read: File name too long"):  # as root, too
        keys.server_pair(tmp_path / ("x" * 300))


def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes keys for others")
    os.chown(tmp_path, 65_534, 65_534)
    keys.make_server(tmp_path / "keys")
    assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {65_534}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--keys", str(tmp_path / "keys")]
    assert main(["keys", "client", "stage", *options]) == 12
    assert f"make them with: mird keys server --keys {tmp_path}/keys" in capsys.readouterr().err
    assert main(["keys", *options]) == 0
    assert "nobody is let in" in capsys.readouterr().err
    assert main(["keys", "server", *options]) == 0
    assert main(["keys", "client", "stage", *options]) == 0
    assert (tmp_path / "stage-mird-keys" / "client.key_secret").exists()
    capsys.readouterr()
    assert main(["keys", "list", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["local", "stage"]
    assert all(len(line.split(maxsplit=1)[1]) == 40 for line in lines)
    assert main(["keys", "remove", "stage", *options]) == 0
    assert main(["keys", "remove", "stage", *options]) == 12
