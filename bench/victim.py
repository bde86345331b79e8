"""The process that is nudged (`victim.c`): compiled, started, and asked whether every thread of it got its EINTR."""

from __future__ import annotations

import array
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import running, until

SOURCE = Path(__file__).with_suffix(".c")
COMM = "bench-victim"
EPOLL_WAITS = {"x86_64": "232", "aarch64": "22"}  # what proc_pid_syscall(5) says of epoll_wait, or of epoll_pwait


@dataclass(frozen=True, slots=True)
class Victim:
    """A running victim."""

    pid: int
    pidfile: Path
    counts: Path
    threads: int

    def interrupts(self) -> list[int]:
        """How many EINTRs each thread has had."""
        return list(array.array("I", self.counts.read_bytes()))

    def wait_interrupted(self, before: list[int]) -> None:
        """Until every thread had another EINTR, and sleeps again. Raises `TimeoutError`."""
        until(lambda: all(now > then for now, then in zip(self.interrupts(), before, strict=True)), 5, "EINTR for each")
        self.wait_asleep()

    def wait_asleep(self) -> None:
        """Until every thread sleeps in its epoll wait. Raises `TimeoutError`."""
        until(self._asleep, 10, f"{self.threads} threads of the victim in epoll_wait")

    def _asleep(self) -> bool:
        tasks = list(Path(f"/proc/{self.pid}/task").iterdir())
        wanted = EPOLL_WAITS[os.uname().machine]
        calls = [(task / "syscall").read_text().split()[0] for task in tasks]
        return len(calls) == self.threads and set(calls) == {wanted}


def build(directory: Path) -> Path:
    """The compiled victim."""
    program = directory / COMM
    flags = ["-Wall", "-Wextra", "-Werror", "-O2", "-pthread"]
    subprocess.run(["cc", *flags, "-o", str(program), str(SOURCE)], check=True)
    return program


@contextmanager
def victim(program: Path, directory: Path, threads: int, sockets: int = 0) -> Iterator[Victim]:
    """A victim with that many threads, all of them asleep, on an epoll that watches so many sockets."""
    home = directory / f"victim-{threads}"
    home.mkdir()
    counts, pidfile = home / "counts", home / "pid"
    with running([str(program), str(threads), str(counts), str(sockets)], home) as server:
        pidfile.write_text(f"{server.pid}\n")
        started = Victim(server.pid, pidfile, counts, threads)
        started.wait_asleep()
        yield started
