"""A shot: one window of a class, as the encoder saw it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mird.daemon.errors import SupportError

MAX_ORIGIN: Final = 200


@dataclass(frozen=True, eq=False)
class Shot:
    """One window of a class, as the encoder saw it.

    Attributes
    ----------
    embedding : NDArray[float32], shape (n_dims,)
        Finite; kept as a read-only copy.
    origin : str
        The clip's name, "live" or "correction"; of a shot that mird ships, where it is from. For display: made
        printable and cut at 200 characters.
    added_utc_ns : int
        Nanoseconds since 1970.
    given : bool
        It came with the set that the user's own began as: other players, other rooms.

    Raises
    ------
    SupportError
        The embedding is not one vector of finite values, or the time is before 1970.
    """

    embedding: NDArray[np.float32]
    origin: str
    added_utc_ns: int
    given: bool = False

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
        mine, theirs = ((each.origin, each.added_utc_ns, each.given) for each in (self, other))
        return mine == theirs and np.array_equal(self.embedding, other.embedding)

    def __hash__(self) -> int:
        return hash((self.origin, self.added_utc_ns))


def printable(text: str) -> str:
    """Put a question mark for each character that no terminal, message or file can show."""
    return "".join(character if character.isprintable() else "?" for character in text)
