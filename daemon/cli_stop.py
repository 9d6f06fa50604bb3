"""``mird stop``: end a running daemon."""

import argparse

from mird.daemon.cli_settings import add_setting_arguments, settings_of

STOP_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_setting_arguments(parser, "control")


def run(args: argparse.Namespace) -> int:
    """Tell the daemon to end, and wait until its control socket is gone."""
    import time

    from mird.clients.errors import DaemonSilent, DaemonUnreachable
    from mird.daemon.cli_target import open_control

    with open_control(settings_of(args).settings) as daemon:
        daemon.stop()
        deadline_s = time.monotonic() + STOP_S
        daemon.timeout_s = 1.0
        while time.monotonic() < deadline_s:
            try:
                daemon.status()
            except DaemonSilent:  # it ends, and answers no more
                pass
            except DaemonUnreachable:
                return 0
            time.sleep(0.05)
    raise DaemonSilent(f"mird at {daemon.endpoint} was told to stop and still runs after {STOP_S:g} s; look at its log")
