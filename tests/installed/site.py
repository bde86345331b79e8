"""Debian's nginx, redis and snmpd units in the machine, with the shim in them, and the daemon that guards them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.installed import network
from tests.servers import until
from tests.stall import HTTP, PING, Held, Moment, Shim
from tests.systemd.machine import Machine
from watchdog.demo.receiver import Letter, Receiver, receiver

DAEMON, HELPER, SOCKET = "epoll-watchdog.service", "epoll-watchdog-helper.service", "epoll-watchdog-helper.socket"
API = ("127.0.0.1", 9797)
SHIM = "/usr/lib/stallshim.so"  # redis' unit has NoExecPaths=/, and /usr/lib in ExecPaths=
NGINX_SOCKET = "/run/stall/nginx.sock"
CONFIG = "/etc/epoll-watchdog/config.toml"

SNMPD_CONF = """
agentAddress udp:127.0.0.1:161
view seen included .1.3.6.1.2.1.1
rocommunity installed 127.0.0.1 -V seen
"""
NGINX_CONF = """
worker_processes 1;
pid /run/nginx.pid;
events { worker_connections 64; }
http {
  access_log off;
  keepalive_timeout 600s;
  server {
    listen 127.0.0.1:80;
    listen unix:/run/stall/nginx.sock;
    location / { default_type text/plain; return 200 "hello\\n"; }
  }
}
"""
SHIMMED = """
[Service]
Environment=LD_PRELOAD={library} STALL_TRIGGER={directory}/trigger STALL_LOG={directory}/log
"""
GENERAL = """
[channel.hook]
type = "webhook"
url = "{url}"
timeout = "5s"
"""  # a letter whose receiver is late is told again
SERVICE = """
[service.{name}]
unit = "{unit}"
interval = "200ms"
interval_suspect = "100ms"
timeout = "200ms"
rise = 1
settle = "300ms"
dark_for = "1s"
{keys}
[service.{name}.budget.nudge]
burst = 100
[service.{name}.budget.restart]
burst = 100
{probes}
[service.{name}.probe.snmp]
type = "snmp"
address = "127.0.0.1:161"
oid = "1.3.6.1.2.1.1.3.0"
community = {{ credential = "snmp-community" }}
"""
NGINX_PROBES = """
[service.nginx.probe.http]
type = "http"
url = "http://127.0.0.1/"
[service.nginx.probe.unix]
type = "unix"
path = "/run/stall/nginx.sock"
send = "GET / HTTP/1.0\\r\\n\\r\\n"
expect = "200"
"""
REDIS_PROBES = """
[service.redis.probe.tcp]
type = "tcp"
address = "127.0.0.1:6379"
send = "PING\\r\\n"
expect = "PONG"
"""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A unit of Debian's that the daemon guards, and how it is made to lose a wake-up."""

    name: str
    unit: str
    address: tuple[str, int]
    conversation: tuple[bytes, bytes]
    directory: str  # of the shim's trigger and log
    leader: int

    @property
    def shim(self) -> Shim:
        """As seen from outside of the machine."""
        seen = Path(f"/proc/{self.leader}/root{self.directory}")
        return Shim(Path(SHIM), seen / "trigger", seen / "log")

    def stall(self, outlives: int = 0) -> Moment:
        """Let its loop lose a wake-up that outlives so many EINTRs (-1: all)."""
        [moment] = self.shim.stall(self._kick, outlives=outlives)
        self.shim.trigger.unlink()  # its next life starts without a stall
        return moment

    def _kick(self) -> None:
        with suppress(OSError), closing(network.connect(self.leader, self.address)) as sock:
            sock.sendall(self.conversation[0])

    def answers(self) -> bool:
        """Whether a new client is served."""
        with suppress(OSError), self.held(0.3):
            return True
        return False

    @contextmanager
    def held(self, within_s: float = 5.0) -> Iterator[Held]:
        """A client that stays connected, and has had its first answer."""
        with closing(network.connect(self.leader, self.address)) as sock:
            client = Held(sock, *self.conversation)
            client.ask()
            client.answer(within_s)
            yield client


@dataclass(frozen=True, slots=True)
class Site:
    """The machine with all that runs in it."""

    machine: Machine
    nginx: Guarded
    redis: Guarded
    receiver: Receiver
    before: dict[str, str] = field(default_factory=dict)  # of each service, the incident before its last stall

    def api(self, path: str) -> Any:
        """What the daemon's API says."""
        return network.get_json(self.machine.leader, API, f"/api/v1/{path}")

    def service(self, guarded: Guarded) -> Mapping[str, Any]:
        """Of one service."""
        views = {view["name"]: view for view in self.api("services")["services"]}
        return views[guarded.name]  # type: ignore[no-any-return]

    def incidents(self, guarded: Guarded) -> list[Mapping[str, Any]]:
        """Newest first."""
        return self.api(f"incidents?service={guarded.name}")["incidents"]  # type: ignore[no-any-return]

    def stall(self, guarded: Guarded, outlives: int = 0) -> None:
        """Let its loop lose a wake-up that outlives so many EINTRs (-1: all): what is told from now on is of that."""
        self.before[guarded.name] = next((incident["id"] for incident in self.incidents(guarded)[:1]), "")
        guarded.stall(outlives)

    def told(self, guarded: Guarded) -> list[str]:
        """The kinds of all records of the incident since its last stall."""
        newest = [incident for incident in self.incidents(guarded)[:1] if incident["id"] != self.before[guarded.name]]
        return [record["kind"] for incident in newest for record in incident["timeline"]]

    def wait_healthy(self, *guarded: Guarded) -> None:
        """Until the daemon calls each of them healthy, and no incident is open."""

        def well(each: Guarded) -> bool:
            view = self.service(each)
            its_own = view["pid"] == self.pid(each.unit)  # and not what the last round said of an earlier life
            return its_own and view["verdict"] == "healthy" and view["incident"] is None

        for each in guarded:
            self.wait(lambda each=each: well(each), f"{each.name} healthy")  # type: ignore[misc]

    def wait_told(self, guarded: Guarded, kind: str, within_s: float = 20.0) -> Mapping[str, Any]:
        """Until its newest incident has such a record; the incident."""
        self.wait(lambda: kind in self.told(guarded), f"a record {kind!r} of {guarded.name}", within_s)
        return self.incidents(guarded)[0]

    def wait(self, check: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
        """Until it holds; a daemon that is just being started counts as no. Its journal is in the error."""

        def checked() -> bool:
            try:
                return check()
            except (OSError, LookupError):
                return False

        try:
            until(checked, within_s, what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.journal(DAEMON)}\n{self.journal(HELPER)}") from None

    def journal(self, unit: str, lines: int = 40) -> str:
        """The end of a unit's journal, with all that was logged before."""
        self.machine.run("journalctl", "--sync")
        return self.machine.run("journalctl", "--no-pager", "-o", "cat", "-u", unit, "-n", str(lines)).stdout

    def metric(self, sample: str, **labels: str) -> float | None:
        """The value of a series at /metrics."""
        _, text = network.get(self.machine.leader, API, "/metrics")
        for family in text_string_to_metric_families(text):
            for found in family.samples:
                if found.name == f"epoll_watchdog_{sample}" and labels.items() <= found.labels.items():
                    return found.value
        return None

    def letters_until(self, kind: str, within_s: float = 20.0) -> list[Letter]:
        """The webhook's letters up to the first of that kind."""
        letters = [self.receiver.next(within_s)]
        while letters[-1]["kind"] != kind:
            letters.append(self.receiver.next(within_s))
        return letters

    def pid(self, unit: str) -> int:
        """The main PID of a unit, as numbered in the machine; 0 where it does not run."""
        return int(self.machine.show(unit, "MainPID"))

    def configure(self, *, nginx: str = "", redis: str = "", general: str = "") -> None:
        """Write the config, with these keys for the services; it is in force after a reload or a restart."""
        text = config(self.receiver.url, nginx=nginx, redis=redis, general=general)
        self.machine.write_file(CONFIG, text)

    def drop_in(self, unit: str, text: str) -> Callable[[], None]:
        """Add to a unit until the function that is returned is called."""
        path = f"/run/systemd/system/{unit}.d/test.conf"
        self.machine.write_file(path, text)
        self.machine.systemctl("daemon-reload")

        def undo() -> None:
            self.machine.run("rm", "-f", path)
            self.machine.systemctl("daemon-reload")

        return undo


def config(url: str, *, nginx: str = "", redis: str = "", general: str = "") -> str:
    """The daemon's config."""
    services = (
        SERVICE.format(name="nginx", unit="nginx.service", keys=nginx, probes=NGINX_PROBES),
        SERVICE.format(name="redis", unit="redis-server.service", keys=redis, probes=REDIS_PROBES),
    )
    return "\n".join([general, GENERAL.format(url=url), *services])


@contextmanager
def site(machine: Machine, library: Path) -> Iterator[Site]:
    """nginx, redis and snmpd run, the installed daemon guards them and calls them healthy."""
    leader = machine.leader
    _copy(machine, library, SHIM)
    machine.run("install", "-d", "-m", "1777", "/run/stall")
    machine.run("install", "-d", "-m", "777", "/run/stall/nginx")
    machine.write_file("/etc/nginx/nginx.conf", NGINX_CONF)
    machine.write_file("/etc/snmp/snmpd.conf", SNMPD_CONF, 0o600)
    machine.write_file("/etc/epoll-watchdog/credentials/snmp-community", "installed\n", 0o600)
    shimmed = {"nginx.service": "/run/stall/nginx", "redis-server.service": "/run/redis"}
    for unit, directory in shimmed.items():
        text = SHIMMED.format(library=SHIM, directory=directory)
        machine.write_file(f"/etc/systemd/system/{unit}.d/shim.conf", text)
    units = ("snmpd.service", *shimmed)
    machine.systemctl("unmask", *units)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", *units)
    nginx = Guarded("nginx", "nginx.service", ("127.0.0.1", 80), HTTP, "/run/stall/nginx", leader)
    redis = Guarded("redis", "redis-server.service", ("127.0.0.1", 6379), PING, "/run/redis", leader)
    with closing(network.listen(leader)) as listener, receiver(listener) as receiving:
        made = Site(machine, nginx, redis, receiving)
        made.configure()
        machine.systemctl("restart", DAEMON)
        made.wait_healthy(nginx, redis)
        yield made


def _copy(machine: Machine, source: Path, to: str) -> None:
    inside = [
        "nsenter",
        f"--target={machine.leader}",
        "--all",
        "--",
        "sh",
        "-c",
        'cat >"$1" && chmod 755 "$1"',
        "-",
        to,
    ]
    subprocess.run(inside, input=source.read_bytes(), check=True, timeout=10)
