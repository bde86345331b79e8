"""`python -m watchdog.helper`: the helper, as the brain's child or as a service of systemd's.

    --fd N --config PATH --ledger PATH           one end of a connected stream socket; ends when the other is closed
    --config PATH [--peer-user NAME]             a listening socket by LISTEN_FDS (sd_listen_fds(3)), for root and that
                                                 user; the ledger is in $STATE_DIRECTORY; ends when it is not needed

It keeps nothing that a SIGKILL at any moment could spoil.
"""

from __future__ import annotations

import argparse
import functools
import gc
import os
import socket
import sys

from watchdog.helper import worker
from watchdog.helper.peers import Peers
from watchdog.helper.server import Server
from watchdog.helper.services import load_with_child
from watchdog.helper.verbs import VERBS

FIRST_PASSED = 3  # SD_LISTEN_FDS_START
LOOKED_UP_WITHIN = 20.0  # s for the user's name, which a server on the network may have to be asked for
LEDGER = "ledger.json"


class CannotServe(Exception):
    """Why there is nothing to serve, in one line."""


def main() -> int:
    """Serve until nobody needs it any more; 1 where that cannot begin."""
    arguments = _arguments()
    try:
        ledger = _ledger(arguments.ledger)
        peers = _peers(arguments)
    except CannotServe as reason:
        print(f"epoll-watchdog helper: {reason}", file=sys.stderr, flush=True)
        return 1
    config = os.path.abspath(arguments.config)
    server = Server(peers, config, ledger, functools.partial(load_with_child, config), VERBS)
    gc.collect()
    gc.freeze()  # what is loaded by now stays: a worker's pages stay shared
    server.serve()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m watchdog.helper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fd", type=int, help="a connected stream socket; without it, systemd passes a listening one")
    parser.add_argument("--config", required=True, help="the TOML file that names the services")
    parser.add_argument("--ledger", help=f"where the helper keeps account of what it did ($STATE_DIRECTORY/{LEDGER})")
    parser.add_argument("--peer-user", metavar="NAME", help="who may ask, beside root")
    parser.add_argument("--idle", type=float, default=60.0, metavar="SECONDS", help="how long to wait for anybody (60)")
    return parser.parse_args()


def _ledger(given: str | None) -> str:
    if given is not None:
        return os.path.abspath(given)
    directory = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not directory:
        raise CannotServe("there is no place for the ledger: give --ledger, or set StateDirectory= in the unit")
    return os.path.join(directory, LEDGER)


def _peers(arguments: argparse.Namespace) -> Peers:
    if arguments.fd is not None:
        connection = socket.socket(fileno=arguments.fd)
        connection.set_inheritable(False)
        return Peers.one(connection)
    listener = _passed()
    allowed = {0} if arguments.peer_user is None else {0, _uid(arguments.peer_user)}
    return Peers.at(listener, frozenset(allowed), arguments.idle)


def _passed() -> socket.socket:
    """The listening socket that systemd has passed to us, and to none of our children."""
    passed = {name: os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    if passed["LISTEN_PID"] != str(os.getpid()):
        raise CannotServe("no socket was passed: give --fd, or start it by epoll-watchdog-helper.socket")
    if passed["LISTEN_FDS"] != "1":
        raise CannotServe(f"one socket is wanted, {passed['LISTEN_FDS']!r} were passed: give one ListenStream= alone")
    try:
        listener = socket.socket(fileno=FIRST_PASSED)
        listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise CannotServe(f"what was passed is no socket: {error.strerror}") from None
    if (listener.family, listener.type, listening) != (socket.AF_UNIX, socket.SOCK_STREAM, 1):
        raise CannotServe("the socket is no listening Unix stream socket: give ListenStream=/PATH and Accept=no")
    listener.set_inheritable(False)
    return listener


def _uid(user: str) -> int:
    """In a worker: what looks names up (nsswitch.conf(5)) may be large and may hang."""

    def look_up() -> int | None:
        import pwd

        try:
            return pwd.getpwnam(user).pw_uid
        except KeyError:
            return None

    found = worker.run(look_up, LOOKED_UP_WITHIN)
    if found.error:
        raise CannotServe(f"the user {user!r} of --peer-user can't be looked up: {found.error}")
    if found.value is None:
        raise CannotServe(f"there is no user {user!r}, whom --peer-user names: systemd-sysusers makes ours")
    return int(found.value)


if __name__ == "__main__":
    sys.exit(main())
