"""Changes of the support set with the shipped encoder: what they do to the file, the snapshot, and each other."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mird.daemon import support
from mird.daemon.assembly import SHIPPED_SUPPORT
from mird.daemon.errors import ClipError, SupportDamagedError, SupportError, SupportMismatchError
from mird.daemon.paths import shipped
from mird.daemon.shot import Shot
from mird.daemon.support_set import SupportSet
from mird.daemon.support_store import SupportStore
from mird.kernels.encoder import Encoder
from mird.kernels.recognizer import Recognizer

WINDOW = 44_100
Samples = NDArray[np.float32]


def store_at(encoder: Encoder, path: Path, default: Path | None = None) -> SupportStore:
    return SupportStore(Recognizer(encoder), path, default or shipped(SHIPPED_SUPPORT))


def names(store: SupportStore) -> set[str]:
    return {known["name"] for known in store.listing()["classes"]}


@pytest.fixture
def piano(demonstration: Samples) -> Samples:
    """Three windows of the demonstration's first instrument."""
    return np.stack([demonstration[start : start + WINDOW] for start in (0, WINDOW, 2 * WINDOW)])


def test_the_shipped_set_is_the_start_and_stays_where_it_is(
    store: SupportStore, encoder: Encoder, piano: Samples
) -> None:
    before = shipped(SHIPPED_SUPPORT).read_bytes()
    shipped_names = names(store)
    assert len(shipped_names) >= 20
    assert {"piano", "violin", "flute"} <= shipped_names
    assert not store.path.exists(), "reading changes nothing"
    store.enroll("mine", piano, "clip.wav")
    assert store.path.exists()
    assert names(store_at(encoder, store.path)) == shipped_names | {"mine"}
    assert shipped(SHIPPED_SUPPORT).read_bytes() == before


def test_what_is_enrolled_is_recognised(store: SupportStore, recognizer: Recognizer, piano: Samples) -> None:
    before = store.snapshot
    told = store.enroll("  mine  ", piano[:2], "clip.wav")
    assert (told.name, told.n_added, told.n_shots) == ("mine", 2, 2)
    after = store.snapshot
    assert after.revision == before.revision + 1
    assert "mine" not in before.prototypes.names, "a snapshot never changes"
    scores = recognizer.score(piano[:2], after.prototypes)
    assert {after.prototypes.names[best] for best in scores.argmax(axis=1)} == {"mine"}
    more = store.enroll("mine", piano[2:], "other.wav")
    assert (more.n_added, more.n_shots) == (1, 3)
    (mine,) = (known for known in store.listing()["classes"] if known["name"] == "mine")
    assert (mine["n_shots"], mine["origins"]) == (3, ["clip.wav", "other.wav"])


def test_a_class_that_another_resembles_is_named(store: SupportStore, piano: Samples) -> None:
    store.enroll("mine", piano, "clip.wav")
    told = store.enroll("yours", piano, "clip.wav")
    assert told.resembles == "mine"
    assert told.resemblance > 0.9


@pytest.mark.parametrize("what", ["none", "silence", "nan", "infinite", "name"])
def test_what_cannot_be_enrolled_changes_nothing(store: SupportStore, piano: Samples, what: str) -> None:
    windows, before = piano.copy(), store.snapshot
    if what == "none":
        windows = windows[:0]
    elif what == "silence":
        windows[1] = 0.0
    elif what in ("nan", "infinite"):
        windows[2, 17] = float(what[:3])
    with pytest.raises(ClipError):
        store.enroll("a/b" if what == "name" else "mine", windows, "clip.wav")
    assert store.snapshot is before
    assert not store.path.exists()


def test_requests_of_another_form_are_refused(store: SupportStore, piano: Samples) -> None:
    enroll = store.handlers()["enroll"]
    good = {"name": "mine", "rate_hz": 44_100, "windows": [piano[0].tobytes()], "origin": "clip.wav"}
    with pytest.raises(ClipError, match="windows at 48000 Hz: this encoder needs 44100"):
        enroll(good | {"rate_hz": 48_000})
    with pytest.raises(ClipError, match="a window of 400 bytes: this encoder needs 44100 float32 samples"):
        enroll(good | {"windows": [piano[0].tobytes(), piano[0, :100].tobytes()]})
    assert not store.path.exists()
    assert enroll(good)["n_shots"] == 1


def test_every_change_can_be_taken_back(store: SupportStore, piano: Samples) -> None:
    start = store.current.classes
    store.enroll("mine", piano, "clip.wav")
    store.rename("mine", "yours")
    store.forget("piano")
    assert names(store) >= {"yours"}
    assert "piano" not in names(store)
    for _ in range(3):
        store.undo()
    assert [known.name for known in store.current.classes] == [known.name for known in start]
    assert store.current.revision == 6
    with pytest.raises(SupportError, match="nothing to undo"):
        store.undo()
    assert store.snapshot.prototypes.names == tuple(known.name for known in start)


def test_two_that_change_one_file_keep_each_others_classes(
    store: SupportStore, encoder: Encoder, piano: Samples
) -> None:
    other = store_at(encoder, store.path)
    store.enroll("mine", piano, "clip.wav")
    other.enroll("yours", piano, "clip.wav")
    store.forget("violin")
    assert {"mine", "yours"} <= names(store)
    assert names(store_at(encoder, store.path)) == names(store)


def test_the_last_class_can_be_forgotten(
    encoder: Encoder, recognizer: Recognizer, tmp_path: Path, piano: Samples
) -> None:
    store = store_at(encoder, tmp_path / "support.mird", tmp_path / "none.mird")
    assert store.snapshot.prototypes.names == ()
    assert recognizer.score(piano, store.snapshot.prototypes).shape == (3, 0)
    told = store.enroll("mine", piano, "clip.wav")
    assert (told.resembles, told.resemblance) == ("", 0.0)
    store.forget("mine")
    assert names(store_at(encoder, store.path, tmp_path / "none.mird")) == set()


def test_a_damaged_file_is_refused_and_kept(encoder: Encoder, store: SupportStore, piano: Samples) -> None:
    store.enroll("mine", piano, "clip.wav")
    damaged = store.path.read_bytes()[:-1] + b"?"
    store.path.write_bytes(damaged)
    with pytest.raises(SupportDamagedError, match=r"support\.mird"):
        store_at(encoder, store.path)
    before = store.snapshot
    with pytest.raises(SupportDamagedError):
        store.enroll("yours", piano, "clip.wav")
    assert store.snapshot is before, "a running daemon goes on with what it knows"
    assert store.path.read_bytes() == damaged


def test_a_set_of_another_encoder_is_refused_with_both_fingerprints(encoder: Encoder, tmp_path: Path) -> None:
    shots = (Shot(np.ones(4, np.float32), "clip.wav", 1),)
    other = SupportSet("0123456789abcdef", 4).with_shots("viola", shots)
    support.save(other, tmp_path / "support.mird")
    with pytest.raises(SupportMismatchError, match=f"0123456789abcdef, this one is {encoder.card.fingerprint}"):
        store_at(encoder, tmp_path / "support.mird")


def test_a_default_of_another_encoder_is_left_out_with_a_warning(
    encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    support.save(SupportSet("0123456789abcdef", 4), tmp_path / "default.mird")
    with caplog.at_level(logging.WARNING):
        store = store_at(encoder, tmp_path / "support.mird", tmp_path / "default.mird")
    assert names(store) == set()
    assert "of another encoder: nothing is known until a class is enrolled" in caplog.text


def test_a_file_that_somebody_else_changes_is_read_anew(store: SupportStore, encoder: Encoder, piano: Samples) -> None:
    store.enroll("mine", piano, "clip.wav")
    assert not store.refresh(), "our own change is no news"
    other = store_at(encoder, store.path)
    other.enroll("yours", piano, "clip.wav")
    other.set_threshold("mine", 0.9)
    assert store.refresh()
    assert names(store) >= {"mine", "yours"}
    assert store.snapshot.thresholds == {"mine": 0.9}
    assert not store.refresh()
    shown = {known["name"]: (known["threshold"], known["has_threshold"]) for known in store.listing()["classes"]}
    assert shown["mine"] == (0.9, True)
    assert shown["yours"] == (encoder.card.unknown_threshold, False)


def test_a_class_of_one_clip_is_told_from_one_of_several(store: SupportStore, piano: Samples) -> None:
    def averaging(name: str) -> float:
        known = store.snapshot.prototypes
        return float(known.averaging[known.names.index(name)])

    store.enroll("mine", piano, "clip.wav")
    assert averaging("mine") == pytest.approx(0.6 - 1), "windows of one clip"
    store.enroll("mine", piano[1:2], "clip.wav")
    assert averaging("mine") == pytest.approx(0.6 - 1 / 2), "two clips of one name"
    store.correct("mine", store.current.classes[0].shots[0].embedding[None])
    assert averaging("mine") == pytest.approx(0.6 - 1 / 3)
    assert averaging("viola") == 0.0, "shots that came with mird: the usual"
    store.enroll("viola", piano[:1], "clip.wav")
    assert averaging("viola") == 0.0


def test_classes_that_the_user_has_taught_get_a_second_look(store: SupportStore, piano: Samples) -> None:
    def looked_at(name: str) -> int:
        known = store.snapshot.prototypes
        assert known.shots is not None
        return len(known.shots.of(known.names.index(name))[0])

    assert {looked_at(name) for name in names(store)} == {0}, "all that came with mird"
    n_given = len(store.current.classes[store.current.names.index("viola")].shots)
    store.correct("viola", store.current.classes[0].shots[0].embedding[None])
    assert looked_at("viola") == n_given + 1
    store.enroll("mine", piano, "clip.wav")
    assert looked_at("mine") == len(piano)
    assert looked_at("cello") == 0


def test_what_somebody_else_changes_right_after_our_own_change_is_not_missed(
    store: SupportStore, encoder: Encoder, piano: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = store_at(encoder, store.path)
    edit = support.edit

    def edit_and_lose_the_race(*arguments: Any) -> SupportSet:
        edited = edit(*arguments)
        monkeypatch.setattr(support, "edit", edit)
        other.enroll("yours", piano, "clip.wav")
        return edited

    monkeypatch.setattr(support, "edit", edit_and_lose_the_race)
    store.enroll("mine", piano, "clip.wav")
    assert store.refresh()
    assert names(store) >= {"mine", "yours"}


def test_a_file_that_somebody_else_damages_changes_nothing(store: SupportStore, piano: Samples) -> None:
    store.enroll("mine", piano, "clip.wav")
    before, whole = store.snapshot, store.path.read_bytes()
    store.path.write_bytes(whole[:-1])
    with pytest.raises(SupportDamagedError):
        store.refresh()
    assert not store.refresh(), "said once"
    with pytest.raises(SupportDamagedError):
        store.refresh(always=True)
    assert store.snapshot is before
    store.path.write_bytes(whole)
    assert not store.refresh(), "what it says is known"
    store.forget("mine")


def test_a_file_that_is_gone_is_the_shipped_set(
    store: SupportStore, piano: Samples, caplog: pytest.LogCaptureFixture
) -> None:
    shipped_names = names(store)
    assert not store.refresh(always=True)
    assert not caplog.records, "there was none from the start"
    store.enroll("mine", piano, "clip.wav")
    store.path.unlink()
    assert store.refresh()
    assert names(store) == shipped_names
    assert "is gone: beginning anew" in caplog.text


def test_a_few_shots_outweigh_those_that_were_given(
    store: SupportStore, recognizer: Recognizer, piano: Samples
) -> None:
    """Piano, said to be a violin: five corrections are enough, where sixteen violins speak against it."""
    assert all(shot.given for known in store.current.classes for shot in known.shots)
    embeddings = recognizer.embed(piano)
    names_before = store.snapshot.prototypes.names
    scores = recognizer.compare(embeddings, store.snapshot.prototypes)
    assert {names_before[best] for best in scores.argmax(axis=1)} == {"piano"}
    before = store.current
    told = [store.correct("violin", embeddings) for _ in range(5)]
    assert [(each.n_added, each.n_shots) for each in told] == [(3, 16 + 3 * n) for n in range(1, 6)]
    scores = recognizer.compare(embeddings, store.snapshot.prototypes)
    assert {names_before[best] for best in scores.argmax(axis=1)} == {"violin"}
    for _ in range(5):
        store.undo()
    assert store.current.classes == before.classes
