"""Errors of the kernels room.

KernelError                exit status 9 where it ends a command
├── ParameterError         a value that cannot be computed with (also a ValueError)
└── EngineError            an encoder file or engine that cannot be loaded or run
    └── HangingError       a device that does not answer
"""

from __future__ import annotations


class KernelError(Exception):
    """Root of this room's errors."""

    exit_status = 9


class ParameterError(KernelError, ValueError):
    """A value outside what the computation is defined for; the message names it and the allowed range."""


class EngineError(KernelError):
    """An encoder could not be loaded or run; the message names the file and the reason."""


class HangingError(EngineError):
    """A device did not answer in time; whoever asks it anything, even to free memory, may wait for ever."""
