"""The programs that are drilled, unmodified and each under load, and what is to be seen of them afterwards.

The load is a closed loop of connections that stay: wrk's, or redis-benchmark's. Either ends, or tells, where a
connection is lost or a request is answered wrongly; a request that waited for a drill's end is just a slow one.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import servers
from tests.lookalikes.healthy import haproxy_alone
from watchdog.evidence.descriptors import EVENTPOLL

SERVERS = Path(__file__).with_name("servers")
LOADED_FOR_S = 3600
ENDS_WITHIN_S = 20.0
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Running:
    """A program that runs: its main process, where it answers, and who serves there."""

    main: int
    pidfile: Path
    port: int
    serving: tuple[int, ...]  # the processes

    def epolls(self) -> int:
        """How many epolls its processes have: a drill leaves none behind."""
        return sum(map(_is_epoll, (file for pid in self.serving for file in Path(f"/proc/{pid}/fd").iterdir())))


def _is_epoll(file: Path) -> bool:
    try:
        return file.readlink() == Path(EVENTPOLL)
    except FileNotFoundError:  # closed meanwhile: a client's
        return False


Start = Callable[[Path], AbstractContextManager[Running]]


@contextmanager
def nginx(directory: Path) -> Iterator[Running]:
    """Two workers."""
    with servers.nginx(directory, workers=2) as server:
        yield Running(server.pid, server.pidfile, int(server.address.rpartition(":")[2]), server.children())


@contextmanager
def redis(directory: Path) -> Iterator[Running]:
    """Waits with time-outs: on its detour it has none."""
    with servers.redis(directory) as server:
        yield _of(server, directory, int(server.address.rpartition(":")[2]))


@contextmanager
def haproxy(directory: Path) -> Iterator[Running]:
    """Four threads."""
    with haproxy_alone(directory) as (server, port):
        yield _of(server, directory, port)


def _script(argv: Callable[[Path], list[str]]) -> Start:
    @contextmanager
    def start(directory: Path) -> Iterator[Running]:
        port = servers.free_port()
        with servers.running([*argv(directory), str(port)], directory) as server:
            servers.wait_ready(server, lambda: servers.ask(("127.0.0.1", port), GET, b"hello"))
            yield _of(server, directory, port)

    return start


def _of(server: servers.Server, directory: Path, port: int) -> Running:
    pidfile = directory / f"{uuid.uuid4().hex[:8]}.pid"
    pidfile.write_text(f"{server.pid}\n")
    return Running(server.pid, pidfile, port, (server.pid,))


def _java(directory: Path) -> list[str]:
    subprocess.run(["javac", "-d", directory, servers.NIO], check=True)
    return ["java", "-XX:+UseSerialGC", "-Xmx64m", "-cp", str(directory), "Nio", "http"]


PROGRAMS: Mapping[str, Start] = {
    "nginx, two workers": nginx,
    "redis": redis,
    "haproxy, four threads": haproxy,
    "node": _script(lambda _: ["node", str(SERVERS / "hello.js")]),
    "asyncio": _script(lambda _: [sys.executable, str(SERVERS / "hello.py")]),
    "Java NIO": _script(_java),
}


@dataclass(slots=True)
class Load:
    """Clients at work."""

    process: subprocess.Popen[str]

    def end(self) -> list[str]:
        """Stop them; what went wrong with them until then."""
        if self.process.poll() is not None:
            return [f"the load ended with {self.process.returncode}: {self.process.communicate()[0]}"]
        self.process.send_signal(signal.SIGINT)
        said, _ = self.process.communicate(timeout=ENDS_WITHIN_S)
        return re.findall(r"Socket errors: .*|Non-2xx.*|Error.*", said)


@contextmanager
def load(name: str, port: int) -> Iterator[Load]:
    """Sixteen connections to the program; killed at the end, if nobody has ended it."""
    benchmark = ["redis-benchmark", "-p", str(port), "-c", "16", "-t", "get", "-l", "-q"]
    wrk = ["wrk", "-t1", "-c16", f"-d{LOADED_FOR_S}", "--timeout", "60s", f"http://127.0.0.1:{port}/"]
    with subprocess.Popen(
        ["env", "--default-signal=INT", *(benchmark if name == "redis" else wrk)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            yield Load(process)
        finally:
            process.kill()
