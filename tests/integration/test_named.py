"""Services without a pidfile or a unit, guarded by the real daemon: known by what they run, or by their cgroup."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import servers
from tests.integration.guarding import ENVIRONMENT, FAST, guarding, kinds, nginx_table
from tests.servers import Nginx, Snmpd, until
from tests.stall import HTTP, Shim, held, kicker
from tests.target.sleepers import UNIFIED, own_cgroup, sleeping


@pytest.fixture
def nginx(shim: Shim, tmp_path: Path) -> Iterator[Nginx]:
    with servers.nginx(tmp_path, env=shim.environment) as server:
        yield server


@pytest.fixture
def home(nginx: Nginx) -> Iterator[Path]:
    """A cgroup that nginx is in, as if it were a container."""
    with own_cgroup() as top:
        home = top / "docker-0a1b2c.scope"
        home.mkdir()
        for pid in (nginx.pid, *nginx.children()):
            (home / "cgroup.procs").write_text(str(pid))
        yield home
        for pid in (nginx.pid, *nginx.children()):
            (UNIFIED / "cgroup.procs").write_text(str(pid))


def named(nginx: Nginx, snmpd: Snmpd, name: str, keys: str = FAST) -> str:
    """The `[service.nginx]` table, with `name` in place of the pidfile."""
    return nginx_table(nginx, snmpd, keys).replace(f'pidfile = "{nginx.pidfile}"', name)


def by_process(nginx: Nginx) -> str:
    return f'process = {{ exe = "/usr/sbin/nginx", args = ["{nginx.directory}/nginx.conf"] }}'


def by_cgroup(home: Path) -> str:
    return f'cgroup = "/{home.parent.name}/docker-*.scope"'


def healed(nginx: Nginx, shim: Shim, directory: Path, table: str) -> None:
    """It is stalled, nudged, and answers all who waited; its API tells of its process."""
    with ExitStack() as rest:
        guard = rest.enter_context(guarding(directory, table, env=ENVIRONMENT))
        addresses = (("127.0.0.1", nginx.port), str(nginx.path))
        clients = [rest.enter_context(held(address, HTTP)) for address in addresses]
        guard.wait_verdict("nginx", "healthy")
        workers = nginx.children()

        shim.stall(kicker(addresses[0], HTTP[0]))
        for client in clients:
            client.ask()
        answers = [client.answer(within_s=10) for client in clients]

        assert [answer.endswith(b"hello\n") for answer in answers] == [True, True]
        incident = guard.wait_record("nginx", "resolved")
        assert incident["verdict"] == "epoll_stall"
        assert kinds(incident).count("nudged") == 1
        assert nginx.children() == workers
        assert guard.service("nginx")["pid"] == nginx.pid


def test_a_stalled_nginx_that_is_known_by_what_it_runs_is_nudged(
    nginx: Nginx, shim: Shim, tmp_path: Path, snmpd: Snmpd
) -> None:
    healed(nginx, shim, tmp_path, named(nginx, snmpd, by_process(nginx)))


def test_a_stalled_nginx_that_is_known_by_its_cgroup_is_nudged(
    nginx: Nginx, home: Path, shim: Shim, tmp_path: Path, snmpd: Snmpd
) -> None:
    healed(nginx, shim, tmp_path, named(nginx, snmpd, by_cgroup(home)))


def test_while_a_second_one_fits_none_is_guarded_and_the_one_that_is_left_is(
    nginx: Nginx, tmp_path: Path, snmpd: Snmpd
) -> None:
    word = f"0.{os.getpid()}"  # no other sleep on this host has it
    exe = os.path.realpath("/bin/sleep")
    table = named(nginx, snmpd, f'process = {{ exe = "{exe}", args = ["300", "{word}"] }}')
    with sleeping(word) as one, sleeping(word) as two, guarding(tmp_path, table, env=ENVIRONMENT) as guard:
        guard.wait_verdict("nginx", "blind")
        view = guard.service("nginx")
        shown = ", ".join(str(pid) for pid in sorted((one, two)))
        assert f"2 processes run {exe} 300 {word}: {shown}; give args or user too" in view["reasons"][0]
        assert view["pid"] is None

        os.kill(two, signal.SIGKILL)
        until(lambda: guard.service("nginx")["pid"] == one, 10, "the one that is left")
        os.kill(one, signal.SIGKILL)
        guard.wait_verdict("nginx", "dead")
