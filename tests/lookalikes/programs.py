"""What the conditions are made of: the suite's own server (server.c), load, hogs of CPU, a freezer, a debugger.

Rules of this file: each is a context manager that leaves nothing behind, whatever happened; a child also ends with the
thread that started it (PR_SET_PDEATHSIG), and a hog with its own CPU time (RLIMIT_CPU).
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import kill, until

HERE = Path(__file__).parent
SOURCES = [HERE / name for name in ("server.c", "orders.c", "agent.c")]
ROOT = HERE.parent.parent
WITHIN_S = 15.0  # that a program has to start, or to carry out an order; a host may be starved on purpose
TIED = ("setpriv", "--pdeathsig", "KILL", "--")


def build(directory: Path) -> Path:
    """The server's program."""
    program = directory / "server"
    flags = ["-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run(["cc", *flags, "-o", program, *SOURCES], check=True, capture_output=True, text=True)
    return program


@dataclass(slots=True)
class Program:
    """A child that is told orders by lines and tells by lines what happened."""

    process: subprocess.Popen[bytes]
    directory: Path
    host: str = "127.0.0.1"
    tcp: int = 0
    snmp: int = 0
    rest: bytes = b""
    lines: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self.process.pid

    @property
    def pidfile(self) -> Path:
        """Where the server has written it."""
        return self.directory / "server.pid"

    @property
    def unix(self) -> Path:
        """Its Unix socket."""
        return self.directory / "server.sock"

    @property
    def address(self) -> str:
        """Of its TCP listener, as a tcp probe takes it."""
        return f"{self.host}:{self.tcp}"

    @property
    def agent(self) -> str:
        """Of its SNMP agent."""
        return f"{self.host}:{self.snmp}"

    def order(self, *lines: str) -> None:
        """Tell it what to do, and wait until it is about to do it."""
        assert self.process.stdin is not None
        for line in lines:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
            self.wait_for(line)

    def wait_for(self, start: str) -> str:
        """The first line that begins so; those before it are forgotten."""
        deadline = time.monotonic() + WITHIN_S
        while True:
            while self.lines:
                line = self.lines.pop(0)
                if line.startswith(start):
                    return line
            self._read(deadline, start)

    def _read(self, deadline: float, awaited: str) -> None:
        assert self.process.stdout is not None
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError(f"{self.process.args!r} did not say {awaited!r}")
        data = os.read(self.process.stdout.fileno(), 4096)
        if not data:
            raise EOFError(f"{self.process.args!r} ended before it said {awaited!r}")
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.lines += [line.decode() for line in lines]


@contextmanager
def told_by_lines(argv: Sequence[str], directory: Path) -> Iterator[Program]:
    """A child with pipes, in a session of its own; killed at the end."""
    process = subprocess.Popen(
        [*TIED, *argv], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout:
        try:
            yield Program(process, directory)
        finally:
            kill(process)
            process.stdin.close()


@contextmanager
def server(
    program: Path, directory: Path, *options: str, host: str = "127.0.0.1", before: Sequence[str] = ()
) -> Iterator[Program]:
    """The suite's server, ready; `before` is a command that runs it: nice, ip netns exec."""
    home = directory / f"server-{uuid.uuid4().hex[:8]}"
    home.mkdir(parents=True)
    with told_by_lines([*before, str(program), str(home), f"address={host}", *options], home) as running:
        _, tcp, snmp = running.wait_for("ready ").split()
        running.host, running.tcp, running.snmp = host, int(tcp), int(snmp)
        yield running


@contextmanager
def held_by_a_debugger(pid: int, directory: Path) -> Iterator[Callable[[], None]]:
    """What is yielded lets the process go again; until then each of its threads stands before a tracer."""
    with told_by_lines([sys.executable, "-m", "tests.lookalikes.debugger", str(pid)], directory) as debugger:
        debugger.wait_for("held")
        yield lambda: kill(debugger.process)


@contextmanager
def load(
    *addresses: str, clients: int = 1, pause_ms: int = 0, ask: str = "ping\n", seconds: int = 120
) -> Iterator[None]:
    """Clients, so many an address, that connect, ask, take the answer and begin anew (load.py)."""
    argv = [sys.executable, "-m", "tests.lookalikes.load", *addresses]
    argv += [f"--clients={clients}", f"--pause-ms={pause_ms}", f"--ask={ask}", f"--seconds={seconds}"]
    with told_by_lines(argv, ROOT) as clients_at_work:
        clients_at_work.wait_for("asking")
        yield


@contextmanager
def hogs(count: int, *, niceness: int = 0, cpu_s: int) -> Iterator[None]:
    """Processes that burn CPU, `cpu_s` seconds each at the most."""
    argv = [*TIED, "prlimit", f"--cpu={cpu_s}", "nice", "-n", str(niceness), "sh", "-c", "while :; do :; done"]
    with ExitStack() as ending:
        for _ in range(count):
            hog = subprocess.Popen(argv, start_new_session=True)
            ending.callback(kill, hog)
            weigh_session(hog.pid, niceness)
        yield


def weigh_session(pid: int, niceness: int) -> None:
    """Where each session is a group of its own to the scheduler (sched(7), autogroup), only the group's nice counts."""
    autogroup = Path(f"/proc/{pid}/autogroup")
    if autogroup.exists():
        autogroup.write_text(str(niceness))


@contextmanager
def freezer(pid: int) -> Iterator[Callable[[bool], None]]:
    """A cgroup (v2) of the test's own with the process in it. What is yielded freezes and thaws, and waits for that."""
    mount = Path("/sys/fs/cgroup")
    unified = mount if (mount / "cgroup.procs").exists() else mount / "unified"
    cgroup = unified / f"lookalike-{uuid.uuid4().hex[:8]}"
    cgroup.mkdir()
    home = unified / _cgroup_of(pid).lstrip("/") / "cgroup.procs"

    def set_frozen(frozen: bool) -> None:
        (cgroup / "cgroup.freeze").write_text(str(int(frozen)))
        until(lambda: f"frozen {int(frozen)}" in (cgroup / "cgroup.events").read_text(), WITHIN_S, f"frozen: {frozen}")

    try:
        (cgroup / "cgroup.procs").write_text(str(pid))
        yield set_frozen
    finally:
        set_frozen(False)
        for member in (cgroup / "cgroup.procs").read_text().split():
            home.write_text(member)
        cgroup.rmdir()


def _cgroup_of(pid: int) -> str:
    return next(line[3:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
