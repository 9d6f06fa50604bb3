"""Which shots of a class are worth keeping once corrections have brought more than it may hold."""

import numpy as np

from mird.daemon.shot import Shot


def most_useful(old: tuple[Shot, ...], new: tuple[Shot, ...], n_most: int) -> tuple[Shot, ...]:
    """Choose among a class's shots.

    A shot that lies close to another one tells nothing that the other does not: again and again the older one of the
    two that are most alike is left out. A shot of the newest correction is never left out for an older one.

    Parameters
    ----------
    old, new : tuple[Shot, ...]
        Those that the class has, the oldest first, and those of the correction.
    n_most : int > 0

    Returns
    -------
    tuple[Shot, ...]
        At most `n_most`, in their order.
    """
    shots = old + new
    if len(shots) <= n_most:
        return shots
    vectors = np.stack([shot.embedding for shot in shots])
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    kept = list(range(len(shots)))
    while len(kept) > n_most:
        among = likeness[np.ix_(kept, kept)]
        first, second = divmod(int(np.argmax(among)), len(kept))
        del kept[min(first, second)]
    return tuple(shots[index] for index in kept)
