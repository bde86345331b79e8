"""A service and the one that it depends on fail together: people hear of the one that explains the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import servers
from tests.integration.guarding import ENVIRONMENT, FASTER, guarding, kinds, nginx_table, redis_table


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """By SIGSTOP: they answer nobody."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_what_fails_and_recovers_with_its_parent_is_recorded_and_told_to_nobody(
    nginx: servers.Nginx, redis: servers.Redis, snmpd: servers.Snmpd, tmp_path: Path
) -> None:
    tables = redis_table(redis, snmpd, FASTER) + nginx_table(nginx, snmpd, f'{FASTER}depends_on = ["redis"]\n')
    with guarding(tmp_path, tables, env=ENVIRONMENT) as guard:
        guard.wait_verdict("redis", "healthy")
        guard.wait_verdict("nginx", "healthy")
        with stopped(redis.process.pid):
            guard.wait_verdict("redis", "paused_process")
            with stopped(*nginx.children()):
                view = guard.wait_held("nginx", "parent_sick")
            recovered = guard.wait_record("nginx", "resolved")
        letters = guard.letters_until("resolved")
        assert view["held_for"] == "it depends on redis, not known to be well"
        assert kinds(recovered)[0] == "opened"
        assert {record["severity"] for record in recovered["timeline"]} == {None}
        assert {letter["service"] for letter in letters} == {"redis"}
