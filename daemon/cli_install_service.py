"""``mird install-service``: run mird under systemd, from boot or from a user's login on, and the undo of it."""

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mird.daemon.units import Service


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--user", action="store_true", help="a service of this user, for PipeWire or PulseAudio (default: the system's)"
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--now", action="store_true", help="enable it and start it, too")
    way.add_argument("--remove", action="store_true", help="stop it and take away what was installed")
    parser.add_argument(
        "--replace", action="store_true", help="a unit that was edited is put aside as mird.service.old, not left alone"
    )


def run(args: argparse.Namespace) -> int:
    """Write the unit and tell systemd, or take it back; every step is told on standard output."""
    from mird.daemon.errors import ServiceError
    from mird.daemon.units import service

    if not args.user and os.geteuid() != 0:
        raise ServiceError("a system service needs the rights of root; use sudo, or --user for a service of your own")
    if args.user and os.geteuid() == 0 and os.environ.get("SUDO_UID", "0") != "0":
        raise ServiceError("--user under sudo would be root's own service; run it as yourself, without sudo")
    wanted = service(user=args.user)
    return _remove(wanted, args) if args.remove else _install(wanted, args)


def _install(wanted: "Service", args: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from mird.daemon.paths import shipped
    from mird.daemon.units import SYSUSERS, check_reachable, installed_program, systemd_runs, write
    from mird.daemon.units import run as run_program

    systemctl = _systemctl(args)
    program = installed_program()
    if not args.user:
        check_reachable(program, Path(sys.executable).resolve(), Path(sys.base_prefix).resolve(), shipped(""))
    write(wanted.files, print, replace=args.replace)
    print(f"the service runs {program}")
    if not args.user:
        run_program("systemd-sysusers", str(SYSUSERS))
        print("user and group: mird; whoever is to use the control socket: usermod --append --groups mird NAME")
    if not systemd_runs(user=args.user):
        whose = "no systemd of this user runs" if args.user else "no systemd runs"
        print(f"{whose} here, to be told; where one does: {' '.join(systemctl)} enable --now mird")
        return 0
    run_program(*systemctl, "daemon-reload")
    if args.now:
        run_program(*systemctl, "enable", "mird.service")
        run_program(*systemctl, "restart", "mird.service")
        print(f"enabled and started; its state: {' '.join(systemctl)} status mird")
    else:
        print(f"start it, now and at each {'login' if args.user else 'boot'}: {' '.join(systemctl)} enable --now mird")
    if args.user:
        print("without a login it runs after: loginctl enable-linger")
    return 0


def _remove(wanted: "Service", args: argparse.Namespace) -> int:
    from mird.daemon.errors import ServiceError
    from mird.daemon.units import check_unedited, remove, systemd_runs
    from mird.daemon.units import run as run_program

    systemctl = _systemctl(args)
    if not wanted.unit.exists():
        raise ServiceError(f"there is no {wanted.unit}: nothing to remove")
    check_unedited(wanted.files, replace=args.replace)
    if systemd_runs(user=args.user):
        run_program(*systemctl, "disable", "--now", "mird.service")
        print("stopped and disabled")
    remove(wanted.files, print, replace=args.replace)
    if systemd_runs(user=args.user):
        run_program(*systemctl, "daemon-reload")
    kept = "~/.local/share/mird" if args.user else "/var/lib/mird, with the user mird"
    print(f"kept: your settings, and the support set with what was enrolled ({kept})")
    return 0


def _systemctl(args: argparse.Namespace) -> tuple[str, ...]:
    return ("systemctl", "--user") if args.user else ("systemctl",)
