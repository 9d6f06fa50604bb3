"""Several processes that train one encoder, as torchrun starts them: on several GPUs, machines or cores."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from mird.training.errors import TrainingError

Result = TypeVar("Result")

PATIENCE = timedelta(hours=2)
"""How long the others wait while the first computes pictures."""


@dataclass(frozen=True)
class World:
    """One process among ``size``; the first, ``rank`` 0, is the one that writes and prints."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def any(self, *, here: bool) -> bool:
        """Whether it is so in any process: all get the same answer."""
        if self.size == 1:
            return here
        flag = torch.tensor([float(here)], device="cuda" if distributed.get_backend() == "nccl" else "cpu")
        distributed.all_reduce(flag)
        return bool(flag.item())

    def first_then_others(self, work: Callable[[], Result]) -> Result:
        """Do work in the first process and after it in the others, which then find what it has left on the disk."""
        if self.size == 1:
            return work()
        if self.is_first:
            result = work()
            distributed.barrier()
            return result
        distributed.barrier()
        return work()


def join_world(device: str) -> tuple[World, str]:
    """Join the processes that torchrun has started.

    Returns
    -------
    world : World
        Of one process where there is no torchrun.
    device : str
        The given one; where it is ``cuda``, this process's own GPU.

    Raises
    ------
    TrainingError
        If the processes cannot reach each other.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return World(), device
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if size == 1:
        return World(), device
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"process {rank} of {size} cannot join the others: {str(error).splitlines()[0]}") from None
    return World(rank, size), device


def leave_world(world: World) -> None:
    """Take leave of the other processes; after it none can be reached. No trainer may be running."""
    if world.size > 1:
        gc.collect()  # what was wrapped for the work together refers to itself, and would keep the connections
        distributed.destroy_process_group()
