"""SIGKILL in the middle of a nudge: the service runs on, and the incident is taken up.

A helper that is stopped (SIGSTOP) before the nudge makes its middle as long as a test likes: the nudge is committed and
asked for, and its outcome is not there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.guarding import ENVIRONMENT, Guarding, demo_table, guarding, kinds
from tests.servers import runs, until
from tests.stall import LINE, held, thread_states
from watchdog.demo import child


@pytest.fixture
def service(tmp_path: Path) -> Iterator[child.Service]:
    with child.service(tmp_path) as running:
        yield running


def stall_until_the_nudge_is_under_way(guard: Guarding, service: child.Service) -> None:
    guard.wait_verdict("demo", "healthy")
    os.kill(guard.helper(), signal.SIGSTOP)
    service.lose_wakeup()
    assert service.next_event().name == "lost"
    guard.wait_record("demo", "acting")


def test_a_killed_brain_leaves_an_incident_that_the_next_start_takes_up(service: child.Service, tmp_path: Path) -> None:
    host, port = service.addresses.tcp.rsplit(":", 1)
    with held((host, int(port)), LINE) as client:
        with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
            stall_until_the_nudge_is_under_way(guard, service)
            client.ask()
            [incident] = guard.incidents("demo")
            os.kill(guard.helper(), signal.SIGKILL)
            os.kill(guard.pid, signal.SIGKILL)
            guard.daemon.process.wait(timeout=5)
        assert thread_states(service.pid) <= {"S", "R"}

        with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
            resolved = guard.wait_record("demo", "resolved")
            assert resolved["id"] == incident["id"]
            assert "interrupted" in kinds(resolved)
            assert kinds(resolved).count("nudged") == 1
            assert client.answer() == b"pong\n"
            assert len(guard.incidents("demo")) == 1


def test_a_killed_helper_is_replaced_and_the_second_nudge_heals(service: child.Service, tmp_path: Path) -> None:
    with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        stall_until_the_nudge_is_under_way(guard, service)
        killed = guard.helper()
        os.kill(killed, signal.SIGKILL)
        incident = guard.wait_record("demo", "resolved")
        outcomes = [record["detail"]["outcome"] for record in incident["timeline"] if record["kind"] == "nudged"]
        assert outcomes == ["failed", "done"]
        assert guard.helper() != killed
        assert thread_states(service.pid) <= {"S", "R"}


def test_a_brain_killed_at_rest_forgets_no_budget(service: child.Service, tmp_path: Path) -> None:
    one = "budget = { nudge = { burst = 1, interval = '1h' } }\n"
    with guarding(tmp_path, demo_table(service, one), env=ENVIRONMENT) as guard:
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        guard.wait_record("demo", "resolved")
        os.kill(guard.pid, signal.SIGKILL)
        guard.daemon.process.wait(timeout=5)
    with guarding(tmp_path, demo_table(service, one), env=ENVIRONMENT) as guard:
        guard.wait_verdict("demo", "healthy")
        assert guard.service("demo")["budgets"]["nudge"] == 0
        service.lose_wakeup()
        incident = guard.wait_record("demo", "passed")
        assert "nudged" not in kinds(incident)


def test_the_helper_ends_when_its_brain_was_killed(service: child.Service, tmp_path: Path) -> None:
    with guarding(tmp_path, demo_table(service), env=ENVIRONMENT) as guard:
        helper = guard.helper()
        os.kill(guard.pid, signal.SIGKILL)
        guard.daemon.process.wait(timeout=5)
        until(lambda: not runs(helper), 30, "the end of the helper")
