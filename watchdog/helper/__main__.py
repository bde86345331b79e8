"""`python -m watchdog.helper`: the helper, as the brain's child or as a service of systemd's (`options.USAGE`).

It keeps nothing that a SIGKILL at any moment could spoil.
"""

from __future__ import annotations

import functools
import gc
import os
import socket
import sys

from watchdog.helper import capturing, drilling, frozen, records, restarting, worker
from watchdog.helper.limits import ASKING, LET_GO_ON, TIMEOUTS
from watchdog.helper.options import USAGE, Options, WrongUsage, parse
from watchdog.helper.peers import Peers
from watchdog.helper.server import Server
from watchdog.helper.services import load_with_child
from watchdog.helper.verbs import verbs

FIRST_PASSED = 3  # SD_LISTEN_FDS_START
LOOKED_UP_WITHIN = 20.0  # s for the user's name, which a server on the network may have to be asked for
LEDGER = "ledger.json"
UNDONE_WITHIN = 7.0  # s for what an earlier helper left stalled, of the TimeoutStopSec= that all of it has
DRILLED_FOR = 600.0  # s that one worker sees to drills; several may follow one another
THAWED_WITHIN = 3.0  # s for what an earlier helper left frozen; then it is told, and left to the next one


class CannotServe(Exception):
    """Why there is nothing to serve, in one line."""


def main() -> int:
    """Serve until nobody needs it any more; 1 where that cannot begin, 2 for a wrong command line."""
    try:
        options = parse(sys.argv[1:])
    except WrongUsage as wrong:
        print(f"{USAGE}\n{wrong}".rstrip(), file=sys.stderr if wrong.args else sys.stdout)
        return 2 if wrong.args else 0
    config = os.path.abspath(options.config)
    try:
        ledger = _ledger(options.ledger)
        captures, drills = records.beside(ledger, capturing.KIND), records.beside(ledger, drilling.KIND)
        undone = _undone(drills) if options.thaw else True  # first: it takes the shortest
        thawed = _thaw(frozen.beside(ledger))
        if options.thaw:
            return 0 if all((undone, thawed, _continued(captures))) else 1
        peers = _peers(options)
    except CannotServe as reason:
        print(f"epoll-watchdog helper: {reason}", file=sys.stderr, flush=True)
        return 1
    table = verbs(
        transient=options.fd is None,
        frozen=frozen.beside(ledger),
        restarting=records.beside(ledger, restarting.KIND),
        capturing=captures,
        drilling=drills,
    )
    server = Server(peers, config, ledger, functools.partial(load_with_child, config), table)
    gc.collect()
    gc.freeze()  # what is loaded by now stays: a worker's pages stay shared
    if capturing.recorded(captures):
        server.see_to(functools.partial(_let_go_on, captures, TIMEOUTS["capture"]), 2 * TIMEOUTS["capture"])
    server.keep(functools.partial(drilling.see_to, drills), DRILLED_FOR)
    server.serve()
    return 0


def _thaw(directory: str) -> bool:
    """Thaw what an earlier helper left frozen; whether nothing is. In a worker, for it takes D-Bus."""
    if not frozen.recorded(directory):
        return True

    def thaw() -> dict[str, str]:
        from watchdog.helper.thaw import thaw_recorded

        return dict(thaw_recorded(directory, THAWED_WITHIN))

    found = worker.run(thaw, 4 * THAWED_WITHIN)
    failures = dict.fromkeys(frozen.recorded(directory), found.error) if found.error else found.value
    frozen.tell(failures)
    return not failures


def _continued(captures: str) -> bool:
    """Let go on what a capture of an earlier helper left stopped; whether nobody is. None is waited for."""
    if not capturing.recorded(captures):
        return True
    found = worker.run(functools.partial(_let_go_on, captures, 0.0), LET_GO_ON + ASKING)
    if found.error:
        capturing.tell({"a process": found.error})
    return not found.error and not found.value


def _let_go_on(captures: str, within: float) -> dict[str, str]:
    """In a worker, for it takes D-Bus; tells what failed."""
    failures = capturing.let_go_on(captures, within)
    capturing.tell(failures)
    return failures


def _undone(drills: str) -> bool:
    """Undo every drill of an earlier helper at once; whether none is left."""
    if not drilling.recorded(drills):
        return True
    work = functools.partial(drilling.see_to, drills, at_once=True, give_up_after=UNDONE_WITHIN)
    found = worker.run(work, UNDONE_WITHIN + 1.0)
    failures = {"a service": found.error} if found.error else found.value
    drilling.tell(failures)
    return not failures


def _ledger(given: str | None) -> str:
    if given is not None:
        return os.path.abspath(given)
    directory = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not directory:
        raise CannotServe("there is no place for the ledger: give --ledger, or set StateDirectory= in the unit")
    return os.path.join(directory, LEDGER)


def _peers(options: Options) -> Peers:
    if options.fd is not None:
        connection = socket.socket(fileno=options.fd)
        connection.set_inheritable(False)
        return Peers.one(connection)
    listener = _passed()
    allowed = {0} if options.peer_user is None else {0, _uid(options.peer_user)}
    return Peers.at(listener, frozenset(allowed), options.idle)


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
