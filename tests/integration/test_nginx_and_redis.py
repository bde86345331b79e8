"""nginx and redis lose wake-ups and are nudged by the real daemon: no restart, no connection lost, everyone told."""

from __future__ import annotations

import errno
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from tests import servers
from tests.integration.guarding import ENVIRONMENT, guarding, kinds, nginx_table, redis_table
from tests.servers import until
from tests.stall import HTTP, PING, Shim, held, kicker, shim_for
from watchdog.evidence.epollfd import SYS_PIDFD_GETFD

ANSWER_WITHIN_S = 3.0  # from the lost wake-up, with interval and timeout at 500 ms


def test_a_stalled_nginx_is_nudged_and_loses_no_connection(shim: Shim, tmp_path: Path, snmpd: servers.Snmpd) -> None:
    with servers.nginx(tmp_path, env=shim.environment) as nginx, ExitStack() as rest:
        guard = rest.enter_context(guarding(tmp_path, nginx_table(nginx, snmpd), env=ENVIRONMENT))
        addresses = (("127.0.0.1", nginx.port), str(nginx.path))
        clients = [rest.enter_context(held(address, HTTP)) for address in addresses]
        guard.wait_verdict("nginx", "healthy")
        workers = nginx.children()

        [lost] = shim.stall(kicker(addresses[0], HTTP[0]))
        for client in clients:
            client.ask()
        answers = [client.answer(within_s=10) for client in clients]
        took = time.monotonic() - lost.at

        assert [answer.endswith(b"hello\n") for answer in answers] == [True, True]
        assert took < ANSWER_WITHIN_S
        assert nginx.children() == workers
        assert nginx.process.poll() is None
        incident = guard.wait_record("nginx", "resolved")
        assert incident["verdict"] == "epoll_stall"
        assert kinds(incident).count("nudged") == 1
        assert "restarted" not in kinds(incident)
        letters = guard.letters_until("resolved")
        assert {letter["incident"] for letter in letters} == {incident["id"]}
        assert letters[0]["kind"] == "opened"
        assert guard.metric("actions_total", name="nginx", rung="nudge", outcome="done") == 1
        assert guard.metric("incidents_total", name="nginx") == 1
        assert guard.metric("healthy", name="nginx") == 1
        assert guard.metric("nudge_stopped_seconds_count") == 1
        assert guard.metric("recovery_seconds_count", rung="nudge") == 1


def test_a_stall_that_begins_between_the_accept_and_the_answer_of_the_only_probe_is_proven_and_healed(
    shim: Shim, tmp_path: Path, snmpd: servers.Snmpd
) -> None:
    with servers.nginx(tmp_path, env=shim.environment) as nginx, ExitStack() as rest:
        table = nginx_table(nginx, snmpd)
        start, end = table.index("[service.nginx.probe.unix]"), table.index("[service.nginx.probe.witness]")
        one_road = table[:start] + table[end:]
        guard = rest.enter_context(guarding(tmp_path, one_road, env=ENVIRONMENT))
        client = rest.enter_context(held(("127.0.0.1", nginx.port), HTTP))
        guard.wait_verdict("nginx", "healthy")

        shim.pull()  # the next probe wakes the loop; it accepts, and loses what follows: no queue holds anybody
        until(lambda: bool(shim.moments("lost")), 5, "the lost wake-up")
        client.ask()
        client.answer(within_s=10)

        incident = guard.wait_record("nginx", "resolved")
        assert (incident["verdict"], incident["certainty"]) == ("epoll_stall", "confirmed")


def test_where_pidfd_getfd_is_unknown_as_on_the_kernels_that_have_the_bug_the_stall_is_proven_all_the_same(
    shim: Shim, tmp_path: Path, snmpd: servers.Snmpd
) -> None:
    with servers.nginx(tmp_path, env=shim.environment) as nginx, ExitStack() as rest:
        before = [sys.executable, "-m", "tests.evidence.seccomp", str(SYS_PIDFD_GETFD), str(errno.ENOSYS)]
        table = nginx_table(nginx, snmpd)
        guard = rest.enter_context(guarding(tmp_path, table, env=ENVIRONMENT, before=before))
        address = ("127.0.0.1", nginx.port)
        client = rest.enter_context(held(address, HTTP))
        guard.wait_verdict("nginx", "healthy")

        shim.stall(kicker(address, HTTP[0]))
        client.ask()
        client.answer(within_s=10)

        incident = guard.wait_record("nginx", "resolved")
        assert (incident["verdict"], incident["certainty"]) == ("epoll_stall", "confirmed")
        assert kinds(incident).count("nudged") == 1


def test_both_workers_of_nginx_are_nudged_at_once(shim: Shim, tmp_path: Path, snmpd: servers.Snmpd) -> None:
    with servers.nginx(tmp_path, workers=2, env=shim.environment) as nginx, ExitStack() as rest:
        guard = rest.enter_context(guarding(tmp_path, nginx_table(nginx, snmpd), env=ENVIRONMENT))
        address = ("127.0.0.1", nginx.port)
        client = rest.enter_context(held(address, HTTP))
        guard.wait_verdict("nginx", "healthy")
        workers = nginx.children()

        shim.stall(kicker(address, HTTP[0]), loops=2)
        client.ask()
        client.answer(within_s=10)

        incident = guard.wait_record("nginx", "resolved")
        assert kinds(incident).count("nudged") == 1
        assert {moment.pid for moment in shim.moments("woken")} == set(workers)
        assert nginx.children() == workers


def test_a_stalled_redis_is_nudged_and_loses_no_connection(shim: Shim, tmp_path: Path, snmpd: servers.Snmpd) -> None:
    with servers.redis(tmp_path, env=shim.environment) as redis, ExitStack() as rest:
        guard = rest.enter_context(guarding(tmp_path, redis_table(redis, snmpd), env=ENVIRONMENT))
        addresses = (("127.0.0.1", redis.port), str(redis.path))
        clients = [rest.enter_context(held(address, PING)) for address in addresses]
        guard.wait_verdict("redis", "healthy")

        [lost] = shim.stall(lambda: None)
        for client in clients:
            client.ask()
        answers = [client.answer(within_s=10) for client in clients]
        took = time.monotonic() - lost.at

        assert answers == [b"+PONG\r\n"] * 2
        assert took < ANSWER_WITHIN_S
        assert redis.process.poll() is None
        incident = guard.wait_record("redis", "resolved")
        assert incident["verdict"] == "epoll_stall"
        assert kinds(incident).count("nudged") == 1
        assert "restarted" not in kinds(incident)
        assert guard.letters_until("resolved")[0]["kind"] == "opened"
        assert guard.metric("actions_total", name="redis", rung="nudge", outcome="done") == 1


def test_two_services_that_stall_together_are_both_healed(
    shim_library: Path, tmp_path: Path, snmpd: servers.Snmpd
) -> None:
    first, second = shim_for(shim_library, tmp_path / "first"), shim_for(shim_library, tmp_path / "second")
    with ExitStack() as rest:
        nginx = rest.enter_context(servers.nginx(tmp_path, env=first.environment))
        redis = rest.enter_context(servers.redis(tmp_path, env=second.environment))
        tables = nginx_table(nginx, snmpd) + redis_table(redis, snmpd)
        guard = rest.enter_context(guarding(tmp_path, tables, env=ENVIRONMENT))
        web = rest.enter_context(held(("127.0.0.1", nginx.port), HTTP))
        cache = rest.enter_context(held(str(redis.path), PING))
        guard.wait_verdict("nginx", "healthy")
        guard.wait_verdict("redis", "healthy")

        first.stall(kicker(str(nginx.path), HTTP[0]))
        second.stall(lambda: None)
        web.ask()
        cache.ask()

        assert web.answer(within_s=10).endswith(b"hello\n")
        assert cache.answer(within_s=10) == b"+PONG\r\n"
        assert guard.wait_record("nginx", "resolved")["id"] != guard.wait_record("redis", "resolved")["id"]
