"""TensorBoard's log of a run."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mird.training.errors import TrainingError
from mird.training.trainer import StepReport

_log = logging.getLogger(__name__)

EVERY = 10
"""Steps between two points."""


class TrainingLog:
    """Writes loss, accuracy and rate where ``tensorboard --logdir`` finds them; without a folder it writes nothing.

    Training is worth more than its log: what cannot be written later, as on a full disk, is logged once as a warning,
    and nothing more is written.

    Parameters
    ----------
    folder : Path or None
        Gets a file for each start.

    Raises
    ------
    TrainingError
        If tensorboard is not installed, or the folder cannot be written at the start.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        self._folder = folder
        self._hook = threading.excepthook
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise TrainingError("--tensorboard needs tensorboard; install it with: pip install tensorboard") from None
        threading.excepthook = self._pass_over
        try:
            self._writer = SummaryWriter(str(folder))
        except OSError as error:
            threading.excepthook = self._hook
            raise TrainingError(f"--tensorboard {folder}: cannot be written: {error.strerror}") from None

    def add(self, report: StepReport) -> None:
        """Note a step, if it is one of those that are noted."""
        if self._writer is None or report.step % EVERY:
            return
        try:
            for name, value in (("loss", report.loss), ("accuracy", report.accuracy), ("rate", report.rate)):
                self._writer.add_scalar(name, value, report.step)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        _log.warning(
            "--tensorboard %s: cannot be written: %s; training goes on without the log", self._folder, error.strerror
        )
        writer, self._writer = self._writer, None
        with suppress(OSError):
            writer.close()

    def _pass_over(self, args: threading.ExceptHookArgs) -> None:
        """The thread that writes hands its error to the next call, and need not print a traceback as well."""
        if not (isinstance(args.exc_value, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
            self._hook(args)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            try:
                self._writer.close()
            except OSError as failure:
                self._give_up(failure)
        threading.excepthook = self._hook
