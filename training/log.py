"""TensorBoard's log of a run."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mird.training.errors import TrainingError
from mird.training.trainer import StepReport

EVERY = 10
"""Steps between two points."""


class TrainingLog:
    """Writes loss, accuracy and rate where ``tensorboard --logdir`` finds them; without a folder it writes nothing.

    Parameters
    ----------
    folder : Path or None
        Gets a file for each start.

    Raises
    ------
    TrainingError
        If tensorboard is not installed, or the folder cannot be written.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise TrainingError("--tensorboard needs tensorboard; install it with: pip install tensorboard") from None
        try:
            self._writer = SummaryWriter(str(folder))
        except OSError as error:
            raise TrainingError(f"--tensorboard {folder}: cannot be written: {error.strerror}") from None

    def add(self, report: StepReport) -> None:
        """Note a step, if it is one of those that are noted."""
        if self._writer is None or report.step % EVERY:
            return
        for name, value in (("loss", report.loss), ("accuracy", report.accuracy), ("rate", report.rate)):
            self._writer.add_scalar(name, value, report.step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
