"""Making a real server lose a wake-up (`shim/stallshim.c`); seeing that it is dark, and that it lost no connection."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import until

SOURCE = Path(__file__).parent / "shim" / "stallshim.c"
HTTP = (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"hello\n")  # a request, and the end of its answer
PING = (b"PING\r\n", b"+PONG\r\n")
LINE = (b"ping\n", b"pong\n")

Address = tuple[str, int] | str


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the shim's log: "lost", "useless" or "woken", and when by CLOCK_MONOTONIC."""

    what: str
    pid: int
    tid: int
    at: float


@dataclass(frozen=True, slots=True)
class Shim:
    """The shim for one server. `environment` goes to that server."""

    library: Path
    trigger: Path
    log: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """Of a server that shall lose wake-ups."""
        return {"LD_PRELOAD": str(self.library), "STALL_TRIGGER": str(self.trigger), "STALL_LOG": str(self.log)}

    def pull(self, outlives: int = 0) -> None:
        """From its next epoll_wait on, each thread sleeps until EINTR; `outlives` more of them (-1: every one)."""
        new = self.trigger.with_suffix(".new")
        new.write_text(str(outlives))
        new.rename(self.trigger)

    def moments(self, what: str) -> list[Moment]:
        """What was told so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        told = (line.split() for line in lines)
        return [Moment(word, int(pid), int(tid), float(at)) for word, pid, tid, at in told if word == what]

    def stall(self, kick: Callable[[], None], loops: int = 1, outlives: int = 0) -> list[Moment]:
        """Make `loops` threads lose a wake-up. `kick` brings a loop out of the wait it is in, and doesn't wait."""
        before = len(self.moments("lost"))
        self.pull(outlives)

        def kicked() -> bool:
            kick()
            return len(self.moments("lost")) >= before + loops

        until(kicked, 10, f"{loops} lost wake-ups; {self.log} tells of {self.moments('lost')}")
        return self.moments("lost")[before:]


def build_shim(directory: Path) -> Path:
    """Compile the shim into `directory`; -Werror, for what it says must be heard."""
    library = directory / "stallshim.so"
    flags = ["-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", str(library), str(SOURCE)], check=True, capture_output=True, text=True)
    return library


def shim_for(library: Path, directory: Path) -> Shim:
    """A shim with a trigger and a log of its own."""
    directory.mkdir(exist_ok=True)
    return Shim(library, directory / "trigger", directory / "log")


def connect(address: Address, within_s: float = 2.0) -> socket.socket:
    """A connection by TCP or by a Unix path."""
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(within_s)
    sock.connect(address)
    return sock


def kicker(address: Address, ask: bytes) -> Callable[[], None]:
    """Asks by a new connection and does not wait for the answer."""

    def kick() -> None:
        with closing(connect(address)) as sock:
            sock.sendall(ask)

    return kick


def is_dark(address: Address, ask: bytes, within_s: float = 0.3) -> bool:
    """Whether the kernel takes the connection and the program sends nothing back."""
    with closing(connect(address)) as sock:
        sock.sendall(ask)
        sock.settimeout(within_s)
        try:
            return not sock.recv(1)
        except TimeoutError:
            return True


def interrupt(pid: int) -> None:
    """EINTR to each epoll_wait of the process, without a tracer: stop it, wait for the stop, let it go on."""
    # It tells of a stall just before it goes to sleep: a thread that is still on its way would get no EINTR.
    until(lambda: thread_states(pid) == {"S"}, 5, "sleep of every thread")
    os.kill(pid, signal.SIGSTOP)
    # Of every thread: one that had not stopped yet gets no EINTR.
    until(lambda: thread_states(pid) == {"T"}, 5, "state T of every thread")
    os.kill(pid, signal.SIGCONT)


def thread_states(pid: int) -> set[str]:
    """The state letters of the process' threads (proc_pid_stat(5))."""
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")}


class Held:
    """A client that stays connected. It asks one question at a time."""

    def __init__(self, sock: socket.socket, question: bytes, end_of_answer: bytes) -> None:
        self._sock = sock
        self._question = question
        self._end_of_answer = end_of_answer

    def ask(self) -> None:
        """Send the question; does not wait."""
        self._sock.sendall(self._question)

    def answer(self, within_s: float = 5.0) -> bytes:
        """The answer by this very connection. Raises `TimeoutError`, or `ConnectionError` where it was lost."""
        self._sock.settimeout(within_s)
        got = b""
        while not got.endswith(self._end_of_answer):
            data = self._sock.recv(65536)
            if not data:
                raise ConnectionResetError(f"the server closed the connection after {got!r}")
            got += data
        return got


@contextmanager
def held(address: Address, conversation: tuple[bytes, bytes]) -> Iterator[Held]:
    """A connection that is established, and has had its first answer."""
    with closing(connect(address)) as sock:
        client = Held(sock, *conversation)
        client.ask()
        client.answer()
        yield client
