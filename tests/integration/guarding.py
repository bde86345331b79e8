"""The real daemon as a process, with a config of the test's, a receiver for its webhook, and what a test asks of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.servers import HRSWRUN_STATUS, Nginx, Redis, Snmpd, free_port, until
from watchdog.demo import child
from watchdog.demo.agent import SYS_UPTIME
from watchdog.demo.receiver import Letter, Receiver, receiver

FAST = 'interval = "500ms"\ntimeout = "500ms"\n'  # everything else stays at its default
FASTER = """\
interval = "400ms"
interval_suspect = "100ms"
timeout = "400ms"
rise = 1
settle = "300ms"
"""  # where a test does not measure how fast it is; a round is blind where the loop was late by a quarter of timeout
START_S = 60.0  # brain, helper, and a child of each that checks the config

HEAD = """\
state_directory = "{state}"
[http]
listen = "{listen}"
[channel.hook]
type = "webhook"
url = "{url}"
timeout = "500ms"
"""


@dataclass(frozen=True, slots=True)
class Guarding:
    """A running daemon and all that a test needs to judge it."""

    daemon: child.Daemon
    receiver: Receiver
    config: Path

    @property
    def pid(self) -> int:
        """Of the brain."""
        return self.daemon.process.pid

    def helper(self) -> int:
        """The PID of the hands."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        [pid] = [int(pid) for pid in children if b"watchdog.helper" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return pid

    def service(self, name: str) -> Mapping[str, Any]:
        """What the API says of a service."""
        [view] = [view for view in self.daemon.get("/api/v1/services")["services"] if view["name"] == name]
        return view  # type: ignore[no-any-return]

    def incidents(self, name: str) -> list[Mapping[str, Any]]:
        """What the API says of its incidents, newest first."""
        return self.daemon.get(f"/api/v1/incidents?service={name}")["incidents"]  # type: ignore[no-any-return]

    def wait_verdict(self, name: str, verdict: str, within_s: float = 30.0) -> None:
        """Until the daemon says so."""
        self.wait(lambda: self.service(name)["verdict"] == verdict, f"the verdict {verdict}", within_s)

    def wait_held(self, name: str, reason: str) -> Mapping[str, Any]:
        """Until the service's view names this hold and no other, and the metric too; returns the view."""
        seen: list[Mapping[str, Any]] = []

        def held() -> bool:
            seen.append(self.service(name))
            return bool(seen[-1]["holds"] == [reason])

        self.wait(held, f"the hold {reason}")
        self.wait(lambda: self.metric("held", name=name, reason=reason) == 1, f"the metric of the hold {reason}")
        return seen[-1]

    def wait_record(self, name: str, kind: str, within_s: float = 30.0) -> Mapping[str, Any]:
        """Until the newest incident has such a record; returns the incident."""

        def recorded() -> bool:
            return any(kind in kinds(incident) for incident in self.incidents(name)[:1])

        self.wait(recorded, f"a record {kind!r}", within_s)
        return self.incidents(name)[0]

    def wait(self, check: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
        """Until it holds; a daemon that is late to answer counts as no. What it said is in the error."""

        def checked() -> bool:
            try:
                return check()
            except child.NoAnswer:
                return False

        try:
            until(checked, within_s, what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.daemon.said()}") from None

    def metric(self, sample: str, **labels: str) -> float | None:
        """The value of a series at /metrics."""
        for family in text_string_to_metric_families(self.daemon.text("/metrics")):
            for found in family.samples:
                if found.name == f"epoll_watchdog_{sample}" and labels.items() <= found.labels.items():
                    return found.value
        return None

    def letters_until(self, kind: str, within_s: float = 30.0) -> list[Letter]:
        """The webhook's letters up to the first of that kind."""
        letters = [self.receiver.next(within_s)]
        while letters[-1]["kind"] != kind:
            letters.append(self.receiver.next(within_s))
        return letters


def kinds(incident: Mapping[str, Any]) -> list[str]:
    """The kinds of an incident's records, in order."""
    return [record["kind"] for record in incident["timeline"]]


@contextmanager
def guarding(
    directory: Path,
    services: str,
    *,
    general: str = "",
    hook: str | None = None,
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    within_s: float = START_S,
) -> Iterator[Guarding]:
    """The daemon with `[service.…]` tables, ready. Started again with the same directory it finds its state again.

    `general` are further keys of no table; `hook` is another URL for its webhook than that of the receiver; `before` is
    a command that becomes the daemon; it must be ready within `within_s`.
    """
    listen = f"127.0.0.1:{free_port()}"
    state = directory / "state"
    state.mkdir(exist_ok=True)
    with receiver() as receiving, ExitStack() as ending:
        config = directory / "config.toml"
        config.write_text(general + HEAD.format(state=state, listen=listen, url=hook or receiving.url) + services)
        with child.daemon(
            config, listen, log=directory / "daemon.log", env=env, before=before, within_s=within_s
        ) as daemon:
            running = Guarding(daemon, receiving, config)
            ending.callback(_end_orphan, running.helper())
            yield running


def _end_orphan(helper: int) -> None:
    """A helper that a test stopped (SIGSTOP) can't see that its brain has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        if b"watchdog.helper" in Path(f"/proc/{helper}/cmdline").read_bytes():
            os.kill(helper, signal.SIGKILL)


# --- `[service.…]` tables ---------------------------------------------------------------------------------------------


def demo_table(service: child.Service, more: str = "", *, snmp: str | None = None) -> str:
    """The embedded service as `demo`; `more` are further keys, `snmp` another address of the witness."""
    at = service.addresses
    return f"""\
[service.demo]
pidfile = "{at.pidfile}"
{FASTER}{more}
[service.demo.probe.tcp]
type = "tcp"
address = "{at.tcp}"
send = "ping\\n"
expect = "pong"
[service.demo.probe.unix]
type = "unix"
path = "{at.unix}"
send = "ping\\n"
expect = "pong"
[service.demo.probe.snmp]
type = "snmp"
address = "{snmp or at.snmp}"
oid = "{SYS_UPTIME}"
community = {{ env = "SNMP_COMMUNITY" }}
strength = "inside"
"""


def nginx_table(nginx: Nginx, snmpd: Snmpd, keys: str = FAST) -> str:
    """nginx, with snmpd's word on its master as the witness; `keys` are those of the service itself."""
    return f"""\
[service.nginx]
pidfile = "{nginx.pidfile}"
{keys}
[service.nginx.probe.tcp]
type = "http"
url = "{nginx.url}"
[service.nginx.probe.unix]
type = "http"
url = "http://localhost/"
unix_socket = "{nginx.path}"
{_witness("nginx", snmpd)}"""


def redis_table(redis: Redis, snmpd: Snmpd, keys: str = FAST) -> str:
    """redis, with snmpd's word on it as the witness; `keys` are those of the service itself."""
    return f"""\
[service.redis]
pidfile = "{redis.pidfile}"
{keys}
[service.redis.probe.tcp]
type = "tcp"
address = "{redis.address}"
send = "PING\\r\\n"
expect = "PONG"
[service.redis.probe.unix]
type = "unix"
path = "{redis.path}"
send = "PING\\r\\n"
expect = "PONG"
{_witness("redis", snmpd)}"""


def _witness(service: str, snmpd: Snmpd) -> str:
    return f"""\
[service.{service}.probe.witness]
type = "snmp"
address = "{snmpd.address}"
oid = "{HRSWRUN_STATUS}.{{pid}}"
community = {{ env = "SNMP_COMMUNITY" }}
expect = [1, 2]
"""


ENVIRONMENT = {"SNMP_COMMUNITY": "public"}
