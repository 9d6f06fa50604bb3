"""Errors that end a command of the daemon.

::

    MirdError                     1
    ├── SettingsError             3   a setting, a variable or a settings file
    ├── SourceError               4   what sound is taken from
    ├── ClipError                 5   a clip to enrol, or the name it is to have
    ├── SupportError              6   the support set on disk
    │   ├── SupportDamagedError       is no support set, or not a whole one
    │   └── SupportMismatchError      was made with another encoder
    ├── EndpointError             7   an address to publish or listen at
    ├── ServiceError             12   the systemd service
    └── KeysError                12   the keys for addresses off this machine

A message is one line: what is wrong, with the value; where; what to do. The number is the exit status of the command
that the error ends. Clients (8), kernels (9) and training (10) have trees of their own.
"""


class MirdError(Exception):
    """An error of the daemon, with the exit status of the command that it ends."""

    exit_status: int = 1


class SettingsError(MirdError):
    """A setting is unknown, has a value that it cannot have, or its file cannot be read."""

    exit_status = 3


class SourceError(MirdError):
    """A source of sound is missing, or holds no sound that can be read."""

    exit_status = 4


class ClipError(MirdError):
    """A clip cannot be enrolled: nothing sounds in it, or its class cannot have that name."""

    exit_status = 5


class SupportError(MirdError):
    """A support set cannot be read or written."""

    exit_status = 6


class SupportDamagedError(SupportError):
    """A file is no support set, or not a whole one."""


class SupportMismatchError(SupportError):
    """A support set was made with another encoder."""


class EndpointError(MirdError):
    """A socket cannot be bound: its address is in use, malformed or not this machine's."""

    exit_status = 7


class ServiceError(MirdError):
    """The systemd service cannot be installed or removed."""

    exit_status = 12


class KeysError(MirdError):
    """Keys for addresses off this machine are missing, damaged or open to others, or cannot be made."""

    exit_status = 12
