"""TensorRT or TensorRT-RTX: one library of two names, and of one programming interface.

TensorRT-RTX installs from a package of 95 MB and compiles the last step on the user's machine; TensorRT is for the
GPUs of data centres too, and its package loads most of itself from NVIDIA.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
from typing import Any, Literal

from mird.kernels.errors import EngineError

LibraryName = Literal["tensorrt", "tensorrt_rtx"]
LIBRARIES: tuple[LibraryName, ...] = ("tensorrt", "tensorrt_rtx")
"""Best first."""

LEAST_MAJOR = {"tensorrt": 11, "tensorrt_rtx": 1}

_log = logging.getLogger(__name__)


def is_installed(name: LibraryName) -> bool:
    """Whether the library is there, without loading it."""
    return importlib.util.find_spec(name) is not None


def installed_version(name: LibraryName) -> str:
    """The library's version, from its package's metadata; only where there are none is it loaded.

    Raises
    ------
    EngineError
        As :func:`load_library`.
    """
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(load_library(name).__version__)


def load_library(name: LibraryName) -> Any:
    """The library's module.

    Raises
    ------
    EngineError
        It is not installed, lacks a part, or is older than what mird was written for.
    """
    extra = name.replace("_", "-")
    try:
        library = importlib.import_module(name)
    except ModuleNotFoundError:
        raise EngineError(f"{name} is not installed; install it with: pip install 'mird[{extra}]'") from None
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(f"{name} is installed but cannot be loaded: {' '.join(str(error).split())[:200]}") from None
    version = str(library.__version__)
    if int(version.partition(".")[0]) < LEAST_MAJOR[name]:
        raise EngineError(
            f"{name} {version} is too old, {LEAST_MAJOR[name]} is needed; install it with: pip install 'mird[{extra}]'"
        )
    return library


def make_logger(library: Any) -> Any:
    """A logger of the library's that keeps its messages for errors of our own.

    Returns
    -------
    ILogger
        Its attribute ``last`` is the newest error in one line; all of it goes to :mod:`logging` at the level debug.
    """

    class Logger(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, text: str) -> None:
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                self.last = " ".join(text.split())[:300]
            _log.debug("%s: %s", severity, text)

    return Logger()
