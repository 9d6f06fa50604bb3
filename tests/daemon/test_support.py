"""The support set: edits, undo, and its file."""

from __future__ import annotations

import fcntl
import hashlib
import unicodedata
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mird.daemon.errors import ClipError, SupportDamagedError, SupportError, SupportMismatchError
from mird.daemon.support import Shot, SupportClass, SupportSet, check_class_name, edit, load, locked, save
from mird.daemon.support_codec import MAX_FILE_BYTES, decode, encode
from mird.daemon.support_set import GIVEN_WEIGHT, MAX_CLASSES, MAX_HISTORY, MAX_LEARNED, MAX_SHOTS

FINGERPRINT = "light-0123456789abcdef"
N_DIMS = 4


def shot(*values: float, origin: str = "clip.wav", added_utc_ns: int = 1_700_000_000_000_000_000) -> Shot:
    return Shot(np.array(values, dtype=np.float32), origin, added_utc_ns)


def shots(n: int, first: float = 0.0) -> tuple[Shot, ...]:
    return tuple(shot(first + index, 1.0, 2.0, 3.0) for index in range(n))


def empty() -> SupportSet:
    return SupportSet(FINGERPRINT, N_DIMS)


def viola_and_tuba() -> SupportSet:
    return empty().with_shots("viola", shots(2)).with_shots("tuba", shots(1, 9.0))


names = st.text(min_size=1, max_size=20).filter(lambda text: acceptable(text))  # noqa: PLW0108 - defined below


def acceptable(name: str) -> bool:
    try:
        return check_class_name(name) == name
    except ClipError:
        return False


@st.composite
def support_sets(draw: st.DrawFn) -> SupportSet:
    n_dims = draw(st.integers(1, 6))
    values = st.floats(width=32, allow_nan=False, allow_infinity=False)
    some_shots = st.lists(
        st.builds(
            Shot,
            st.lists(values, min_size=n_dims, max_size=n_dims).map(lambda row: np.array(row, dtype=np.float32)),
            st.text(max_size=250),
            st.integers(0, 2**63 - 1),
            st.booleans(),
        ),
        min_size=1,
        max_size=4,
    ).map(tuple)
    support = SupportSet(draw(st.text(min_size=1, max_size=20).filter(str.isprintable)), n_dims)
    for _ in range(draw(st.integers(0, 6))):
        add = draw(st.sampled_from([support.with_shots, support.corrected]))
        support = add(draw(names), draw(some_shots))
        if draw(st.booleans()):
            threshold = draw(st.none() | st.floats(0.0, 1.0))
            support = support.with_threshold(draw(st.sampled_from(support.names)), threshold)
        if draw(st.booleans()):
            support = support.forgotten(draw(st.sampled_from(support.names)))
        elif (new := draw(names)) not in support.names:
            support = support.renamed(draw(st.sampled_from(support.names)), new)
    return support


# --- edits


def test_arrays_name_the_owner_of_each_shot() -> None:
    names, embeddings, owner = viola_and_tuba().arrays()
    assert names == ("viola", "tuba")
    np.testing.assert_array_equal(embeddings[:, 0], [0.0, 1.0, 9.0])
    assert embeddings.dtype == np.float32
    np.testing.assert_array_equal(owner, [0, 0, 1])


def test_arrays_of_no_classes_are_empty() -> None:
    names, embeddings, owner = empty().arrays()
    assert names == ()
    assert embeddings.shape == (0, N_DIMS)
    assert owner.shape == (0,)


def test_edits_leave_the_old_set_as_it_was() -> None:
    before = viola_and_tuba()
    after = before.with_shots("viola", shots(3)).renamed("tuba", "sousaphone").forgotten("viola")
    assert before == viola_and_tuba()
    assert after.names == ("sousaphone",)
    assert after.revision == before.revision + 3


def test_a_shot_cannot_be_changed_through_the_array_it_was_made_of() -> None:
    values = np.zeros(N_DIMS, dtype=np.float32)
    made = Shot(values, "clip.wav", 0)
    values[:] = 1.0
    assert made.embedding.tolist() == [0.0] * N_DIMS
    with pytest.raises(ValueError, match="read-only"):
        made.embedding[0] = 1.0


def test_a_name_is_found_in_any_unicode_form() -> None:
    support = empty().with_shots(unicodedata.normalize("NFD", "flûte"), shots(1))
    assert support.names == (unicodedata.normalize("NFC", "flûte"),)
    assert support.with_shots(" flûte ", shots(1)).names == support.names
    assert support.forgotten(unicodedata.normalize("NFD", "flûte")).names == ()


@pytest.mark.parametrize("verb", ["renamed", "forgotten"])
def test_an_unknown_class_is_refused_with_the_nearest_name(verb: str) -> None:
    arguments = ("voila", "violin") if verb == "renamed" else ("voila",)
    with pytest.raises(SupportError, match=r"'voila' is not known: the nearest name is 'viola'"):
        getattr(viola_and_tuba(), verb)(*arguments)


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(SupportError, match="'tuba' exists already"):
        viola_and_tuba().renamed("viola", "tuba")


def test_undo_takes_back_each_kind_of_edit_in_turn() -> None:
    steps = [viola_and_tuba()]
    steps.append(steps[-1].with_shots("viola", shots(3)))
    steps.append(steps[-1].forgotten("viola"))
    steps.append(steps[-1].with_shots("harp", shots(1)))
    steps.append(steps[-1].corrected("harp", shots(MAX_LEARNED)))
    steps.append(steps[-1].corrected("viola", shots(2)))
    steps.append(steps[-1].with_threshold("tuba", 0.5))
    steps.append(steps[-1].with_threshold("tuba", None))
    steps.append(steps[-1].with_threshold("tuba", 0.75))
    steps.append(steps[-1].renamed("tuba", "sousaphone"))
    current = steps[-1]
    for before in reversed(steps[:-1]):
        current = current.undone()
        assert current.classes == before.classes
    assert current.revision == steps[-1].revision + len(steps) - 1


def test_corrections_are_bounded_by_keeping_those_that_say_what_all_said() -> None:
    rng = np.random.default_rng(1)
    given = viola_and_tuba().given()
    unlike = tuple(shot(*rng.normal([3.0, 0.0, 0.0, 0.0])) for _ in range(100))
    support = given.corrected("viola", unlike)
    kept = support.classes[0].shots
    assert kept[:2] == given.classes[0].shots, "what was given stays"
    assert len(kept) == 2 + MAX_LEARNED
    own = np.stack([each.embedding for each in kept[2:]])
    everything = np.stack([each.embedding for each in unlike]).mean(axis=0)
    assert np.linalg.norm(own.mean(axis=0) - everything) < 0.05, "the newest 32 are 0.34 away"
    for one in unlike:
        support = support.corrected("viola", (one,))
        assert len(support.classes[0].shots) == 2 + MAX_LEARNED
    before = support.classes
    assert support.corrected("viola", shots(3)).undone().classes == before


def test_a_class_of_many_clips_does_not_shrink_by_a_correction() -> None:
    support = empty().with_shots("viola", shots(50)).corrected("viola", shots(5, 100.0))
    assert len(support.classes[0].shots) == 50
    assert support.undone().classes[0].shots == shots(50)


def test_the_users_shots_outweigh_those_that_were_given() -> None:
    support = empty().with_shots("viola", shots(16)).with_shots("tuba", shots(2)).given()
    assert np.array_equal(support.weights(), np.ones(18)), "among themselves they are equal"
    support = support.with_shots("viola", shots(1)).corrected("tuba", shots(1))
    assert support.weights()[:17] == pytest.approx([GIVEN_WEIGHT / 16] * 16 + [1.0])
    assert support.weights()[17:] == pytest.approx([1.0, 1.0, 1.0]), "two weigh no more than two"


def test_a_threshold_goes_with_its_class() -> None:
    support = viola_and_tuba().with_threshold("viola", 0.25).renamed("viola", "alto")
    assert [known.threshold for known in support.classes] == [0.25, None]
    support = support.with_shots("alto", shots(1)).forgotten("alto").undone()
    assert [known.threshold for known in support.classes] == [0.25, None]
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(SupportError, match="must be 0 to 1"):
            support.with_threshold("alto", wrong)
    with pytest.raises(SupportError, match="'voila' is not known"):
        viola_and_tuba().with_threshold("voila", 0.5)


def test_nothing_is_left_to_undo_in_a_new_set() -> None:
    with pytest.raises(SupportError, match="nothing to undo"):
        empty().undone()


def test_history_is_bounded() -> None:
    support = empty().with_shots("viola", shots(1))
    for index in range(MAX_HISTORY + 20):
        support = support.renamed(support.names[0], f"viola {index}")
    assert len(support.history) == MAX_HISTORY


def test_history_of_large_classes_keeps_ten_edits_and_no_more() -> None:
    rows = np.zeros((1_000, 2_048), dtype=np.float32)
    many = tuple(Shot(row, "clip.wav", 0) for row in rows)
    support = SupportSet(FINGERPRINT, 2_048)
    for _ in range(14):
        support = support.with_shots("viola", many).forgotten("viola")
    assert len(support.history) == 10
    for _ in range(9):
        support = support.undone()
    assert support.names == ("viola",)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ((), "0 shots"),
        ((shot(1.0, 2.0),), "has 2 values: must be 4"),
        (shots(MAX_SHOTS + 1), "4097 shots"),
    ],
)
def test_shots_that_do_not_fit_are_refused(wrong: tuple[Shot, ...], match: str) -> None:
    with pytest.raises(SupportError, match=match):
        empty().with_shots("viola", wrong)


@pytest.mark.parametrize("values", [[[1.0]], [], [1.0, np.nan], [np.inf]])
def test_an_embedding_is_one_finite_vector(values: Any) -> None:
    with pytest.raises(SupportError, match=r"embedding of"):
        Shot(np.array(values, dtype=np.float32), "clip.wav", 0)


def test_too_many_classes_are_refused() -> None:
    one = shots(1)
    classes = tuple(SupportClass(f"class {index}", one) for index in range(MAX_CLASSES))
    full = SupportSet(FINGERPRINT, N_DIMS, classes)
    with pytest.raises(SupportError, match="10001 classes"):
        full.with_shots("one more", one)


class EditsAndUndo(RuleBasedStateMachine):
    """Whatever is edited, undoing gives back exactly what was."""

    def __init__(self) -> None:
        super().__init__()
        self.support = empty()
        self.before: list[tuple[SupportClass, ...]] = []

    def _do(self, changed: SupportSet) -> None:
        self.before.append(self.support.classes)
        self.support = changed

    @rule(name=st.sampled_from("abcde"), n=st.integers(1, 3))
    def enrol(self, name: str, n: int) -> None:
        self._do(self.support.with_shots(name, shots(n)))

    @rule(name=st.sampled_from("abcde"), n=st.integers(1, 20))
    def correct(self, name: str, n: int) -> None:
        self._do(self.support.corrected(name, shots(n, float(len(self.before)))))

    @rule(name=st.sampled_from("abcde"), value=st.none() | st.floats(0.0, 1.0))
    def threshold(self, name: str, value: float | None) -> None:
        if name in self.support.names:
            self._do(self.support.with_threshold(name, value))

    @rule(old=st.sampled_from("abcde"), new=st.sampled_from("abcde"))
    def rename(self, old: str, new: str) -> None:
        if old in self.support.names and new not in self.support.names:
            self._do(self.support.renamed(old, new))

    @rule(name=st.sampled_from("abcde"))
    def forget(self, name: str) -> None:
        if name in self.support.names:
            self._do(self.support.forgotten(name))

    @rule()
    def undo(self) -> None:
        if self.support.history:
            self.support = self.support.undone()
            assert self.support.classes == self.before.pop()

    @rule()
    def restart(self) -> None:
        self.support = decode(encode(self.support))

    @invariant()
    def at_least_ten_steps_are_kept(self) -> None:
        assert len(self.support.history) >= min(10, len(self.before))


TestEditsAndUndo = EditsAndUndo.TestCase
TestEditsAndUndo.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


# --- names


@pytest.mark.parametrize("name", ["viola", "Große Trommel", "琵琶", "clarinet in B♭", "x" * 64, "a.b_c-d (2)", "🎻"])
def test_names_that_are_acceptable(name: str) -> None:
    assert check_class_name(f"  {name}\n") == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("", "0 characters"),
        (" \t ", "0 characters"),
        ("x" * 300, r"'x{32}…' has 300 characters: give it 1 to 64"),
        ("drums/snare", "slash"),
        ("_speech", "begins with '_'"),
        (".hidden", r"begins with '\.'"),
        ("a\x00b", r"'a\?b' has characters that cannot be printed"),
        ("a\nb", "cannot be printed"),
        ("a\u202eb", "cannot be printed"),
        ("a\ud800b", "cannot be printed"),
        ("Silence", "answer of the daemon's own"),
        ("unknown", "answer of the daemon's own"),
    ],
)
def test_names_that_are_not(name: str, match: str) -> None:
    with pytest.raises(ClipError, match=match) as caught:
        check_class_name(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@given(st.text(max_size=80))
def test_a_checked_name_stays_as_it_is(name: str) -> None:
    try:
        checked = check_class_name(name)
    except ClipError:
        return
    assert check_class_name(checked) == checked
    checked.encode()


# --- file


@settings(max_examples=100, deadline=None)
@given(support_sets())
def test_what_is_written_is_read(support: SupportSet) -> None:
    assert decode(encode(support)) == support


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


def test_every_flipped_byte_is_noticed() -> None:
    data = encode(viola_and_tuba().forgotten("tuba"))
    for position in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]
            with pytest.raises(SupportDamagedError):
                decode(damaged)


def test_every_truncation_is_noticed() -> None:
    data = encode(viola_and_tuba())
    for n in range(len(data)):
        with pytest.raises(SupportDamagedError):
            decode(data[:n])
    with pytest.raises(SupportDamagedError):
        decode(data + b"\x00")


@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_the_reader(data: bytes) -> None:
    with pytest.raises(SupportDamagedError):
        decode(data)


def body_of(support: SupportSet) -> dict[str, Any]:
    body: dict[str, Any] = msgpack.unpackb(msgpack.unpackb(encode(support))["body"])
    return body


def sealed(body: object, magic: str = "mird-support", version: int = 2) -> bytes:
    """A file whose checksum fits, whatever its body is."""
    packed = msgpack.packb(body)
    digest = hashlib.sha256(f"mird-support {version} ".encode() + packed).digest()
    data: bytes = msgpack.packb({"magic": magic, "version": version, "sha256": digest, "body": packed})
    return data


def test_the_tests_own_seal_is_the_codecs() -> None:
    assert sealed(body_of(viola_and_tuba())) == encode(viola_and_tuba())


def test_another_magic_and_a_newer_version_are_told_apart() -> None:
    body = body_of(viola_and_tuba())
    with pytest.raises(SupportDamagedError, match="no support set of mird"):
        decode(sealed(body, magic="else"))
    with pytest.raises(SupportDamagedError, match="has version 3, this mird reads version 2; install a newer mird"):
        decode(sealed(body, version=3))


def test_a_file_of_version_1_is_read() -> None:
    """It has neither thresholds nor marks of what was given."""
    body = body_of(viola_and_tuba().forgotten("tuba"))
    for entry in (*body["classes"], *body["history"]):
        del entry["given"], entry["threshold"]
    support = decode(sealed(body, version=1))
    assert support == viola_and_tuba().forgotten("tuba")
    assert support.undone().classes == viola_and_tuba().classes


@pytest.mark.parametrize(
    "change",
    [
        {"n_dims": 0},
        {"n_dims": 1 << 40},
        {"n_dims": "4"},
        {"n_dims": True},
        {"n_dims": 5},
        {"revision": -1},
        {"fingerprint": b"bytes"},
        {"fingerprint": "x" * 300},
        {"classes": {}},
        {"classes": [1]},
        {"classes": [{}]},
        {"classes": [{}] * (MAX_CLASSES + 1)},
        {"history": [{}] * 33},
        {"history": [{"verb": "pickle"}]},
        {"history": None},
    ],
)
def test_a_body_that_is_no_support_set_is_damaged(change: dict[str, Any]) -> None:
    with pytest.raises(SupportDamagedError, match="is damaged"):
        decode(sealed(body_of(viola_and_tuba()) | change))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a/b"},
        {"name": " viola"},
        {"name": "tuba"},
        {"name": 1},
        {"origins": ["one"]},
        {"origins": [1, 2]},
        {"origins": [], "added_utc_ns": [], "embeddings": b""},
        {"added_utc_ns": [0, -1]},
        {"added_utc_ns": [0, 1 << 63]},
        {"embeddings": b"\x00" * 31},
        {"embeddings": b"\x00" * 28 + np.float32(np.nan).tobytes()},
        {"embeddings": "text"},
        {"given": [True]},
        {"given": [1, 0]},
        {"threshold": 1.5},
        {"threshold": float("nan")},
        {"threshold": "high"},
        {"origins": [""] * (MAX_SHOTS + 1), "added_utc_ns": [0] * (MAX_SHOTS + 1), "embeddings": b""},
    ],
)
def test_a_class_that_cannot_be_is_damaged(change: dict[str, Any]) -> None:
    body = body_of(viola_and_tuba())
    body["classes"][0] |= change
    with pytest.raises(SupportDamagedError, match="is damaged"):
        decode(sealed(body))


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


# --- edit under a lock


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
