"""Saves support sets under faults, in a process of its own; test_support_faults.py runs it and reads what it prints."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mird.daemon.errors import SupportError
from mird.daemon.support import Shot, SupportSet, edit, load, save

FINGERPRINT = "light-0123456789abcdef"
N_DIMS = 256


def support_of(n_classes: int, value: float) -> SupportSet:
    shots = tuple(Shot(np.full(N_DIMS, value, dtype=np.float32), "clip.wav", 1) for _ in range(10))
    support = SupportSet(FINGERPRINT, N_DIMS)
    for index in range(n_classes):
        support = support.with_shots(f"class {index}", shots)
    return support


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            work()
        os._exit(0)
    return child


def kill_at_random(path: Path, n_times: int) -> None:
    """Kill a process that saves two sets in turn, and read the file after each kill."""
    sets = [support_of(3, 1.0), support_of(60, 2.0)]
    wholes = {len(support.classes): support.classes for support in sets}
    chance = random.Random(20_240_501)
    began_s = time.monotonic()
    for support in (*sets, sets[0]):
        save(support, path)
    turn_s = time.monotonic() - began_s
    seen = {3: 0, 60: 0}

    def save_for_ever() -> None:
        while True:
            for support in sets:
                save(support, path)

    for _ in range(n_times):
        child = in_child(save_for_ever)
        time.sleep(chance.uniform(0.001, min(2 * turn_s, 0.3)))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        found = load(path, FINGERPRINT).classes
        assert found == wholes[len(found)]
        seen[len(found)] += 1
    save(sets[0], path)
    print(f"whole {seen[3]} {seen[60]} files {len(list(path.parent.iterdir()))}")


def kill_at_each_step(path: Path) -> None:
    """Kill a save before each of its calls to the system in turn, and read the file after each kill."""
    old, new = support_of(3, 1.0), support_of(60, 2.0)
    outcome = ""
    for step in range(1_000):
        save(old, path)

        def stop_before(step: int = step) -> None:
            calls = itertools.count()

            def stopping(call: Callable[..., Any]) -> Callable[..., Any]:
                def stop_or_call(*arguments: Any, **more: Any) -> Any:
                    if next(calls) >= step:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*arguments, **more)

                return stop_or_call

            for name in ("open", "write", "fsync", "close", "replace", "fchmod", "fchown", "fstat"):
                setattr(os, name, stopping(getattr(os, name)))
            save(new, path)

        child = in_child(stop_before)
        killed = os.waitpid(child, 0)[1] == signal.SIGKILL
        found = load(path, FINGERPRINT).classes
        assert found in (old.classes, new.classes)
        outcome += "n" if found == new.classes else "o"
        if not killed:
            break
    print(f"steps {outcome}")


def fill(path: Path, limit_bytes: int) -> None:
    """Save a set that the disk has no room for, and read the file after that."""
    small = support_of(3, 1.0)
    save(small, path)
    if limit_bytes:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    try:
        save(support_of(500, 2.0), path)
    except SupportError as error:
        assert load(path, FINGERPRINT) == small
        print(f"refused: {error}")
    print(f"files {sorted(entry.name for entry in path.parent.iterdir())}")


def enrol(path: Path, prefix: str, n_times: int) -> None:
    """Enrol classes one by one, as a daemon and a command do at the same time."""
    shot = Shot(np.zeros(N_DIMS, dtype=np.float32), "live", 1)

    for index in range(n_times):

        def add(known: SupportSet, index: int = index) -> SupportSet:
            return known.with_shots(f"{prefix} {index}", (shot,))

        edit(path, FINGERPRINT, add, lambda: support_of(1, 1.0))


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    commands: dict[str, Callable[[], None]] = {
        "kill-at-random": lambda: kill_at_random(Path(where), int(rest[0])),
        "kill-at-each-step": lambda: kill_at_each_step(Path(where)),
        "fill": lambda: fill(Path(where), int(rest[0])),
        "enrol": lambda: enrol(Path(where), rest[0], int(rest[1])),
    }
    commands[what]()
