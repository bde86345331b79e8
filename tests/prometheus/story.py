"""What the real daemon goes through while a real Prometheus scrapes it.

Five services, each the demo's embedded one: `healed` is stalled three times and nudged each time; a nudge does not help
`renewed`, a restart does; for `failing` a nudge is refused, the next one passed over, and the restart fails, so that it
stays dark and its accept queue fills up; `waiting` depends on that one, so its restart is held; `watched` is in mode
observe, and one of its probes can't run. A channel is dead, and so is the dead-man monitor. In the end a bad config is
refused, and the state can't be written.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.integration.guarding import ENVIRONMENT, Guarding, demo_table, guarding
from tests.integration.test_climb import killed_at_the_end, restart_command
from tests.prometheus.server import Prometheus, prometheus
from tests.servers import free_port
from tests.stall import connect
from watchdog.demo import child
from watchdog.helper import ledger

STUBBORN = ("--stubborn", "-1")
CROWD = 112  # of a backlog of 128: more than 80 %
TROUBLED = """\
[channel.dead]
type = "webhook"
url = "http://127.0.0.1:1/hook"
[dead_man]
url = "http://127.0.0.1:1/ping"
interval = "2h"
"""  # no ping but those at once


@dataclass(frozen=True, slots=True)
class Told:
    """The story when it is over: what Prometheus knows of it, and the times (Unix) at which it began and ended."""

    prometheus: Prometheus
    guard: Guarding
    began: float
    ended: float

    def values(self, query: str) -> list[float]:
        """All that the query returns at any moment of the story."""
        return self.prometheus.over(query, self.began, self.ended)


@contextmanager
def told(directory: Path) -> Iterator[Told]:
    """The story, from the moment when all is well; all servers run until the context ends."""
    with ExitStack() as rest:
        services = {
            "healed": _service(rest, directory / "healed"),
            "renewed": _service(rest, directory / "renewed", *STUBBORN),
            "failing": _service(rest, directory / "failing", *STUBBORN),
            "waiting": _service(rest, directory / "waiting", *STUBBORN),
            "watched": _service(rest, directory / "watched"),
        }
        rest.enter_context(killed_at_the_end(directory / "renewed/service.pid"))
        _spend_in_the_helpers_ledger(directory, "failing")
        tables = _tables(directory, services) + TROUBLED
        guard = rest.enter_context(guarding(directory, tables, general="max_sick = 9\n", env=ENVIRONMENT))
        down = f"127.0.0.1:{free_port()}"
        asked = rest.enter_context(prometheus(directory, [guard.daemon.address, down]))
        asked.wait("count(epoll_watchdog_healthy == 1) == 5")
        began = time.time()
        _stalls(services, guard, asked, rest)
        _troubles_of_the_daemon(services, guard, asked)
        yield Told(asked, guard, began, time.time())


def _service(rest: ExitStack, directory: Path, *options: str) -> child.Service:
    directory.mkdir()
    return rest.enter_context(child.service(directory, *options))


def _spend_in_the_helpers_ledger(directory: Path, service: str) -> None:
    """The helper knows of a nudge that the daemon does not: it will refuse the next one."""
    (directory / "state").mkdir()
    uses = {service: {"nudge": [asdict(ledger.now())]}}
    (directory / "state/helper-ledger.json").write_text(json.dumps({"version": ledger.VERSION, "uses": uses}))


def _tables(directory: Path, services: dict[str, child.Service]) -> str:
    one_nudge = 'budget.nudge = { burst = 1, interval = "1h" }\n'
    keys = {
        "healed": 'mode = "nudge"\n',
        "renewed": f'dark_for = "500ms"\n{restart_command(services["renewed"], directory / "renewed")}',
        "failing": f'dark_for = "500ms"\nrestart_command = ["/bin/false"]\n{one_nudge}',
        "waiting": 'dark_for = "500ms"\ndepends_on = ["failing"]\nladder.epoll_stall = ["restart", "alert"]\n',
        "watched": 'mode = "observe"\n',
    }
    tables = [
        demo_table(service, keys[name]).replace("service.demo", f"service.{name}") for name, service in services.items()
    ]
    unknown = json.dumps([sys.executable, "-c", "raise SystemExit(3)"])
    return "".join(tables) + f'[service.watched.probe.plugin]\ntype = "exec"\ncommand = {unknown}\n'


def _stalls(services: dict[str, child.Service], guard: Guarding, asked: Prometheus, rest: ExitStack) -> None:
    services["renewed"].lose_wakeup()
    services["failing"].lose_wakeup()
    guard.wait_record("failing", "escalated")
    services["waiting"].lose_wakeup()
    _crowd(services["failing"].addresses.tcp, rest)
    opened = 'epoll_watchdog_incidents_total{name="healed"}'
    for _ in range(3):
        before = max(asked.now(opened), default=0.0)  # a busy machine may have made one more than there were stalls
        services["healed"].lose_wakeup()
        asked.wait(f"{opened} > {before:g}")
        asked.wait('epoll_watchdog_healthy{name="healed"} == 1 and on (name) epoll_watchdog_incident_open == 0')
    for query in (
        'epoll_watchdog_actions_total{name="renewed",rung="restart",outcome="done"} == 1',
        'epoll_watchdog_held{name="waiting",reason="parent_sick"} == 1',
        'epoll_watchdog_accept_queue_length{name="failing"} > 100',
        'epoll_watchdog_recovery_seconds_count{rung="restart"} == 1',
    ):
        asked.wait(query)


def _crowd(address: str, rest: ExitStack) -> None:
    host, port = address.rsplit(":", 1)
    for _ in range(CROWD):
        rest.enter_context(closing(connect((host, int(port)))))


def _troubles_of_the_daemon(services: dict[str, child.Service], guard: Guarding, asked: Prometheus) -> None:
    good = guard.config.read_text()
    guard.config.write_text(good.replace('interval = "2h"', 'interval = "3h"'))  # a new ping, at once
    guard.daemon.process.send_signal(signal.SIGHUP)
    asked.wait('epoll_watchdog_dead_man_pings_total{outcome="undelivered"} == 2')
    guard.config.write_text(f"nonsense = true\n{good}")
    guard.daemon.process.send_signal(signal.SIGHUP)
    asked.wait("epoll_watchdog_config_last_reload_successful == 0")
    with _locked(guard.config.parent / "state/state.db"):
        services["healed"].lose_wakeup()
        asked.wait("epoll_watchdog_store_writable == 0")
    asked.wait("epoll_watchdog_store_writable == 1")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else can write this database meanwhile."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")
