"""One heap for all threads: glibc would give each its own, where what one thread freed does not serve the others."""

import ctypes

_M_ARENA_MAX = -8


def share_heap() -> None:
    """Let every thread allocate from one heap; to be called before there are others.

    A daemon of months is to stay as large as it was after its first minute. Other C libraries are left alone.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    except (AttributeError, OSError):
        return
