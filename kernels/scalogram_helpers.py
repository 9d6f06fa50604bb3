"""Threads that help with a scalogram.

Python lets one thread at a time run its own code, and taking turns costs microseconds each time; a piece of a scalogram
is half a dozen short calls and a long one, the FFT. So the first thread makes the short ones, and its helpers compute
FFTs. Whoever has nothing to do sleeps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from mird.kernels.scalogram_pieces import Bench, Piece, Room, Stages

Share = Callable[[Sequence[Piece], Sequence[Bench], Room], None]


@dataclass(frozen=True)
class Job:
    """A piece, by what is to be done with it and where."""

    bench: Bench
    stages: Stages


class Helpers:
    """Threads that compute FFTs when they are asked to.

    Parameters
    ----------
    n : int > 0
    """

    def __init__(self, n: int) -> None:
        self._n, self._threads = n, ThreadPoolExecutor(n, "scalogram")

    @contextmanager
    def awake(self) -> Iterator[Share]:
        """Wake the helpers; gives a call that computes pieces on benches.

        More benches than threads let the next bands wait for whoever is ready first.
        """
        ready: SimpleQueue[Job | None] = SimpleQueue()
        done: SimpleQueue[Job | Exception] = SimpleQueue()
        helpers = [self._threads.submit(help_out, ready, done) for _ in range(self._n)]

        def share(pieces: Sequence[Piece], benches: Sequence[Bench], room: Room) -> None:
            todo, free, n_left = deque(pieces), list(benches), len(pieces)
            while n_left:
                hungry = ready.qsize() < self._n
                job = None if hungry and todo and free else checked(taken(done))
                if job is None and todo and free:
                    bench = free.pop()
                    job = Job(bench, bench.stages(todo.popleft(), room))
                    job.stages.fill()
                    ready.put(job)
                    continue
                if job is None and (job := checked(taken(ready))) is not None:
                    job.stages.transform()
                if job is None and (job := checked(done.get())) is None:
                    continue
                job.stages.gather()
                free.append(job.bench)
                n_left -= 1

        try:
            yield share
        except BaseException:
            dismiss(ready, helpers)
            wait(helpers)  # they may still be at work on a bench
            raise
        dismiss(ready, helpers)


def dismiss(ready: SimpleQueue[Job | None], helpers: Sequence[Future[None]]) -> None:
    """Let helpers go when they have done what is ready."""
    for _ in helpers:
        ready.put(None)


def help_out(ready: SimpleQueue[Job | None], done: SimpleQueue[Job | Exception]) -> None:
    """Compute the FFTs of jobs until there is None."""
    while (job := ready.get()) is not None:
        try:
            job.stages.transform()
        except Exception as error:  # noqa: BLE001 - it is raised by who waits for the job
            done.put(error)
        else:
            done.put(job)


def taken(queue: SimpleQueue[Job | None] | SimpleQueue[Job | Exception]) -> Job | Exception | None:
    """What is next in a queue; None where it is empty."""
    try:
        return queue.get_nowait()
    except Empty:
        return None


def checked(found: Job | Exception | None) -> Job | None:
    """What was found, but for a fault, which is raised."""
    if isinstance(found, Exception):
        raise found
    return found
