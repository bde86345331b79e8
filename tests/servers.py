"""Debian's own nginx, redis and snmpd for the tests: programs that nobody here wrote, on loopback.

Rules of this file: each server is a context manager that ends with every process of the server dead, whatever happened
to it; a server is ready when it has given a real answer; nothing outside its directory is written. `setpriv` with
`--pdeathsig` ends the servers of a test run that was itself killed.

nginx(8), redis.conf, snmpd.conf(5), snmp_config(5) (SNMP_PERSISTENT_DIR), NET-SNMP-AGENT-MIB (nsCacheTimeout).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from watchdog import target

READY_WITHIN_S = 15.0
NIO = Path(__file__).with_name("java") / "Nio.java"
HRSWRUN_STATUS = "1.3.6.1.2.1.25.4.2.1.7"  # followed by a PID; 1 running, 2 runnable, 3 notRunnable, 4 invalid
SYS_UPTIME = "1.3.6.1.2.1.1.3.0"
NS_CACHE_TIMEOUT = "1.3.6.1.4.1.8072.1.5.3.1.2"  # followed by the OID of the cached table


class NotReady(Exception):
    """A server did not start, or did not answer in time; the text has what it wrote."""


def until(check: Callable[[], bool], within_s: float, what: str) -> None:
    """Ask `check` until it holds, for the facts that announce themselves by no event. Raises `TimeoutError`."""
    deadline = time.monotonic() + within_s
    while not check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        time.sleep(0.005)


def runs(pid: int) -> bool:
    """Whether a process runs still: a zombie that its parent has not reaped does not."""
    try:
        return not target.ended(pid)
    except target.Gone:
        return False


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM, host: str = "127.0.0.1") -> int:
    """A port that nobody had a moment ago: who binds it must be ready to try another."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, kind)) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its first process, its directory, and the file that its output goes to."""

    process: subprocess.Popen[bytes]
    directory: Path
    log: Path

    @property
    def pid(self) -> int:
        """Of the process that was started (nginx: the master)."""
        return self.process.pid

    def children(self) -> tuple[int, ...]:
        """The PIDs of its child processes (nginx: the workers)."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return tuple(int(pid) for pid in path.read_text().split())


@dataclass(frozen=True, slots=True)
class Nginx(Server):
    """nginx; every path answers 200 with the body `hello`."""

    port: int
    path: Path
    pidfile: Path

    @property
    def url(self) -> str:
        """Over TCP."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def address(self) -> str:
        """As a tcp probe takes it."""
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Redis(Server):
    """redis; answers `PING` with `+PONG`."""

    port: int
    path: Path
    pidfile: Path

    @property
    def address(self) -> str:
        """As a tcp probe takes it."""
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Snmpd(Server):
    """net-snmp's agent. It tells of this host's processes (hrSWRun), from a table that it reads anew each second."""

    port: int
    community: str
    write_community: str
    narrow_community: str  # sees the system group and no hrSWRun, as Debian's default view does
    user: str
    auth_password: str  # SHA
    privacy_password: str  # AES

    @property
    def address(self) -> str:
        """As an snmp probe takes it."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def running(
    argv: Sequence[str], directory: Path, *, env: Mapping[str, str] | None = None, parent_death: str = "KILL"
) -> Iterator[Server]:
    """Start `argv` in a session of its own; at the end, kill its whole process group and reap the first process."""
    log = directory / "output.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", parent_death, "--", *argv],
            cwd=directory,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield Server(process, directory, log)
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process group at once, and wait until none of it is left."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    until(lambda: not group_alive(process.pid), 10, f"the end of process group {process.pid}")


def group_alive(group: int) -> bool:
    """Whether a process of the group is left (an orphan that init has not reaped yet counts as ended)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            return True
    return False


def wait_ready(server: Server, answers: Callable[[], bool]) -> None:
    """Until the server gives a real answer. Raises `NotReady` with its output when it ends or does not answer."""
    deadline = time.monotonic() + READY_WITHIN_S
    while not answers():
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise NotReady(server.log.read_text(errors="replace") or f"{server.process.args!r} wrote nothing")
        time.sleep(0.005)


def ask(address: tuple[str, int] | str, send: bytes, expect: bytes) -> bool:
    """Whether a server at a TCP address or a Unix path answers `send` with something that has `expect` in it."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as sock:
        sock.settimeout(2)
        try:
            sock.connect(address)
            sock.sendall(send)
            return expect in sock.recv(4096)
        except OSError:
            return False


def _make(directory: Path, name: str) -> Path:
    """A new directory below `directory`; each start gets one of its own."""
    number = sum(1 for path in directory.glob(f"{name}-*"))
    path = directory / f"{name}-{number}"
    path.mkdir(parents=True)
    return path


@contextmanager
def _retried(
    start: Callable[[int], Iterator[Server]], kind: socket.SocketKind, port: int | None = None
) -> Iterator[Server]:
    """`start` with `port`, else with a free one; with another one where somebody else took it in between."""
    for attempt in (1, 2, 3):
        manager = contextmanager(start)(free_port(kind) if port is None else port)
        try:
            server = manager.__enter__()
        except NotReady:
            if attempt == 3 or port is not None:
                raise
            continue
        break
    try:
        yield server
    finally:
        manager.__exit__(None, None, None)


NGINX_CONF = """
user root;
daemon off;
master_process on;
worker_processes {workers};
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
{main_config}
events {{ worker_connections 1024; {events_config} }}
http {{
  access_log off;
  keepalive_timeout 600s;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; scgi_temp_path {directory}/scgi; uwsgi_temp_path {directory}/uwsgi;
  server {{
    listen 127.0.0.1:{port};
    listen unix:{directory}/nginx.sock;
    location / {{ default_type text/plain; return 200 "hello\\n"; }}
    {server_config}
  }}
  {http_config}
}}
"""


@contextmanager
def nginx(
    directory: Path,
    *,
    workers: int = 1,
    main_config: str = "",
    events_config: str = "",
    server_config: str = "",
    http_config: str = "",
    env: Mapping[str, str] | None = None,
) -> Iterator[Nginx]:
    """nginx with a master and `workers` workers, on TCP and on a Unix socket. `*_config` is put into that context."""

    def start(port: int) -> Iterator[Server]:
        home = _make(directory, "nginx")
        conf = home / "nginx.conf"
        parts = {"main_config": main_config, "events_config": events_config}
        parts |= {"server_config": server_config, "http_config": http_config}
        conf.write_text(NGINX_CONF.format(directory=home, port=port, workers=workers, **parts))
        argv = ["/usr/sbin/nginx", "-p", str(home), "-c", str(conf), "-e", str(home / "error.log")]
        with running(argv, home, env=env, parent_death="TERM") as server:
            path = home / "nginx.sock"
            request = b"GET / HTTP/1.0\r\n\r\n"
            wait_ready(
                server, lambda: ask(("127.0.0.1", port), request, b" 200 ") and ask(str(path), request, b" 200 ")
            )
            yield Nginx(server.process, home, home / "error.log", port=port, path=path, pidfile=home / "nginx.pid")

    with _retried(start, socket.SOCK_STREAM) as server:
        assert isinstance(server, Nginx)
        yield server


@contextmanager
def redis(directory: Path, *, config: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Iterator[Redis]:
    """redis on TCP and on a Unix socket, without persistence. `config` holds further arguments (`--hz`, `50`, …)."""

    def start(port: int) -> Iterator[Server]:
        home = _make(directory, "redis")
        path, pidfile = home / "redis.sock", home / "redis.pid"
        argv = ["/usr/bin/redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home)]
        argv += ["--unixsocket", str(path), "--unixsocketperm", "777", "--save", "", "--appendonly", "no"]
        # A pidfile is written by redis only where it is given; `daemonize no` leaves it in the foreground.
        argv += ["--daemonize", "no", "--pidfile", str(pidfile), *config]
        with running(argv, home, env=env) as server:
            ping = b"PING\r\n"
            wait_ready(
                server,
                lambda: (
                    ask(("127.0.0.1", port), ping, b"+PONG") and ask(str(path), ping, b"+PONG") and pidfile.exists()
                ),
            )
            yield Redis(server.process, home, server.log, port=port, path=path, pidfile=pidfile)

    with _retried(start, socket.SOCK_STREAM) as server:
        assert isinstance(server, Redis)
        yield server


SNMPD_CONF = """
agentAddress udp:127.0.0.1:{port}
view seen included .1.3.6.1.2.1.1
view seen included .1.3.6.1.2.1.25.4
view seen included .1.3.6.1.4.1.8072.1.5
view narrow included .1.3.6.1.2.1.1
rocommunity public 127.0.0.1 -V seen
rwcommunity private 127.0.0.1 -V seen
rocommunity narrow 127.0.0.1 -V narrow
createUser watcher SHA auth-password-1 AES priv-password-1
rouser watcher auth -V seen
sysServices 72
{config}
"""


@contextmanager
def snmpd(
    directory: Path,
    *,
    port: int | None = None,
    cache_timeout_s: int = 1,
    config: str = "",
    env: Mapping[str, str] | None = None,
) -> Iterator[Snmpd]:
    """snmpd, for v1, v2c and v3 (SHA, AES); its view has the system group and hrSWRun. `config` goes to snmpd.conf."""

    def start(port: int) -> Iterator[Server]:
        home = _make(directory, "snmpd")
        conf = home / "snmpd.conf"
        conf.write_text(SNMPD_CONF.format(port=port, config=config))
        # No MIB file is read: all OIDs are numeric, and an agent starts ten times faster so.
        own = {"SNMP_PERSISTENT_DIR": str(home / "persistent"), "SNMPCONFPATH": str(home), "MIBS": "", "MIBDIRS": ""}
        # No -C: it would leave the persistent directory unread, and each start would be its first.
        argv = ["/usr/sbin/snmpd", "-f", "-Lo", "-p", str(home / "snmpd.pid")]
        with running(argv, home, env={**own, **(env or {})}) as server:
            wait_ready(server, lambda: snmp_command(home, "snmpget", port, "public", SYS_UPTIME))
            table = f"{NS_CACHE_TIMEOUT}.1.3.6.1.2.1.25.4.2"
            if not snmp_command(home, "snmpset", port, "private", table, "i", str(cache_timeout_s)):
                raise NotReady(f"snmpd did not take nsCacheTimeout\n{server.log.read_text(errors='replace')}")
            yield Snmpd(
                server.process,
                home,
                server.log,
                port=port,
                community="public",
                write_community="private",
                narrow_community="narrow",
                user="watcher",
                auth_password="auth-password-1",
                privacy_password="priv-password-1",
            )

    with _retried(start, socket.SOCK_DGRAM, port) as server:
        assert isinstance(server, Snmpd)
        yield server


def snmp_command(home: Path, command: str, port: int, community: str, *arguments: str) -> bool:
    """Whether net-snmp's own client (`snmpget`, `snmpset`; v2c) got its answer. What it keeps goes below `home`."""
    argv = [command, "-v2c", "-c", community, "-t", "0.5", "-r", "0", "-On", f"udp:127.0.0.1:{port}", *arguments]
    client = str(home / "client")
    own = {**os.environ, "MIBS": "", "MIBDIRS": "", "SNMPCONFPATH": client, "SNMP_PERSISTENT_DIR": client}
    done = subprocess.run(argv, capture_output=True, env=own, timeout=10)
    return done.returncode == 0 and b"No Such" not in done.stdout  # noSuchObject and noSuchInstance are no error of v2c
