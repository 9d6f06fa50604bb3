"""The support set: the classes that are recognised, each with its shots, and the edits that change it.

Everything here is immutable: an edit returns a new set, so that the daemon's threads swap a whole set and share no
lock.
"""

import difflib
import unicodedata
from dataclasses import dataclass, replace
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from mird.daemon.errors import ClipError, SupportError
from mird.daemon.shot import Shot, printable
from mird.daemon.shot_choice import most_useful
from mird.kernels.similarity import Prototypes, prototypes

MAX_CLASSES: Final = 10_000
MAX_SHOTS: Final = 4_096
"""Shots of one class."""
MAX_LEARNED: Final = 32
"""Shots of the user's own up to which corrections let a class grow; one that has more by enrolment keeps its number."""
GIVEN_WEIGHT: Final = 4.0
"""All shots that a class was given weigh as much as this many of the user's own, where there are some."""
MAX_DIMS: Final = 65_536
MAX_FINGERPRINT: Final = 256
MAX_NAME: Final = 64
MAX_HISTORY: Final = 32
"""Edits that can be undone."""
MIN_HISTORY: Final = 10
"""Edits that can be undone however large they are."""
MAX_HISTORY_VALUES: Final = 1 << 20
"""Numbers of forgotten embeddings beyond which edits older than the last `MIN_HISTORY` are dropped (4 MiB)."""
RESERVED_NAMES: Final = ("silence", "unknown")

Verb = Literal["enrol", "rename", "forget", "correct", "threshold"]


@dataclass(frozen=True)
class SupportClass:
    """A class and its shots, the oldest first; never without a shot.

    Attributes
    ----------
    name : str
    shots : tuple[Shot, ...]
    threshold : float in [0, 1], or None
        Score that the class needs to win; None leaves it to the settings.
    """

    name: str
    shots: tuple[Shot, ...]
    threshold: float | None = None


@dataclass(frozen=True)
class Edit:
    """What is needed to undo one edit, and no more.

    Attributes
    ----------
    verb : {"enrol", "rename", "forget", "correct", "threshold"}
    name : str
        The class's name after the edit (the forgotten name for "forget").
    old_name : str
        The class's name before a "rename", else empty.
    n_shots : int
        Shots that an "enrol" added, else 0.
    position : int
        Where the forgotten class stood, else 0.
    shots : tuple[Shot, ...]
        The forgotten shots, or those that a corrected class had before (none: it is a new one), else empty.
    threshold : float or None
        Of the forgotten class, or of the class before a "threshold", else None.
    """

    verb: Verb
    name: str
    old_name: str = ""
    n_shots: int = 0
    position: int = 0
    shots: tuple[Shot, ...] = ()
    threshold: float | None = None


@dataclass(frozen=True)
class SupportSet:
    """Classes and shots, tied to the encoder whose embeddings they are.

    Attributes
    ----------
    fingerprint : str
        Of the encoder.
    n_dims : int
        Length of an embedding.
    classes : tuple[SupportClass, ...]
        In the order of enrolment.
    revision : int
        Raised by each edit, undoing too.
    history : tuple[Edit, ...]
        Edits that can be undone, the last one last: at most 32; older than the last 10 only while their forgotten
        embeddings stay under 4 MiB.
    """

    fingerprint: str
    n_dims: int
    classes: tuple[SupportClass, ...] = ()
    revision: int = 0
    history: tuple[Edit, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.fingerprint) <= MAX_FINGERPRINT:
            raise SupportError(f"fingerprint of {len(self.fingerprint)} characters: must be 1 to {MAX_FINGERPRINT}")
        if not 1 <= self.n_dims <= MAX_DIMS:
            raise SupportError(f"n_dims={self.n_dims}: must be 1 to {MAX_DIMS}")
        if len(self.classes) > MAX_CLASSES:
            raise SupportError(f"{len(self.classes)} classes: a support set holds {MAX_CLASSES}; forget some")
        if len({known.name for known in self.classes}) != len(self.classes):
            raise SupportError("two classes have the same name: rename one")
        for known in self.classes:
            _check_shots(known.name, known.shots, self.n_dims)
            if known.threshold is not None and not 0.0 <= known.threshold <= 1.0:
                raise SupportError(f"threshold {known.threshold} of class '{known.name}': must be 0 to 1")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of enrolment."""
        return tuple(known.name for known in self.classes)

    def arrays(self) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.intp]]:
        """All shots as arrays.

        Returns
        -------
        names : tuple[str, ...]
            Of the classes.
        embeddings : NDArray[float32], shape (n_shots, n_dims)
            Class by class.
        owner : NDArray[intp], shape (n_shots,)
            Index into `names` of each shot's class, ascending.
        """
        vectors = [shot.embedding for known in self.classes for shot in known.shots]
        embeddings = np.stack(vectors) if vectors else np.empty((0, self.n_dims), dtype=np.float32)
        owner = np.repeat(np.arange(len(self.classes)), [len(known.shots) for known in self.classes])
        return self.names, embeddings, owner.astype(np.intp)

    def weights(self) -> NDArray[np.float32]:
        """What each shot of :meth:`arrays` counts for in its class's mean, shape (n_shots,), above 0.

        The shots that the user's own set began with are of other players: together they count as `GIVEN_WEIGHT` of the
        user's, so that a few of these make a difference (measured: ``tests/benchmarks/bench_corrections.py``).
        """
        weights = np.ones(sum(len(known.shots) for known in self.classes), np.float32)
        at = 0
        for known in self.classes:
            given = np.array([shot.given for shot in known.shots])
            if given.any() and not given.all():
                weights[at : at + len(given)][given] = min(1.0, GIVEN_WEIGHT / int(given.sum()))
            at += len(given)
        return weights

    def prototypes(self, weights: NDArray[np.float32] | None = None) -> Prototypes:
        """The set as the comparison needs it, with what each shot counts for (:meth:`weights` unless for a trial).

        Windows of one clip, or of one moment of what was heard, are one recording. Classes with shots that were given
        have the usual averaging: these are of other players than those who are heard, who are less like the mean. Where
        all were given there is no second look: it would find what is wrong as easily as what is right.
        """
        recordings = [(shot.origin, shot.added_utc_ns) for known in self.classes for shot in known.shots]
        found = prototypes(*self.arrays(), self.weights() if weights is None else weights, recordings)
        assert found.shots is not None
        some, all_given = (
            np.array([each(shot.given for shot in known.shots) for known in self.classes], bool) for each in (any, all)
        )
        averaging = np.where(some, np.float32(0.0), found.averaging)
        return replace(found, averaging=averaging, shots=found.shots.without(all_given))

    def given(self) -> Self:
        """The same set, each shot marked as given."""
        classes = tuple(
            replace(known, shots=tuple(replace(shot, given=True) for shot in known.shots)) for known in self.classes
        )
        return replace(self, classes=classes)

    def with_shots(self, name: str, shots: tuple[Shot, ...]) -> Self:
        """Add shots to a class, or a class with its first shots.

        Raises
        ------
        ClipError
            The name is not acceptable.
        SupportError
            There are no shots or too many, or they have another length than the set's.
        """
        name = check_class_name(name)
        _check_shots(name, shots, self.n_dims)
        if name in self.names:
            at = self.names.index(name)
            known = replace(self.classes[at], shots=self.classes[at].shots + shots)
            classes = (*self.classes[:at], known, *self.classes[at + 1 :])
        else:
            classes = (*self.classes, SupportClass(name, shots))
        return self._edited(classes, Edit("enrol", name, n_shots=len(shots)))

    def renamed(self, old: str, new: str) -> Self:
        """Give a class another name; SupportError: it is not known or the name is taken; ClipError: a bad name."""
        new = check_class_name(new)
        at = self._position(old)
        if new in self.names:
            raise SupportError(f"class '{new}' exists already: choose another name, or forget one of the two first")
        known = replace(self.classes[at], name=new)
        classes = (*self.classes[:at], known, *self.classes[at + 1 :])
        return self._edited(classes, Edit("rename", new, old_name=self.classes[at].name))

    def forgotten(self, name: str) -> Self:
        """Leave a class out; SupportError: it is not known."""
        at = self._position(name)
        gone = self.classes[at]
        edit = Edit("forget", gone.name, position=at, shots=gone.shots, threshold=gone.threshold)
        return self._edited((*self.classes[:at], *self.classes[at + 1 :]), edit)

    def corrected(self, name: str, shots: tuple[Shot, ...]) -> Self:
        """Add the shots of a correction to a class, or a class with its first shots.

        A class that would have more than `MAX_LEARNED` shots beside those that it was given keeps that number, or as
        many as it had: the most useful of all (:func:`mird.daemon.shot_choice.most_useful`).

        Raises
        ------
        ClipError, SupportError
            As :meth:`with_shots`.
        """
        name = check_class_name(name)
        _check_shots(name, shots, self.n_dims)
        at = self.names.index(name) if name in self.names else len(self.classes)
        known = self.classes[at] if at < len(self.classes) else SupportClass(name, ())
        n_own = sum(not shot.given for shot in known.shots)
        kept = most_useful(known.shots, shots, max(MAX_LEARNED, n_own))
        classes = (*self.classes[:at], replace(known, shots=kept), *self.classes[at + 1 :])
        return self._edited(classes, Edit("correct", name, n_shots=len(shots), shots=known.shots))

    def with_threshold(self, name: str, threshold: float | None) -> Self:
        """Give a class a threshold of its own, or None: none; SupportError: it is not known, or not from 0 to 1."""
        at = self._position(name)
        known = replace(self.classes[at], threshold=threshold)
        edit = Edit("threshold", known.name, threshold=self.classes[at].threshold)
        return self._edited((*self.classes[:at], known, *self.classes[at + 1 :]), edit)

    def undone(self) -> Self:
        """Take the last edit back; SupportError: there is none left."""
        if not self.history:
            raise SupportError("nothing to undo: no edit of this support set is remembered")
        edit = self.history[-1]
        classes = list(self.classes)
        if edit.verb == "forget":
            classes.insert(edit.position, SupportClass(edit.name, edit.shots, edit.threshold))
        else:
            at = self._position(edit.name)
            before = edit.shots if edit.verb == "correct" else classes[at].shots[: -edit.n_shots or None]
            if edit.verb == "rename":
                classes[at] = replace(classes[at], name=edit.old_name)
            elif edit.verb == "threshold":
                classes[at] = replace(classes[at], threshold=edit.threshold)
            elif before:
                classes[at] = replace(classes[at], shots=before)
            else:
                del classes[at]
        return replace(self, classes=tuple(classes), revision=self.revision + 1, history=self.history[:-1])

    def _edited(self, classes: tuple[SupportClass, ...], edit: Edit) -> Self:
        history = (*self.history, edit)[-MAX_HISTORY:]
        while len(history) > MIN_HISTORY and sum(len(e.shots) for e in history) * self.n_dims > MAX_HISTORY_VALUES:
            history = history[1:]
        return replace(self, classes=classes, revision=self.revision + 1, history=history)

    def _position(self, name: str) -> int:
        name = unicodedata.normalize("NFC", name).strip()
        if name in self.names:
            return self.names.index(name)
        near = difflib.get_close_matches(name, self.names, n=1)
        remedy = f"the nearest name is '{near[0]}'" if near else "mird classes lists the known ones"
        raise SupportError(f"class '{printable(name)[:MAX_NAME]}' is not known: {remedy}")


def check_class_name(name: str) -> str:
    """Return a class's name in its one form: composed (NFC) and without space around it.

    Raises
    ------
    ClipError
        It is empty, longer than 64 characters, not printable, has a slash, begins with "_" or ".", or is one of the
        daemon's own answers, "silence" and "unknown".
    """
    given = printable(name)
    shown = given if len(given) <= MAX_NAME else given[: MAX_NAME // 2] + "…"
    checked = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(checked) <= MAX_NAME:
        raise ClipError(f"class name '{shown}' has {len(checked)} characters: give it 1 to {MAX_NAME}")
    if not checked.isprintable():
        raise ClipError(f"class name '{shown}' has characters that cannot be printed: leave them out")
    if "/" in checked:
        raise ClipError(f"class name '{shown}' has a slash: write it without, as in 'piano-grand'")
    if checked[0] in "_.":
        raise ClipError(f"class name '{shown}' begins with '{checked[0]}': begin it with another character")
    if checked.casefold() in RESERVED_NAMES:
        raise ClipError(f"class name '{shown}' is an answer of the daemon's own: choose another")
    return checked


def _check_shots(name: str, shots: tuple[Shot, ...], n_dims: int) -> None:
    if not 1 <= len(shots) <= MAX_SHOTS:
        raise SupportError(f"class '{name}' with {len(shots)} shots: a class holds 1 to {MAX_SHOTS}")
    for shot in shots:
        if shot.embedding.size != n_dims:
            raise SupportError(f"a shot of class '{name}' has {shot.embedding.size} values: must be {n_dims}")
