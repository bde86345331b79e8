"""Which units are proposed, which are left out and why, and which of their sockets are asked."""

from __future__ import annotations

import pytest

from watchdog.cli.proposed import NEVER, NO_SERVICE, SAME_PORT, proposed
from watchdog.cli.survey import Listener, Seen, Survey
from watchdog.reading import Family


def tcp(address: str, program: str = "served") -> Listener:
    return Listener(Family.TCP, address, (program,))


def unit(name: str, *listeners: Listener) -> Seen:
    return Seen(name, "", listeners or (tcp("127.0.0.1:7000"),))


def left_out(seen: Seen, **guarded: str) -> str:
    """The reason; empty where it is proposed."""
    chosen = proposed(Survey((seen,)), guarded, ())
    return next(iter(chosen.left_out), "")


@pytest.mark.parametrize("name", ["dbus.service", "systemd-journald.service", "init.scope", "epoll-watchdog.service"])
def test_what_the_host_stands_on_is_never_proposed_not_even_where_it_is_named(name: str) -> None:
    assert left_out(unit(name)) == NEVER
    assert proposed(Survey((unit(name),)), {}, (), [name]).proposals == ()


@pytest.mark.parametrize("name", ["ssh.service", "snmpd.service", "user@1000.service", "docker.service"])
def test_what_is_left_out_for_a_reason_is_proposed_where_it_is_named(name: str) -> None:
    assert left_out(unit(name))
    assert [each.seen.unit for each in proposed(Survey((unit(name),)), {}, (), [name]).proposals] == [name]


def test_a_scope_is_none_of_systemd_s_services() -> None:
    assert left_out(unit("libpod-1.scope")) == NO_SERVICE


def test_a_unit_that_is_guarded_is_left_out_with_the_name_of_its_service() -> None:
    chosen = proposed(Survey((unit("nginx.service"),)), {"nginx.service": "web"}, ())

    assert dict(chosen.left_out) == {"guarded already, by service web": ("nginx.service",)}


def test_only_the_units_that_were_named_are_proposed_or_told_of() -> None:
    chosen = proposed(Survey((unit("a.service"), unit("b.service"), unit("dbus.service"))), {}, (), ["b.service"])

    assert ([each.name for each in chosen.proposals], dict(chosen.left_out)) == (["b"], {})


def test_a_name_that_is_taken_gets_a_number() -> None:
    assert [each.name for each in proposed(Survey((unit("a.service"),)), {}, {"a", "a-2"}).proposals] == ["a-3"]


def test_of_two_sockets_with_one_port_that_of_ipv4_is_asked() -> None:
    [proposal] = proposed(Survey((unit("a.service", tcp("[::]:80"), tcp("0.0.0.0:80")),)), {}, ()).proposals

    assert [each.address for each in proposal.sockets] == ["0.0.0.0:80"]
    assert proposal.unasked == (("[::]:80", SAME_PORT),)


def test_the_bus_of_a_redis_cluster_is_not_asked() -> None:
    sockets = (tcp("127.0.0.1:16379", "redis-server"), tcp("127.0.0.1:6379", "redis-server"))
    [proposal] = proposed(Survey((unit("redis.service", *sockets),)), {}, ()).proposals

    assert [each.address for each in proposal.sockets] == ["127.0.0.1:6379"]


def test_a_unix_socket_that_the_daemon_could_not_reach_is_not_asked_and_alone_makes_no_service() -> None:
    closed = Listener(Family.UNIX, "/run/x.sock", ("served",), "only its owner may connect")
    [proposal] = proposed(Survey((unit("a.service", closed, tcp("127.0.0.1:1")),)), {}, ()).proposals

    assert [each.address for each in proposal.sockets] == ["127.0.0.1:1"]
    assert left_out(unit("a.service", closed)) == "/run/x.sock: only its owner may connect"


def test_no_more_than_four_sockets_are_asked() -> None:
    [proposal] = proposed(Survey((unit("a.service", *(tcp(f"0.0.0.0:{n}") for n in range(1, 8))),)), {}, ()).proposals

    assert (len(proposal.sockets), len(proposal.unasked)) == (4, 3)
