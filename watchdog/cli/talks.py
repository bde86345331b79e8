"""What may be asked of a listening socket, by the programs that have it open and by its port: candidates for a probe.

Rules of this file. Pure. A program is spoken to only in a protocol that it is known to speak, for a stranger may log,
count or print what it does not understand; of the others only a connection is made. The best talk stands first. What
a talk sends changes nothing in the server, needs no password, and is answered by the loop that serves the clients.

Sources: RESP (redis.io/docs/reference/protocol-spec), RFC 9110, PostgreSQL's protocol 3.0 (StartupMessage), memcached's
protocol.txt, RFC 5321, RFC 4253, RFC 959, RFC 1939, RFC 9051; MySQL's protocol (Protocol::Handshake); the FastCGI
specification, 4.1. Tried on Debian 12's nginx, redis, memcached, PostgreSQL, MariaDB and php-fpm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from watchdog.cli.survey import Listener
from watchdog.reading import Family

# Answers that show that the loop lives, where the page that was asked for is none that everybody may see.
ANY_ANSWER = (200, 204, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405)

REDIS = re.compile(r"(redis|valkey|keydb)-server|redis-check-rdb|redis-sentinel")
MEMCACHED = re.compile(r"memcached")
POSTGRESQL = re.compile(r"postgres|postmaster")
MYSQL = re.compile(r"mysqld|mariadbd")
FASTCGI = re.compile(r"php-fpm[0-9.]*")
WEB = re.compile(r"nginx|apache2|httpd|haproxy|caddy|lighttpd|traefik|varnishd|envoy|hitch|h2o|grafana(-server)?")
MONITORS = re.compile(r"prometheus(-[a-z-]+)?|alertmanager|[a-z]+_exporter")
HTTP_PORTS, HTTPS_PORTS = (80, 8080), (443, 8443)
# Of servers that speak first: what their greeting is known by.
GREETINGS = {21: "^220", 22: "^SSH-", 25: "^220", 587: "^220", 110: r"^\+OK", 143: r"^\* OK"}
# Ports at which a web server passes on what is no HTTP, and where the question would go to another host.
OTHERS = {
    *GREETINGS,
    *(88, 389, 465, 636, 993, 995, 1433, 1521, 1883, 2181, 3306, 3389, 4222, 5432, 5671, 5672, 6379, 6380, 6432),
    *(8883, 9000, 9042, 9092, 11211, 26379, 27017, 33060),
}
LOOPBACK = ("127.", "[::1]", "0.0.0.0", "[::]")  # where a server on all addresses is asked, too
COUNTS = (
    "MySQL counts each connection without a login, and after max_connect_errors of them refuses this host; "
    "over loopback and a Unix socket it does not count"
)

GET_VALUES, VALUES = "\x01\x09\0\0\0\0\0\0", r"\x01\x0a"  # FastCGI's FCGI_GET_VALUES, and its result
STARTUP = "\0\0\0\x1d\0\x03\0\0user\0epoll-watchdog\0\0"


@dataclass(frozen=True, slots=True)
class Talk:
    """A probe that might do: its `type`, its keys, and in words why it looks like this.

    `proves`: bytes come back, so that it tells a service that sleeps from one that is well. `guessed`: only the port
    speaks for it, so that silence says nothing.
    """

    type: str
    keys: Mapping[str, Any]
    why: str
    proves: bool = True
    guessed: bool = False


def harmed(listener: Listener) -> str:
    """Why it is not even connected to; empty where it may be."""
    local = listener.family is Family.UNIX or listener.address.startswith(LOOPBACK)
    return COUNTS if _is(listener, MYSQL) and not local else ""


def talks(listener: Listener) -> tuple[Talk, ...]:
    """The candidates for a socket, the best first; the last is a connection and nothing more."""
    return (*_known(listener), _connection(listener))


def port_of(listener: Listener) -> int:
    """Its TCP port; 0 for a Unix socket."""
    return int(listener.address.rpartition(":")[2]) if listener.family is Family.TCP else 0


def _known(listener: Listener) -> Iterator[Talk]:
    port = port_of(listener)
    if _is(listener, REDIS):
        why = "its event loop answers PING; where it asks for a password, NOAUTH comes from the same loop"
        yield _exchange(listener, why, send="PING\r\n", expect="PONG|NOAUTH")
    elif _is(listener, MEMCACHED):
        yield _exchange(listener, "memcached tells its version", send="version\r\n", expect="^VERSION")
    elif _is(listener, POSTGRESQL):
        if listener.family is Family.TCP:
            why = "a StartupMessage for a user who need not exist: the server asks for a password, and logs nothing"
            yield _exchange(listener, why, send=STARTUP, expect="^R")
    elif _is(listener, MYSQL):
        why = "the server speaks first. MariaDB logs it as an aborted connection, unless log_warnings is at most 1"
        yield _exchange(listener, why, expect=r"[0-9]+\.[0-9]+")
    elif _is(listener, FASTCGI):
        why = "FastCGI's question for its limits: a worker answers, no script runs, and nothing is logged"
        yield _exchange(listener, why, send=GET_VALUES, expect=VALUES)
    elif port in GREETINGS and not _is(listener, WEB):
        yield _exchange(listener, "the server speaks first", expect=GREETINGS[port])
    elif port in HTTPS_PORTS:
        yield from _http(listener, "https")
    elif port in HTTP_PORTS or _is(listener, MONITORS) or _may_be_http(listener):
        yield from _http(listener, "http")


def _is(listener: Listener, names: re.Pattern[str]) -> bool:
    return any(names.fullmatch(program) for program in listener.programs)


def _may_be_http(listener: Listener) -> bool:
    """A web server may pass on something else; and haproxy's Unix sockets are its operator's, as a rule."""
    control = listener.family is Family.UNIX and any(
        name.startswith(("haproxy", "apache")) for name in listener.programs
    )
    return _is(listener, WEB) and port_of(listener) not in OTHERS and not control


def _exchange(listener: Listener, why: str, **keys: str) -> Talk:
    return Talk(*_connecting(listener, keys), why)


def _connection(listener: Listener) -> Talk:
    why = (
        "a connection alone, which the kernel accepts for a service that sleeps, too: a lost wake-up is not seen here. "
        "Give send and expect instead of connect_only, in words that this service answers"
    )
    return Talk(*_connecting(listener, {"connect_only": True}), why, proves=False)


def _connecting(listener: Listener, keys: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if listener.family is Family.UNIX:
        return "unix", {"path": listener.address, **keys}
    return "tcp", {"address": asked_at(listener.address), **keys}


def _http(listener: Listener, scheme: str) -> Iterator[Talk]:
    """The page as it should be; else whatever shows that the server answers."""
    keys: dict[str, Any] = {"url": f"{scheme}://localhost{_path(listener)}", "unix_socket": listener.address}
    if listener.family is Family.TCP:
        keys = {"url": f"{scheme}://{asked_at(listener.address)}{_path(listener)}"}
    if scheme == "https":
        keys["tls_config"] = {"insecure_skip_verify": True}
    guessed = not _is(listener, WEB) and not _is(listener, MONITORS)
    passed_on = "; where it is passed on to another server, this tells of that one" if _is(listener, WEB) else ""
    whose = "; its certificate is not checked: give tls_config a server_name for that" if scheme == "https" else ""
    keys["follow_redirects"] = False
    yield Talk("http", keys, f"any status of 2xx is well{passed_on}{whose}", guessed=guessed)
    better = "Better is a page of its own that answers 2xx"
    why = f"any of these answers shows that the server lives{passed_on}{whose}. {better}"
    yield Talk("http", {**keys, "valid_status_codes": ANY_ANSWER}, why, guessed=guessed)


def _path(listener: Listener) -> str:
    """A page that is made for this question, where there is one."""
    if any(name.startswith(("prometheus", "alertmanager")) and "exporter" not in name for name in listener.programs):
        return "/-/healthy"
    return "/api/health" if any(name.startswith("grafana") for name in listener.programs) else "/"


def asked_at(address: str) -> str:
    """Where a socket of this host is reached from this host."""
    host, _, port = address.rpartition(":")
    return f"{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}"
