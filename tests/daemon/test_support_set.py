"""The support set: edits, undo, and the names of classes."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.daemon.conftest import FINGERPRINT, N_DIMS, empty, shot, shots, viola_and_tuba

from mird.daemon.errors import ClipError, SupportError
from mird.daemon.support import Shot, SupportClass, SupportSet, check_class_name
from mird.daemon.support_codec import decode, encode
from mird.daemon.support_set import GIVEN_WEIGHT, MAX_CLASSES, MAX_HISTORY, MAX_LEARNED, MAX_SHOTS


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
