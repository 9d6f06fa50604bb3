"""One heap for all threads, and large buffers outside of it: a daemon stays as large as after its first minute.

glibc would give each thread a heap, where what one freed does not serve the others, and take large buffers out of them
once it has seen one: what lies above such a hole is never given back.
"""

import ctypes

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
LARGE_BYTES = 512 << 10


def keep_memory_flat() -> None:
    """Set the allocator so, before there are other threads. Other C libraries than glibc are left alone."""
    try:
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    except (AttributeError, OSError):
        return
