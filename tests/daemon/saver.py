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
    sets = [support_of(3, 1.0), support_of(12, 2.0)]
    wholes = {len(support.classes): support.classes for support in sets}
    chance = random.Random(20_240_501)
    began_s = time.monotonic()
    for support in (*sets, sets[0]):
        save(support, path)
    turn_s = time.monotonic() - began_s
    seen = {3: 0, 12: 0}

    def save_for_ever() -> None:
        while True:
            for support in sets:
                save(support, path)

    for _ in range(n_times):
        child = in_child(save_for_ever)
        time.sleep(chance.uniform(0.001, min(turn_s, 0.02)))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        found = load(path, FINGERPRINT).classes
        assert found == wholes[len(found)]
        seen[len(found)] += 1
    save(sets[0], path)
    print(f"whole {seen[3]} {seen[12]} files {len(list(path.parent.iterdir()))}")


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


class Disk:
    """What is on a disk whose power fails: only what was forced to it is certain, all else may be there, or torn.

    It watches the calls to the system of a save in one folder: contents by inode, names by folder, and of both what
    `fsync` made lasting.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self.files: dict[int, str] = {}  # descriptor to name
        self.content: dict[str, bytes] = {path.name: path.read_bytes()}
        self.names = {path.name: path.name}  # name to the name that the file was made under
        self.lasting_content, self.lasting_names = dict(self.content), dict(self.names)
        self.moments: list[tuple[dict[str, bytes], dict[str, str], dict[str, bytes], dict[str, str]]] = []

    def note(self) -> None:
        """Remember this moment: the power may fail in it."""
        self.moments.append(
            (dict(self.content), dict(self.names), dict(self.lasting_content), dict(self.lasting_names))
        )

    def watch(self) -> None:
        """See every call that changes something from now on."""
        real_open, real_write, real_fsync, real_replace = os.open, os.write, os.fsync, os.replace

        def watched_open(path: Any, flags: int, *more: Any, **named: Any) -> int:
            descriptor = real_open(path, flags, *more, **named)
            self.files[descriptor] = Path(path).name
            if flags & os.O_CREAT and Path(path).name not in self.names:
                self.names[Path(path).name] = Path(path).name
                self.content[Path(path).name] = b""
            self.note()
            return descriptor

        def watched_write(descriptor: int, data: Any) -> int:
            n_written = real_write(descriptor, data)
            self.content[self.files[descriptor]] += bytes(data[:n_written])
            self.note()
            return n_written

        def watched_fsync(descriptor: int) -> None:
            real_fsync(descriptor)
            name = self.files[descriptor]
            if name == self.folder.name:
                self.lasting_names = dict(self.names)
            else:
                self.lasting_content[name] = self.content[name]
            self.note()

        def watched_replace(source: Any, target: Any, **named: Any) -> None:
            real_replace(source, target, **named)
            self.names[Path(target).name] = self.names.pop(Path(source).name)
            self.note()

        for name, call in (
            ("open", watched_open),
            ("write", watched_write),
            ("fsync", watched_fsync),
            ("replace", watched_replace),
        ):
            setattr(os, name, call)

    def after_power_loss(self, moment: int, name: str, chance: random.Random) -> bytes:
        """What may be found under a name when the power failed in a moment: names and contents last, or do not."""
        content, names, lasting_content, lasting_names = self.moments[moment]
        made_as = (names if chance.random() < 0.5 else lasting_names)[name]
        if content[made_as] == lasting_content.get(made_as):
            return content[made_as]
        there = chance.randint(0, len(content[made_as]))
        torn = content[made_as][:there]
        return torn + bytes(len(content[made_as]) - there) if chance.random() < 0.5 else torn


def lose_power(path: Path, n_times: int) -> None:
    """Fail the power `n_times` at random moments of a save, and read what is on the disk then."""
    old, new = support_of(3, 1.0), support_of(6, 2.0)
    save(old, path)
    disk = Disk(path)
    disk.note()
    disk.watch()
    save(new, path)
    disk.note()
    chance = random.Random(20_240_502)
    outcomes = {old: 0, new: 0}
    after = path.with_name("after.mird")
    moments = [*range(len(disk.moments)), *(chance.randrange(len(disk.moments)) for _ in range(n_times))]
    for moment in moments:
        after.write_bytes(disk.after_power_loss(moment, path.name, chance))
        outcomes[load(after, FINGERPRINT)] += 1
    after.write_bytes(disk.after_power_loss(-1, path.name, chance))
    assert load(after, FINGERPRINT) == new, "what a save has returned from lasts"
    print(f"moments {len(disk.moments)} old {outcomes[old]} new {outcomes[new]}")


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
        "lose-power": lambda: lose_power(Path(where), int(rest[0])),
        "fill": lambda: fill(Path(where), int(rest[0])),
        "enrol": lambda: enrol(Path(where), rest[0], int(rest[1])),
    }
    commands[what]()
