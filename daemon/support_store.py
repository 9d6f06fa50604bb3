"""SupportStore: every change of the support set, with the encoder at hand that its embeddings come from.

The daemon's main thread and the command line use it. Whoever recognises reads :attr:`SupportStore.snapshot`, which is
immutable and swapped whole after a change has reached the disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mird.daemon import support
from mird.daemon.errors import ClipError, SupportMismatchError
from mird.daemon.shot import Shot
from mird.daemon.support_set import SupportClass, SupportSet, check_class_name
from mird.kernels.frontend import FrontEnd
from mird.kernels.recognizer import Recognizer
from mird.kernels.similarity import Prototypes, prototypes

ORIGINS_SHOWN: Final = 8
NEVER_SEEN: Final = (0, 0, 0)
"""The identity of no file."""
CORRECTION: Final = "correction"
"""Origin of the shots that a correction makes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """The support set as recognition sees it.

    Attributes
    ----------
    prototypes : Prototypes
    revision : int
        Counts the set's changes.
    thresholds : Mapping[str, float]
        Of the classes that have one of their own.
    """

    prototypes: Prototypes
    revision: int
    thresholds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Enrolled:
    """What an enrolment or a correction did.

    Attributes
    ----------
    name : str
        The class, in its one form.
    n_added, n_shots : int
        Shots that were added, and that the class has now.
    resembles : str
        The other class that the new shots are most like; empty where there is none.
    resemblance : float in [0, 1]
        P(same) of the new shots and that class.
    """

    name: str
    n_added: int
    n_shots: int
    resembles: str
    resemblance: float

    def to_map(self) -> dict[str, Any]:
        """As the control socket and ``--json`` give it."""
        return asdict(self)


class SupportStore:
    """The support set in force and its file.

    Parameters
    ----------
    recognizer : Recognizer
        For this object alone: another thread's may share its encoder.
    path : Path
        The file that changes are written to; absent before the first.
    default : Path
        The set to begin with.
    unknown_threshold : float in [0, 1], optional
        Of classes without one of their own, for the listing; the encoder's by default.
    class_thresholds : Mapping[str, float]
        Those of the settings, for the listing.

    Raises
    ------
    SupportError
        The file is damaged or of another encoder.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        path: Path,
        default: Path,
        unknown_threshold: float | None = None,
        class_thresholds: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._recognizer = recognizer
        self._fingerprint = recognizer.card.fingerprint
        self._n_dims = len(recognizer.card.head.gamma)
        self.path = path
        self._default = default
        self.unknown_threshold = unknown_threshold
        self.class_thresholds = class_thresholds
        self._seen = self._file_identity()
        try:
            self.current = support.load(path, self._fingerprint)
        except FileNotFoundError:
            self.current = self._start()
        self.snapshot = self._snap(self.current)

    @property
    def front_end(self) -> FrontEnd:
        """What a window is, for whoever enrols."""
        return self._recognizer.card.front_end

    def enroll(self, name: str, windows: NDArray[np.float32], origin: str) -> Enrolled:
        """Add a clip's windows to a class, or a class with its first shots.

        Parameters
        ----------
        name : str
        windows : NDArray[float32], shape (n, window), at the front end's rate, range [-1, 1]
        origin : str
            The clip's name.

        Raises
        ------
        ClipError
            The name is not acceptable, or a window holds no sound or values that are no sound.
        SupportError
            The set is full or cannot be written; it is as it was.
        """
        name = check_class_name(name)
        if not len(windows) or not np.isfinite(windows).all() or not np.abs(windows).max(axis=1).all():
            raise ClipError(f"clip '{origin}' has a window without sound: choose another clip")
        embeddings = self._recognizer.embed(windows)
        resembles, resemblance = self._nearest(name, embeddings)
        shots = _shots(embeddings, origin)
        self._change(lambda current: current.with_shots(name, shots))
        return Enrolled(name, len(shots), self._n_shots(name), resembles, resemblance)

    def correct(self, name: str, embeddings: NDArray[np.float32]) -> Enrolled:
        """Make windows that were heard shots of a class, the most useful of which are kept.

        Parameters
        ----------
        name : str
        embeddings : NDArray[float32], shape (n, n_dims)
            Of the windows, n > 0.

        Raises
        ------
        ClipError, SupportError
            As :meth:`enroll`.
        """
        name = check_class_name(name)
        resembles, resemblance = self._nearest(name, embeddings)
        shots = _shots(embeddings, CORRECTION)
        self._change(lambda current: current.corrected(name, shots))
        return Enrolled(name, len(shots), self._n_shots(name), resembles, resemblance)

    def set_threshold(self, name: str, threshold: float | None) -> None:
        """Give a class a threshold of its own, or none; SupportError as :meth:`SupportSet.with_threshold`."""
        self._change(lambda current: current.with_threshold(name, threshold))

    def refresh(self, *, always: bool = False) -> bool:
        """Read the file again where somebody else has changed it since it was last read or written here.

        Parameters
        ----------
        always : bool
            Also where it looks as it did.

        Returns
        -------
        bool
            Whether there is another set in force now.

        Raises
        ------
        SupportError
            The file cannot be used: the set is as it was. It is not looked at again until it changes, or `always`.
        """
        identity = self._file_identity()
        if identity == self._seen and not always:
            return False
        self._seen = identity
        try:
            changed = support.load(self.path, self._fingerprint)
        except FileNotFoundError:
            changed = self._start()
            if changed.classes != self.current.classes:
                _log.warning("support set %s is gone: beginning anew with the set that mird ships", self.path)
        if changed == self.current:
            return False
        self._swap(changed)
        return True

    def rename(self, old: str, new: str) -> None:
        """Give a class another name; SupportError or ClipError as :meth:`SupportSet.renamed`."""
        self._change(lambda current: current.renamed(old, new))

    def forget(self, name: str) -> None:
        """Leave a class out; SupportError as :meth:`SupportSet.forgotten`."""
        self._change(lambda current: current.forgotten(name))

    def undo(self) -> None:
        """Take the last change back; SupportError as :meth:`SupportSet.undone`."""
        self._change(lambda current: current.undone())

    def listing(self) -> dict[str, Any]:
        """Classes and shots, as the control socket and ``--json`` give them."""
        return {
            "path": str(self.path),
            "revision": self.current.revision,
            "n_undoable": len(self.current.history),
            "classes": [
                {
                    "name": known.name,
                    "n_shots": len(known.shots),
                    "threshold": self._threshold(known),
                    "has_threshold": known.threshold is not None,
                    "origins": sorted({shot.origin for shot in known.shots})[:ORIGINS_SHOWN],
                    "added_utc_ns": max(shot.added_utc_ns for shot in known.shots),
                }
                for known in self.current.classes
            ],
        }

    def handlers(self) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
        """The control socket's verbs that concern the support set; the command line uses them where no daemon runs."""

        def listed(change: Callable[[Mapping[str, Any]], None]) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
            def handle(request: Mapping[str, Any]) -> Mapping[str, Any]:
                change(request)
                return self.listing()

            return handle

        return {
            "classes": lambda _: self.listing(),
            "enroll": self._enroll_request,
            "rename": listed(lambda request: self.rename(request["old"], request["new"])),
            "forget": listed(lambda request: self.forget(request["name"])),
            "threshold": listed(lambda request: self.set_threshold(request["name"], request["value"])),
            "undo": listed(lambda _: self.undo()),
        }

    def _enroll_request(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        front_end = self._recognizer.card.front_end
        if request["rate_hz"] != front_end.rate_hz:
            raise ClipError(f"windows at {request['rate_hz']} Hz: this encoder needs {front_end.rate_hz}")
        wrong = [len(raw) for raw in request["windows"] if len(raw) != 4 * front_end.window]
        if wrong:
            raise ClipError(f"a window of {wrong[0]} bytes: this encoder needs {front_end.window} float32 samples")
        windows = np.stack([np.frombuffer(raw, "<f4") for raw in request["windows"]]).astype(np.float32)
        return self.enroll(request["name"], windows, request["origin"]).to_map()

    def _change(self, change: Callable[[SupportSet], SupportSet]) -> None:
        changed = support.edit(self.path, self._fingerprint, change, self._start)
        self._seen = NEVER_SEEN  # somebody may have changed it once more by now: the next refresh looks
        self._swap(changed)

    def _file_identity(self) -> tuple[int, int, int] | None:
        """What changes with every save: a new file each time. None where there is none, or it cannot be asked."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _n_shots(self, name: str) -> int:
        return next(len(known.shots) for known in self.current.classes if known.name == name)

    def _threshold(self, known: SupportClass) -> float:
        """The threshold in force: the class's own, else that of the settings, else the encoder's."""
        if known.threshold is not None:
            return known.threshold
        default = self._recognizer.card.unknown_threshold if self.unknown_threshold is None else self.unknown_threshold
        return self.class_thresholds.get(known.name, default)

    def _start(self) -> SupportSet:
        """The shipped set; an empty one where it is of another encoder than the one in use."""
        try:
            return support.load(self._default, self._fingerprint).given()
        except FileNotFoundError:
            _log.warning("no default support set at %s: nothing is known until a class is enrolled", self._default)
        except SupportMismatchError:
            _log.warning("the default support set is of another encoder: nothing is known until a class is enrolled")
        return SupportSet(self._fingerprint, self._n_dims)

    def _swap(self, changed: SupportSet) -> None:
        self.snapshot = self._snap(changed)
        self.current = changed

    @staticmethod
    def _snap(current: SupportSet) -> Snapshot:
        thresholds = {known.name: known.threshold for known in current.classes if known.threshold is not None}
        return Snapshot(current.prototypes(), current.revision, thresholds)

    def _nearest(self, name: str, embeddings: NDArray[np.float32]) -> tuple[str, float]:
        """The other class that embeddings are most like, and how much."""
        known = self.snapshot.prototypes
        others = [i for i, other in enumerate(known.names) if other != name]
        if not others:
            return "", 0.0
        mean = prototypes((name,), embeddings, np.zeros(len(embeddings), np.intp)).vectors
        scores = self._recognizer.compare(mean, known.only(others))
        best = int(np.argmax(scores[0]))
        return known.names[others[best]], float(scores[0, best])


def _shots(embeddings: NDArray[np.float32], origin: str) -> tuple[Shot, ...]:
    now_ns = time.time_ns()
    return tuple(Shot(embedding, origin, now_ns) for embedding in embeddings)
