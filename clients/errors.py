"""Errors of clients.

::

    ClientError                   8
    ├── DaemonUnreachable         8   nobody answers at the control socket
    │   └── DaemonSilent          8   there is somebody, who does not answer or does not let us in
    ├── RequestRefused            *   the daemon answered that it could not; * the exit status that it gave
    ├── UsageError                2   an argument of a command that cannot be
    ├── ListenError               7   an address to listen at cannot be used
    └── OutletError               13  what a bridge leads to cannot be used: a library, a port, a target, a folder
"""


class ClientError(Exception):
    """A client cannot do what it was asked to, with the exit status of the command that it ends."""

    exit_status: int = 8


class DaemonUnreachable(ClientError):  # noqa: N818 - reads as what is so
    """No daemon answers at an address."""


class DaemonSilent(DaemonUnreachable):
    """A daemon is there, but hangs, or is another user's."""


class RequestRefused(ClientError):  # noqa: N818
    """The daemon answered with an error.

    Attributes
    ----------
    exit_status : int
        As of the daemon's own error, such as 5 for a clip that cannot be enrolled.
    """

    def __init__(self, message: str, exit_status: int = 8) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class UsageError(ClientError):
    """An argument of a command cannot be, alone or with the others."""

    exit_status = 2


class ListenError(ClientError):
    """A client cannot listen at an address: it is in use, or not this machine's."""

    exit_status = 7


class OutletError(ClientError):
    """What a bridge leads to cannot be used from the start: a library, a port, a target or a folder.

    What goes wrong later is logged, and the bridge goes on.
    """

    exit_status = 13
