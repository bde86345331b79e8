"""The embedded service fails as the postmortem's server did, and is healed by EINTR, and by nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import snmp_command, until
from tests.stall import LINE, Address, connect, held, interrupt, is_dark
from watchdog.demo import child
from watchdog.demo.agent import RAVENDB_PID, SYS_UPTIME

HTTP_1_1 = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[child.Service]:
    with child.service(tmp_path) as running:
        yield running


def tcp(service: child.Service) -> Address:
    host, port = service.addresses.tcp.rsplit(":", 1)
    return host, int(port)


def snmp_answers(service: child.Service, home: Path, oid: str = SYS_UPTIME) -> bool:
    return snmp_command(home, "snmpget", int(service.addresses.snmp.rsplit(":", 1)[1]), "public", oid)


def test_it_answers_over_tcp_and_a_unix_socket_and_http_and_snmp(service: child.Service, tmp_path: Path) -> None:
    with held(tcp(service), LINE), held(service.addresses.unix, LINE), connect(tcp(service)) as browser:
        browser.sendall(HTTP_1_1)
        assert browser.makefile("rb").read().startswith(b"HTTP/1.1 200 OK\r\n")
    assert snmp_answers(service, tmp_path)
    assert snmp_answers(service, tmp_path, RAVENDB_PID)
    assert Path(service.addresses.pidfile).read_text() == f"{service.pid}\n"


def test_after_a_lost_wakeup_every_socket_is_dark_while_snmp_answers(service: child.Service, tmp_path: Path) -> None:
    with held(tcp(service), LINE) as client:
        service.lose_wakeup()
        assert service.next_event().name == "lost"
        client.ask()
        assert is_dark(tcp(service), LINE[0])
        assert is_dark(service.addresses.unix, LINE[0])
        assert is_dark(tcp(service), HTTP_1_1)
        assert snmp_answers(service, tmp_path)
        with pytest.raises(TimeoutError):
            client.answer(within_s=0.1)


def test_an_eintr_heals_it_and_all_that_queued_up_is_answered(service: child.Service) -> None:
    with ExitStack() as clients:
        old = [clients.enter_context(held(address, LINE)) for address in (tcp(service), service.addresses.unix)]
        service.lose_wakeup()
        assert service.next_event().name == "lost"
        for client in old:
            client.ask()
        new = [clients.enter_context(connect(address)) for address in (tcp(service), service.addresses.unix) * 6]
        for sock in new:
            sock.sendall(b"ping\n")
        interrupt(service.pid)
        assert [client.answer() for client in old] == [b"pong\n"] * 2
        assert [sock.recv(100) for sock in new] == [b"pong\n"] * 12
        assert service.next_event().name == "woken"


def test_a_signal_that_has_a_taker_does_not_heal_it(service: child.Service) -> None:
    service.lose_wakeup()
    assert service.next_event().name == "lost"
    service.lose_wakeup()  # a handler in the loop's thread would make EINTR of it
    assert is_dark(tcp(service), LINE[0])
    interrupt(service.pid)
    assert [service.next_event().name for _ in range(2)] == ["woken", "lost"]


def test_a_stubborn_stall_outlives_as_many_eintrs_as_it_was_told(tmp_path: Path) -> None:
    with child.service(tmp_path, "--stubborn", "2") as service:
        service.lose_wakeup()
        assert service.next_event().name == "lost"
        interrupt(service.pid)
        assert service.next_event().name == "useless"
        interrupt(service.pid)
        assert service.next_event().name == "useless"
        assert is_dark(tcp(service), LINE[0])
        interrupt(service.pid)
        assert service.next_event().name == "woken"


def test_sigterm_ends_it_in_the_middle_of_a_stall(tmp_path: Path) -> None:
    with child.service(tmp_path) as service:
        service.lose_wakeup()
        assert service.next_event().name == "lost"
        os.kill(service.pid, signal.SIGTERM)
        until(lambda: not service.alive, 3, "the end of the service")
    assert not (tmp_path / "service.pid").exists()


def test_nonsense_by_any_road_harms_nobody(service: child.Service, tmp_path: Path) -> None:
    with held(tcp(service), LINE) as client, connect(tcp(service)) as stranger:
        stranger.sendall(b"\x00" * 100_000 + b"\n")
        assert not snmp_command(tmp_path, "snmpget", int(service.addresses.snmp.rsplit(":", 1)[1]), "wrong", SYS_UPTIME)
        client.ask()
        assert client.answer() == b"pong\n"
