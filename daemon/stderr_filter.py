"""StderrFilter: keep what ALSA, JACK and PortAudio print while a device is opened out of the daemon's stderr.

They write to file descriptor 2 from C, 70 lines on a machine without a card, and no switch covers all of it. So for
the time of an opening or closing the descriptor is a pipe; a thread passes on at once every line that is not theirs. It
is process-wide, like the descriptor.
"""

import os
import re
import threading
from types import TracebackType
from typing import Final, Self

_NOISE: Final = re.compile(
    rb"ALSA lib |Expression '.*' failed in '|Cannot connect to server|jack server is not running"
    rb"|JackShmReadWritePtr|connect\(2\) call to |attempt to connect to server failed|\s*$"
)
_STDERR: Final = 2
_MAX_KEPT: Final = 50
_END: Final = b"\0mird: end of the filter\0\n"


class StderrFilter:
    """A context in which the libraries' lines are kept from stderr. Contexts must not overlap in time.

    `lines` holds what was kept back, 50 lines at most: the last often says why a device cannot be opened.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._true_stderr = -1
        self._write_end = -1
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            self._true_stderr = os.dup(_STDERR)
        except OSError:  # a daemon without a stderr has nothing to filter
            return self
        read_end, self._write_end = os.pipe()
        os.dup2(self._write_end, _STDERR)
        self._reader = threading.Thread(target=self._pass_on, args=(read_end,), name="mird-stderr", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is None:
            return
        os.dup2(self._true_stderr, _STDERR)
        # A mark ends the reader, not the end of the file: a process that was started meanwhile holds the pipe, too.
        os.write(self._write_end, b"\n" + _END)
        self._reader.join()
        self._reader = None
        os.close(self._write_end)
        os.close(self._true_stderr)

    def _pass_on(self, read_end: int) -> None:
        with os.fdopen(read_end, "rb") as pipe:
            for line in pipe:
                if line == _END:
                    return
                if _NOISE.match(line) is None:
                    os.write(self._true_stderr, line)
                elif line.strip() and len(self.lines) < _MAX_KEPT:
                    self.lines.append(line.decode(errors="replace").strip())
