"""The daemon as a user without any right, and the helper as root behind a socket: what each can do, and together."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helper.activated import Activated, activated
from tests.helper.nobody import NOBODY
from tests.integration.guarding import ENVIRONMENT, HEAD, Guarding, demo_table, kinds
from tests.servers import free_port
from watchdog.demo import child
from watchdog.demo.receiver import receiver

POWERLESS = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all")


@pytest.fixture
def place() -> Iterator[Activated]:
    """The helper's socket, open to nobody's group, and the helper behind it."""
    with activated() as made:
        os.chown(made.path, 0, NOBODY)
        made.path.chmod(0o660)
        yield made


@pytest.fixture
def service(place: Activated) -> Iterator[child.Service]:
    """The embedded service, which everybody may ask."""
    directory = place.directory / "service"
    directory.mkdir()
    with child.service(directory) as made:
        Path(made.addresses.unix).chmod(0o666)
        yield made


@contextmanager
def guarding_without_rights(place: Activated, services: str) -> Iterator[Guarding]:
    """The daemon as nobody, with the helper at the socket."""
    listen, state = f"127.0.0.1:{free_port()}", place.directory / "brain"
    state.mkdir()
    os.chown(state, NOBODY, NOBODY)
    asking = ("sh", "-c", f'exec "$@" --helper {place.path}', "run")
    with receiver() as hook:
        place.config.write_text(HEAD.format(state=state, listen=listen, url=hook.url) + services)
        log = place.directory / "daemon.log"
        with child.daemon(place.config, listen, log=log, env=ENVIRONMENT, before=(*POWERLESS, *asking)) as daemon:
            yield Guarding(daemon, hook, place.config)


def test_a_daemon_without_rights_has_its_service_healed_by_the_helper(place: Activated, service: child.Service) -> None:
    helper = place.start("--peer-user", "nobody", "--idle", "3")
    with place.peer() as keeping, guarding_without_rights(place, demo_table(service)) as guard:
        guard.wait_verdict("demo", "healthy")
        status = Path(f"/proc/{guard.pid}/status").read_text()
        service.lose_wakeup()
        incident = guard.wait_record("demo", "resolved")
        children = Path(f"/proc/{guard.pid}/task/{guard.pid}/children").read_text()
        keeping.peer.close()  # only now, as the daemon may take longer to come than the helper waits for it
    assert f"Uid:\t{NOBODY}" in status
    assert "CapEff:\t0000000000000000" in status
    assert children == ""
    assert incident["certainty"] == "confirmed"
    assert "nudged" in kinds(incident)
    assert helper.wait(30) == 0  # the daemon has hung up


def test_a_daemon_without_rights_has_the_process_found_that_it_may_not_look_at(
    place: Activated, service: child.Service
) -> None:
    exe, _, *args = Path(f"/proc/{service.pid}/exe").readlink(), *_words(service.pid)
    table = demo_table(service).replace(
        f'pidfile = "{service.addresses.pidfile}"', f'process = {{ exe = "{exe}", args = {args}, user = "root" }}'
    )
    place.start("--peer-user", "nobody")
    with guarding_without_rights(place, table) as guard:
        guard.wait_verdict("demo", "healthy")
        service.lose_wakeup()
        incident = guard.wait_record("demo", "resolved")
        assert guard.service("demo")["pid"] == service.pid
    assert incident["certainty"] == "confirmed"
    assert "nudged" in kinds(incident)


def _words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]


def test_a_daemon_whose_helper_is_killed_finds_the_next_one(place: Activated, service: child.Service) -> None:
    first = place.start("--peer-user", "nobody")
    with guarding_without_rights(place, demo_table(service)) as guard:
        guard.wait_verdict("demo", "healthy")
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        place.start("--peer-user", "nobody")
        service.lose_wakeup()
        incident = guard.wait_record("demo", "resolved")
    assert "nudged" in kinds(incident)


def test_a_daemon_without_a_helper_starts_and_tells_what_is_wrong(place: Activated, service: child.Service) -> None:
    place.path.unlink()
    with guarding_without_rights(place, demo_table(service)) as guard:
        guard.wait_verdict("demo", "healthy")
        assert "there is no helper, so no evidence and no remedy: " in guard.daemon.said()
        assert "is epoll-watchdog-helper.socket started?" in guard.daemon.said()
