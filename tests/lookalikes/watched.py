"""The real daemon beside a condition: how its config is written, and what is asked of it while the condition lasts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests import servers
from tests.integration.guarding import ENVIRONMENT, Guarding, guarding
from tests.lookalikes.programs import Program
from watchdog.demo.agent import RAVENDB_PID, SYS_UPTIME

NAME = "it"  # the guarded service, whatever it is
PACE = """\
interval = "500ms"
interval_suspect = "250ms"
timeout = "400ms"
rise = 1
settle = "500ms"
"""  # fall, budgets and ladders are the defaults
DARK_FOR = "4s"  # short: a wrong verdict of a few seconds that restarts is found out
HTTP_GET = "GET / HTTP/1.0\r\n\r\n"


class Watched(Protocol):
    """A daemon that guards the service `it`."""

    def service(self) -> Mapping[str, Any]:
        """What its API says of it now. Raises `NoAnswer`."""

    def incidents(self) -> list[Mapping[str, Any]]:
        """Its incidents, newest first. Raises `NoAnswer`."""

    def restarts(self) -> int:
        """How often it was really restarted, by its restart command or its unit."""

    def said(self) -> str:
        """What the daemon logged."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The daemon as a process beside this one."""

    guard: Guarding
    marks: Path

    def service(self) -> Mapping[str, Any]:
        """As `Watched` has it."""
        return self.guard.service(NAME)

    def incidents(self) -> list[Mapping[str, Any]]:
        """As `Watched` has it."""
        return self.guard.incidents(NAME)

    def restarts(self) -> int:
        """As `Watched` has it."""
        return len(self.marks.read_text()) if self.marks.exists() else 0

    def said(self) -> str:
        """As `Watched` has it."""
        return self.guard.daemon.said()


@contextmanager
def watched(directory: Path, pidfile: Path | str, *probes: str, dark_for: str = DARK_FOR) -> Iterator[Watched]:
    """The daemon, guarding whom the pidfile names. Its restart command restarts nothing: it leaves a mark."""
    home = directory / "guard"
    home.mkdir()
    marks = home / "marks"
    command = json.dumps(["/bin/sh", "-c", f"printf x >>{marks}"])
    keys = f'[service.{NAME}]\npidfile = "{pidfile}"\n{PACE}dark_for = "{dark_for}"\nrestart_command = {command}\n'
    with guarding(home, keys + "".join(probes), env=ENVIRONMENT) as guard:
        yield Beside(guard, marks)


# --- probes -----------------------------------------------------------------------------------------------------------


def _table(name: str, **keys: object) -> str:
    lines = (f"{key} = {json.dumps(value)}" for key, value in keys.items())
    return "\n".join([f"[service.{NAME}.probe.{name}]", *lines, ""])


def tcp(address: str, send: str = "ping\n", expect: str = "pong") -> str:
    """A line and its answer."""
    return _table("tcp", type="tcp", address=address, send=send, expect=expect)


def unix(path: Path | str, send: str = "ping\n", expect: str = "pong") -> str:
    """The same, by a Unix socket."""
    return _table("unix", type="unix", path=str(path), send=send, expect=expect)


def http(url: str) -> str:
    """A GET."""
    return _table("tcp", type="http", url=url)


def http_by_unix(path: Path, url: str = "http://localhost/") -> str:
    """A GET by a Unix socket."""
    return _table("unix", type="http", url=url, unix_socket=str(path))


def https(url: str, ca_file: Path) -> str:
    """A GET by TLS, with a certificate that is verified."""
    return http(url) + f'tls_config = {{ ca_file = "{ca_file}" }}\n'


COMMUNITY = 'community = { env = "SNMP_COMMUNITY" }\n'


def inside(address: str, *, pid: bool = False) -> str:
    """An agent inside the process; `pid`: it also tells whose agent it is."""
    more = {"pid_oid": RAVENDB_PID} if pid else {}
    return _table("snmp", type="snmp", address=address, oid=SYS_UPTIME, strength="inside", **more) + COMMUNITY


def by_snmpd(snmpd: servers.Snmpd) -> str:
    """The host's agent tells of the very process."""
    oid = f"{servers.HRSWRUN_STATUS}.{{pid}}"
    return _table("snmp", type="snmp", address=snmpd.address, oid=oid, expect=[1, 2]) + COMMUNITY


# --- the probes of the programs ---------------------------------------------------------------------------------------


def of_server(server: Program, *, pid: bool = False) -> tuple[str, ...]:
    """The suite's own."""
    return tcp(server.address), unix(server.unix), inside(server.agent, pid=pid)


def of_nginx(nginx: servers.Nginx, snmpd: servers.Snmpd) -> tuple[str, ...]:
    """nginx, over both sockets."""
    return http(nginx.url), http_by_unix(nginx.path), by_snmpd(snmpd)


def of_redis(redis: servers.Redis, snmpd: servers.Snmpd) -> tuple[str, ...]:
    """redis, over both sockets."""
    ping = ("PING\r\n", "PONG")
    return tcp(redis.address, *ping), unix(redis.path, *ping), by_snmpd(snmpd)
