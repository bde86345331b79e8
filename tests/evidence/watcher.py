"""A program with epolls of every kind of entry, which tells what it has: `python -m tests.evidence.watcher`.

Its main thread takes a line on its standard input as an order; its other threads wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from watchdog.model import Epoch
from watchdog.target import start_time

ROOT = Path(__file__).parents[2]
SENT = 3  # messages that wait in the epoll on which nobody waits


@dataclass(slots=True)
class Watcher:
    """The running program. `epolls` and `entries` are descriptors and inodes by their names in `main`."""

    process: subprocess.Popen[str]
    epolls: Mapping[str, int]
    entries: Mapping[str, tuple[int, int]]

    @property
    def epoch(self) -> Epoch:
        """This life of it."""
        return Epoch(self.process.pid, start_time(self.process.pid))

    def take(self, order: str = "take") -> int:
        """Have it take all events from the epoll "ready"; how many there were. "close" it then."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextlib.contextmanager
def watcher() -> Iterator[Watcher]:
    """It, all its threads waiting. It is killed at the end, whatever happens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.evidence.watcher"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            told = json.loads(process.stdout.readline())
            yield Watcher(process, told["epolls"], {name: tuple(entry) for name, entry in told["entries"].items()})
        finally:
            process.kill()
            process.wait()


def main() -> None:
    """Serve until the standard input ends."""
    loop, timed, idle, ready = (select.epoll() for _ in range(4))
    entries: dict[str, socket.socket] = {"level": socket.create_server(("127.0.0.1", 0))}
    others = {}
    for name in ("edge", "exclusive", "oneshot", "fired", "first", "second", "third"):
        entries[name], others[name] = socket.socketpair()
    loop.register(entries["level"], select.EPOLLIN)
    loop.register(entries["edge"], select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
    loop.register(entries["exclusive"], select.EPOLLIN | select.EPOLLEXCLUSIVE)
    loop.register(entries["oneshot"], select.EPOLLIN | select.EPOLLONESHOT)
    loop.register(entries["fired"], select.EPOLLIN | select.EPOLLONESHOT)
    others["fired"].send(b"x")
    assert loop.poll(0) == [(entries["fired"].fileno(), select.EPOLLIN)]
    for name in ("first", "second", "third"):
        ready.register(entries[name], select.EPOLLIN | select.EPOLLET)
        others[name].send(b"x")
    threading.Thread(target=loop.poll, daemon=True).start()
    threading.Thread(target=timed.poll, args=(3600,), daemon=True).start()
    told = {name: (each.fileno(), os.fstat(each.fileno()).st_ino) for name, each in entries.items()}
    epolls = {"loop": loop, "timed": timed, "idle": idle, "ready": ready}
    print(json.dumps({"epolls": {name: each.fileno() for name, each in epolls.items()}, "entries": told}), flush=True)
    for line in sys.stdin:
        taken = len(ready.poll(0))
        if line == "take and close\n":
            ready.close()
        print(taken, flush=True)


if __name__ == "__main__":
    main()
