"""What is asked of whom: a protocol where the program or the port tells which, and never of a stranger."""

from __future__ import annotations

import pytest

from watchdog.cli.survey import Listener
from watchdog.cli.talks import Talk, asked_at, harmed, talks
from watchdog.probes import PROBES
from watchdog.probes.tls import TlsConfig
from watchdog.reading import Family

KNOWN = [
    ("redis-server", "127.0.0.1:6379", "PING\r\n"),
    ("redis-check-rdb", "127.0.0.1:6380", "PING\r\n"),
    ("memcached", "127.0.0.1:11211", "version\r\n"),
    ("postgres", "127.0.0.1:5432", "\0\0\0\x1d\0\x03\0\0user\0epoll-watchdog\0\0"),
    ("php-fpm8.2", "127.0.0.1:9000", "\x01\x09\0\0\0\0\0\0"),
    ("mariadbd", "127.0.0.1:3306", None),
    ("exim4", "0.0.0.0:25", None),
]
PAGES = [
    ("nginx", "0.0.0.0:80", "http://127.0.0.1:80/"),
    ("nginx", "[::]:8081", "http://[::1]:8081/"),
    ("nginx", "0.0.0.0:443", "https://127.0.0.1:443/"),
    ("java", "[::1]:8080", "http://[::1]:8080/"),
    ("prometheus", "[::]:9090", "http://[::1]:9090/-/healthy"),
    ("prometheus-node-exporter", "[::]:9100", "http://[::1]:9100/"),
    ("grafana", "[::]:3000", "http://[::1]:3000/api/health"),
]
STRANGERS = [
    ("cupsd", "127.0.0.1:631"),
    ("jetdirectd", "0.0.0.0:9100"),
    ("nginx", "0.0.0.0:5432"),
    ("haproxy", "0.0.0.0:25"),
    ("haproxy", "0.0.0.0:27017"),
]


def best(program: str, address: str) -> Talk:
    return talks(Listener(Family.UNIX if address.startswith("/") else Family.TCP, address, (program,)))[0]


@pytest.mark.parametrize(("program", "address", "sent"), KNOWN)
def test_a_program_is_spoken_to_in_its_own_protocol(program: str, address: str, sent: str | None) -> None:
    talk = best(program, address)

    assert (talk.type, talk.keys.get("send"), talk.proves) == ("tcp", sent, True)
    assert talk.keys["expect"]


@pytest.mark.parametrize(("program", "address", "url"), PAGES)
def test_a_web_server_is_asked_for_a_page(program: str, address: str, url: str) -> None:
    talk = best(program, address)

    assert (talk.type, talk.keys["url"], talk.keys["follow_redirects"]) == ("http", url, False)


@pytest.mark.parametrize(("program", "address"), [*STRANGERS, ("haproxy", "/run/haproxy/admin.sock")])
def test_a_stranger_is_sent_nothing(program: str, address: str) -> None:
    talk = best(program, address)

    assert (talk.keys["connect_only"], talk.proves) == (True, False)
    assert "send" not in talk.keys


@pytest.mark.parametrize(("program", "address"), [each[:2] for each in (*KNOWN, *PAGES)])
def test_each_talk_makes_settings_that_are_accepted(program: str, address: str) -> None:
    listener = Listener(Family.TCP, address, (program,))

    for talk in talks(listener):
        keys = {name: TlsConfig(**value) if name == "tls_config" else value for name, value in talk.keys.items()}
        assert PROBES[talk.type].settings(**keys)
    assert [talk.proves for talk in talks(listener)][-1] is False


@pytest.mark.parametrize(
    ("address", "asked"), [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("192.0.2.1:80", "192.0.2.1:80")]
)
def test_a_socket_of_all_addresses_is_asked_at_loopback(address: str, asked: str) -> None:
    assert asked_at(address) == asked


@pytest.mark.parametrize(
    ("address", "why"),
    [("10.0.0.5:3306", "max_connect_errors"), ("127.0.0.1:3306", ""), ("0.0.0.0:3306", ""), ("[::1]:3306", "")],
)
def test_a_mysql_that_would_shut_out_its_host_is_not_even_connected_to(address: str, why: str) -> None:
    assert why in harmed(Listener(Family.TCP, address, ("mysqld",)))
    assert bool(harmed(Listener(Family.TCP, address, ("mysqld",)))) == bool(why)
    assert harmed(Listener(Family.UNIX, "/run/mysqld/mysqld.sock", ("mysqld",))) == ""
