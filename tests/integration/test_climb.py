"""Where nudges are useless the ladder goes on: restart, then people."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.integration.guarding import ENVIRONMENT, Guarding, demo_table, guarding, kinds
from tests.servers import until
from watchdog.demo import child

RESTART = """\
import os, signal, subprocess, sys
pidfile, argv = sys.argv[1], sys.argv[2:]
os.kill(int(open(pidfile).read()), signal.SIGKILL)
process = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
process.stdout.readline()  # its addresses: it answers now
"""


@contextmanager
def killed_at_the_end(pidfile: Path) -> Iterator[None]:
    """Whoever the pidfile names then is no child of this test."""
    try:
        yield
    finally:
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(pidfile.read_text()), signal.SIGKILL)


def restart_command(service: child.Service, directory: Path) -> str:
    """As a line of the config: an argv that kills the service and starts another one at the same addresses."""
    script = directory / "restart.py"
    script.write_text(RESTART)
    tcp, snmp = (address.rsplit(":", 1)[1] for address in (service.addresses.tcp, service.addresses.snmp))
    start = [sys.executable, "-P", "-m", "watchdog.demo.service", "--dir", str(directory)]
    argv = [sys.executable, str(script), service.addresses.pidfile, *start, "--port", tcp, "--snmp-port", snmp]
    return f"restart_command = {json.dumps(argv)}\n"


def test_after_a_useless_nudge_of_a_parked_thread_the_service_is_restarted(tmp_path: Path) -> None:
    with child.service(tmp_path, "--stubborn", "-1") as service, killed_at_the_end(tmp_path / "service.pid"):
        keys = f'dark_for = "2s"\n{restart_command(service, tmp_path)}'
        with guarding(tmp_path, demo_table(service, keys), env=ENVIRONMENT) as guard:
            guard.wait_verdict("demo", "healthy")
            service.lose_wakeup()
            incident = guard.wait_record("demo", "resolved", within_s=20)
            acts = [kind for kind in kinds(incident) if kind in ("nudged", "restarted")]
            assert acts == ["nudged", "restarted"]  # its thread is parked elsewhere: a second nudge would do the same
            assert guard.service("demo")["pid"] != service.pid
            assert guard.metric("actions_total", name="demo", rung="restart", outcome="done") == 1
            assert guard.letters_until("resolved")[-1]["detail"]["rung"] == "restart"


def test_a_capture_before_a_restart_may_heal_and_then_nothing_is_restarted(tmp_path: Path) -> None:
    with child.service(tmp_path) as service:
        capture = json.dumps([sys.executable, "-P", "-m", "watchdog", "nudge", "{pid}"])  # as any debugger would
        keys = f'dark_for = "1s"\nladder = {{ epoll_stall = ["restart", "alert"] }}\ncapture = {capture}\n'
        table = demo_table(service, keys + restart_command(service, tmp_path))
        with guarding(tmp_path, table, env=ENVIRONMENT) as guard:
            guard.wait_verdict("demo", "healthy")
            service.lose_wakeup()
            incident = guard.wait_record("demo", "resolved", within_s=20)
            assert [kind for kind in kinds(incident) if kind in ("captured", "restarted")] == ["captured"]
            assert guard.service("demo")["pid"] == service.pid
            assert guard.letters_until("resolved")[-1]["detail"]["rung"] == "capture"


def test_where_nothing_can_restart_it_people_are_told_and_the_incident_stays_open(tmp_path: Path) -> None:
    with child.service(tmp_path, "--stubborn", "-1") as service:
        keys = 'dark_for = "1s"\n'
        with guarding(tmp_path, demo_table(service, keys), env=ENVIRONMENT) as guard:
            guard.wait_verdict("demo", "healthy")
            service.lose_wakeup()
            incident = guard.wait_record("demo", "escalated", within_s=20)
            assert incident["closed"] is None
            assert kinds(incident).count("nudged") == 1
            letter = guard.letters_until("escalated")[-1]
            assert letter["severity"] == "critical"
            assert guard.metric("incident_open", name="demo") == 1


def test_mode_observe_tells_what_it_would_have_done_and_does_nothing(tmp_path: Path) -> None:
    with child.service(tmp_path) as service, ExitStack() as rest:
        table = demo_table(service, 'mode = "observe"\ndark_for = "500ms"\n')
        guard = rest.enter_context(guarding(tmp_path, table, env=ENVIRONMENT))
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        incident = guard.wait_record("demo", "escalated")
        assert "nudged" not in kinds(incident)
        assert any("would nudge" in record["text"] for record in incident["timeline"])
        assert [event.name for event in service.events()] == ["lost"]


def closed(guard: Guarding) -> int:
    """Incidents that have ended."""
    return sum(incident["closed"] is not None for incident in guard.incidents("demo"))


def one_stall(guard: Guarding, service: child.Service) -> list[str]:
    """What happened to the service's loop, once the incident is closed."""
    guard.wait_verdict("demo", "healthy")
    before = closed(guard)
    service.lose_wakeup()
    happened = [service.next_event(within_s=10).name for _ in range(2)]
    until(
        lambda: len(guard.incidents("demo")) > before and guard.incidents("demo")[0]["closed"], 10, "a closed incident"
    )
    return happened


def test_each_of_several_stalls_in_a_row_is_healed_by_one_nudge(tmp_path: Path) -> None:
    with child.service(tmp_path) as service:
        table = demo_table(service, "budget = { nudge = { burst = 100, interval = '1h' } }\n")
        with guarding(tmp_path, table, env=ENVIRONMENT) as guard:
            assert [one_stall(guard, service) for _ in range(6)] == [["lost", "woken"]] * 6
            assert guard.metric("actions_total", name="demo", rung="nudge", outcome="done") == 6
            assert guard.metric("incidents_total", name="demo") == 6
