"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A new file beside ``path``, renamed over it when the block is done; where the block fails it is removed."""
    partial = path.with_suffix(".partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write a file and force it to the disk before it takes its name; OSError, with the system's reason, if it fails.

    What torch and NumPy are to write goes through memory to here: writing to a file themselves, they hide the reason.
    """
    with whole(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
