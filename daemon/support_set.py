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

MAX_CLASSES: Final = 10_000
MAX_SHOTS: Final = 4_096
"""Shots of one class."""
MAX_DIMS: Final = 65_536
MAX_FINGERPRINT: Final = 256
MAX_NAME: Final = 64
MAX_ORIGIN: Final = 200
MAX_HISTORY: Final = 32
"""Edits that can be undone."""
MIN_HISTORY: Final = 10
"""Edits that can be undone however large they are."""
MAX_HISTORY_VALUES: Final = 1 << 20
"""Numbers of forgotten embeddings beyond which edits older than the last `MIN_HISTORY` are dropped (4 MiB)."""
RESERVED_NAMES: Final = ("silence", "unknown")

Verb = Literal["enrol", "rename", "forget"]


@dataclass(frozen=True, eq=False)
class Shot:
    """One window of a class, as the encoder saw it.

    Attributes
    ----------
    embedding : NDArray[float32], shape (n_dims,)
        Finite; kept as a read-only copy.
    origin : str
        The clip's name, "live" or "default". For display: made printable and cut at 200 characters.
    added_utc_ns : int
        Nanoseconds since 1970.

    Raises
    ------
    SupportError
        The embedding is not one vector of finite values, or the time is before 1970.
    """

    embedding: NDArray[np.float32]
    origin: str
    added_utc_ns: int

    def __post_init__(self) -> None:
        embedding = np.array(self.embedding, dtype=np.float32)
        if embedding.ndim != 1 or not embedding.size:
            raise SupportError(f"embedding of shape {embedding.shape}: must be one vector, shape (n_dims,)")
        if not np.isfinite(embedding).all():
            raise SupportError(f"embedding of '{self.origin}' has values that are not finite: take another clip")
        if not 0 <= self.added_utc_ns < 1 << 63:
            raise SupportError(f"added_utc_ns={self.added_utc_ns}: must be nanoseconds since 1970")
        embedding.setflags(write=False)
        object.__setattr__(self, "embedding", embedding)
        object.__setattr__(self, "origin", printable(self.origin)[:MAX_ORIGIN])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Shot):
            return NotImplemented
        mine, theirs = (self.origin, self.added_utc_ns), (other.origin, other.added_utc_ns)
        return mine == theirs and np.array_equal(self.embedding, other.embedding)

    def __hash__(self) -> int:
        return hash((self.origin, self.added_utc_ns))


@dataclass(frozen=True)
class SupportClass:
    """A class and its shots, the oldest first; never without a shot."""

    name: str
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class Edit:
    """What is needed to undo one edit, and no more.

    Attributes
    ----------
    verb : {"enrol", "rename", "forget"}
    name : str
        The class's name after the edit (the forgotten name for "forget").
    old_name : str
        The class's name before a "rename", else empty.
    n_shots : int
        Shots that an "enrol" added, else 0.
    position : int
        Where the forgotten class stood, else 0.
    shots : tuple[Shot, ...]
        The forgotten shots, else empty.
    """

    verb: Verb
    name: str
    old_name: str = ""
    n_shots: int = 0
    position: int = 0
    shots: tuple[Shot, ...] = ()


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
            known = SupportClass(name, self.classes[at].shots + shots)
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
        known = SupportClass(new, self.classes[at].shots)
        classes = (*self.classes[:at], known, *self.classes[at + 1 :])
        return self._edited(classes, Edit("rename", new, old_name=self.classes[at].name))

    def forgotten(self, name: str) -> Self:
        """Leave a class out; SupportError: it is not known."""
        at = self._position(name)
        edit = Edit("forget", self.classes[at].name, position=at, shots=self.classes[at].shots)
        return self._edited((*self.classes[:at], *self.classes[at + 1 :]), edit)

    def undone(self) -> Self:
        """Take the last edit back; SupportError: there is none left."""
        if not self.history:
            raise SupportError("nothing to undo: no edit of this support set is remembered")
        edit = self.history[-1]
        classes = list(self.classes)
        if edit.verb == "forget":
            classes.insert(edit.position, SupportClass(edit.name, edit.shots))
        else:
            at = self._position(edit.name)
            if edit.verb == "rename":
                classes[at] = SupportClass(edit.old_name, classes[at].shots)
            elif len(classes[at].shots) > edit.n_shots:
                classes[at] = SupportClass(edit.name, classes[at].shots[: -edit.n_shots])
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


def printable(text: str) -> str:
    """Put a question mark for each character that no terminal, message or file can show."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _check_shots(name: str, shots: tuple[Shot, ...], n_dims: int) -> None:
    if not 1 <= len(shots) <= MAX_SHOTS:
        raise SupportError(f"class '{name}' with {len(shots)} shots: a class holds 1 to {MAX_SHOTS}")
    for shot in shots:
        if shot.embedding.size != n_dims:
            raise SupportError(f"a shot of class '{name}' has {shot.embedding.size} values: must be {n_dims}")
