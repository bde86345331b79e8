"""The helper's server in a process of its own, for one peer or for many.

With the test's config and, where it wants them, the test's verbs.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helper.victims import Victim
from watchdog.helper.peers import Peers
from watchdog.helper.protocol import Reply, Request, encode_request, parse_reply
from watchdog.helper.server import Server
from watchdog.helper.verbs import VERBS, Verb

BUDGET = {
    "nudge": {"burst": 5, "interval": 3600.0},
    "restart": {"burst": 2, "interval": 3600.0},
    "capture": {"burst": 2, "interval": 3600.0},
}


@dataclass(slots=True)
class Helper:
    """A running server and the brain's end of its connection."""

    pid: int
    peer: socket.socket
    config: Path
    ledger: Path
    _rest: bytes = b""

    @property
    def hold(self) -> Path:
        """The file that forbids all remedies while it exists."""
        return hold_file(self.config)

    def ask(self, number: int, verb: str, service: str = "", victim: Victim | None = None, **more: int) -> None:
        """Send a request."""
        epoch = victim.epoch if victim else None
        pinned = (epoch.pid, epoch.start_time) if epoch else (0, 0)
        self.peer.sendall(encode_request(Request(number, verb, service, *pinned, "", **more)))

    def reply(self) -> Reply:
        """The next reply, whatever it answers."""
        while b"\n" not in self._rest:
            data = self.peer.recv(65536)
            assert data, "the helper ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return parse_reply(line)

    def call(self, verb: str, service: str = "", victim: Victim | None = None, **more: int) -> Reply:
        """A request and its reply."""
        self.ask(1, verb, service, victim, **more)
        return self.reply()

    def serve_only(self, **services: Mapping[str, Any]) -> None:
        """Exchange the config."""
        write_config(self.config, services)


def pidfile_service(directory: Path, name: str, pid: int, **more: Any) -> dict[str, Any]:
    """A service of the config, named by a pidfile."""
    pidfile = directory / f"{name}.pid"
    pidfile.write_text(f"{pid}\n")
    plain: dict[str, Any] = {
        "unit": None,
        "pidfile": str(pidfile),
        "process": None,
        "cgroup": None,
        "restart_command": [],
        "also_restarts": [],
        "capture": [],
        "nudge": {"methods": ["ptrace"]},
        "drill": False,
        "drill_under_seccomp": False,
        "mode": "full",
    }
    return plain | {"budget": BUDGET} | more


def hold_file(config: Path) -> Path:
    """The test's own: this host's is none of its business."""
    return config.with_name("hold")


def write_config(path: Path, services: Mapping[str, Mapping[str, Any]]) -> None:
    """What `python -m watchdog.config --for-helper` would print, as a file."""
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({"files": [str(path)], "services": services}))
    draft.rename(path)


@contextlib.contextmanager
def helper(
    directory: Path,
    services: Mapping[str, Mapping[str, Any]],
    *,
    ledger: Path | None = None,
    verbs: Mapping[str, Verb] = VERBS,
) -> Iterator[Helper]:
    """A helper that serves these, at the other end of a socket pair. It is killed at the end, whatever happens."""
    config = directory / "helper-config.json"
    write_config(config, services)
    ledger = ledger or directory / "ledger.json"
    ours, theirs = socket.socketpair()
    ours.settimeout(10.0)
    with ours, _forked(lambda: _serve(Peers.one(theirs), config, ledger, verbs), ours) as pid:
        theirs.close()
        yield Helper(pid, ours, config, ledger)
        ours.close()


@dataclass(slots=True)
class Listening:
    """A running server at a listening socket, whose address needs no directory (abstract: unix(7))."""

    pid: int
    address: bytes
    config: Path
    ledger: Path

    @contextlib.contextmanager
    def peer(self) -> Iterator[Helper]:
        """One more connection to it."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10.0)
            connection.connect(self.address)
            yield Helper(self.pid, connection, self.config, self.ledger)

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end."""
        end = os.pidfd_open(self.pid)
        try:
            return bool(select.select([end], [], [], seconds)[0])
        finally:
            os.close(end)

    def status(self) -> int:
        """Its exit status, once it has ended."""
        assert self.ends_within(10.0), "it has not ended"
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert found is not None
        assert found.si_code == os.CLD_EXITED
        return found.si_status


@contextlib.contextmanager
def listening(
    directory: Path,
    services: Mapping[str, Mapping[str, Any]],
    *,
    allowed: frozenset[int] = frozenset({0}),
    idle: float = 60.0,
    verbs: Mapping[str, Verb] = VERBS,
) -> Iterator[Listening]:
    """A helper that serves whoever comes and has one of these uids. It is killed at the end, whatever happens."""
    config, ledger = directory / "helper-config.json", directory / "ledger.json"
    write_config(config, services)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")  # an address of the kernel's choice
        listener.listen(4096)
        with _forked(lambda: _serve(Peers.at(listener, allowed, idle), config, ledger, verbs)) as pid:
            yield Listening(pid, listener.getsockname(), config, ledger)


def _serve(peers: Peers, config: Path, ledger: Path, verbs: Mapping[str, Verb]) -> None:
    hold = str(hold_file(config))
    Server(peers, str(config), str(ledger), lambda: json.loads(config.read_text()), verbs, hold).serve()


@contextlib.contextmanager
def _forked(serve: Callable[[], None], *ours: socket.socket) -> Iterator[int]:
    """A process that serves, without the sockets of ours, and is killed at the end."""
    pid = os.fork()
    if pid == 0:
        try:
            for each in ours:
                each.close()
            serve()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
