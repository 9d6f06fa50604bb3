"""``mird keys``: the keys without which nobody gets in off this machine."""

import argparse
from pathlib import Path

from mird.daemon.cli_settings import add_setting_arguments, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    verbs = parser.add_subparsers(dest="verb", metavar="{list,server,client,add,remove}")

    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        return verbs.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=parser.epilog,
            argument_default=argparse.SUPPRESS, allow_abbrev=False,
        )  # fmt: skip

    listing = verb("list", "show who is let in (default)")
    server = verb("server", "make the daemon's keys, and one for the commands on its machine")
    server.add_argument(
        "--replace", action="store_true", default=False, help="in the place of others: clients need server.key anew"
    )
    client = verb("client", "make keys for a client, and let it in")
    client.add_argument("name", metavar="NAME", help="what the client is called on the list")
    client.add_argument(
        "--out", type=Path, default=None, metavar="FOLDER", help="for the client's machine (default NAME-mird-keys)"
    )
    add = verb("add", "let a client in that has made its pair itself")
    add.add_argument("name", metavar="NAME", help="what the client is called on the list")
    add.add_argument("file", type=Path, metavar="FILE", help="its public key, a certificate of ZeroMQ's")
    remove = verb("remove", "let a client in no more; a running daemon cuts it off within a second")
    remove.add_argument("name", metavar="NAME", help="a client on the list")
    for each in (parser, listing, server, client, add, remove):
        add_setting_arguments(each, "keys")


def run(args: argparse.Namespace) -> int:
    """Do it, and say what was written."""
    from mird.daemon import keys
    from mird.daemon.assembly import keys_folder

    folder = keys_folder(settings_of(args).settings)
    if args.verb == "server":
        for path in keys.make_server(folder, replace=args.replace):
            print(f"wrote {path}")
        print("let a client in with: mird keys client NAME; listen off this machine with --publish tcp://0.0.0.0:7475")
    elif args.verb == "client":
        out = args.out or Path(f"{args.name}-mird-keys")
        for path in keys.make_client(folder, args.name, out):
            print(f"wrote {path}")
        print(f"move {out} to the client's machine; there: mird listen --publish tcp://HOST:7475 --keys {out.name}")
    elif args.verb == "add":
        print(f"wrote {keys.add_client(folder, args.name, args.file)}")
    elif args.verb == "remove":
        print(f"removed {keys.remove_client(folder, args.name)}")
    else:
        _list(folder)
    return 0


def _list(folder: Path) -> None:
    import sys

    from mird.daemon import keys

    clients = keys.allow_list(folder, lambda fault: print(f"mird: {fault}: it lets nobody in", file=sys.stderr))
    if not clients:
        print(f"nobody is let in by {folder}; make keys with: mird keys server", file=sys.stderr)
    width = max(map(len, clients.values()), default=0)
    for key, name in sorted(clients.items(), key=lambda each: each[1]):
        print(f"{name:<{width}}  {key.decode()}")
