"""Asks the daemon's API, over HTTP, HTTPS or the Unix socket; and the options that say where it is."""

from __future__ import annotations

import base64
import functools
import http.client
import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import click

TIMEOUT = 5.0  # s
ORDER_TIMEOUT = 30.0  # s: a thousand services write their state one after the other
UNREACHABLE = 3  # exit code


@dataclass(frozen=True, slots=True)
class Daemon:
    """Where the daemon is asked, and by whom."""

    url: str
    ca_file: Path | None = None
    user: str | None = None
    password: str | None = None

    def get(self, path: str) -> Any:
        """What a GET of the path answers. Raises `Unanswered`."""
        try:
            return json.loads(self.fetch(path))
        except ValueError as error:  # `Denied` is one
            raise self._unanswered(error) from None

    def post(self, path: str, said: Mapping[str, Any]) -> Any:
        """What an order is answered with. Raises `Unanswered`; `Denied` where the daemon says why it does not obey."""
        try:
            answer = ask(self.url, path, self.ca_file, self.user, self.password, json.dumps(said).encode())
            return json.loads(answer)
        except Denied:
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._unanswered(error) from None

    def fetch(self, path: str) -> bytes:
        """What `get` would parse. Raises `Unanswered`; `Denied` where the daemon says why it does not tell."""
        try:
            return ask(self.url, path, self.ca_file, self.user, self.password)
        except Denied:
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._unanswered(error) from None

    def _unanswered(self, error: Exception) -> Unanswered:
        return Unanswered(f"the daemon can't be asked at {self.url}: {error}")


class Denied(ValueError):
    """The daemon answered, with another status than 200. `said` is its own reason; empty where it gave none."""

    def __init__(self, status: int, reason: str, said: str) -> None:
        super().__init__(f"it answered {status} {reason}" + (f": {said}" if said else ""))
        self.status = status
        self.said = said


class Unanswered(click.ClickException):
    """The daemon does not answer, or not as it should."""

    exit_code = UNREACHABLE

    def show(self, file: IO[Any] | None = None) -> None:
        """On stderr, with what to look at."""
        click.echo(f"epoll-watchdog: {self.message}", err=True)
        click.echo("Does it run?  systemctl status epoll-watchdog", err=True)


def daemon_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options of `Daemon`, and hands it the whole as `daemon`."""

    @click.option(
        "--url", default="http://127.0.0.1:9797", show_default=True, help="Where the daemon listens; unix:/PATH too."
    )
    @click.option("--ca-file", type=click.Path(path_type=Path), help="PEM: the daemon's certificate must come from it.")
    @click.option("--user", help="Of basic authentication.")
    @click.option("--password-file", type=click.File(), help="Holds that user's password; - reads it from the input.")
    @functools.wraps(command)
    def with_daemon(
        url: str, ca_file: Path | None, user: str | None, password_file: IO[str] | None, **others: Any
    ) -> Any:
        password = password_file.readline().rstrip("\r\n") if password_file is not None else None
        return command(daemon=Daemon(url, ca_file, user, password), **others)

    return with_daemon


class _Local(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(
    url: str, path: str, ca_file: Path | None, user: str | None, password: str | None, order: bytes | None = None
) -> bytes:
    """What a GET of the path answers, or a POST of an order in JSON. Raises `OSError`, `ValueError` and `HTTPException`
    with one line, no password.
    """
    connection, base = _connection(url, ca_file)
    if order is not None:
        connection.timeout = ORDER_TIMEOUT
    headers = {"Content-Type": "application/json"} if order is not None else {}
    if user is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password or ''}".encode()).decode()
    try:
        connection.request("GET" if order is None else "POST", f"{base}{path}", order, headers)
        answer = connection.getresponse()
        if answer.status == http.HTTPStatus.UNAUTHORIZED:
            raise ValueError("it wants a user and a password; give --user and --password-file")
        if answer.status != http.HTTPStatus.OK:
            raise Denied(answer.status, answer.reason, _said(answer.read()))
        return answer.read()
    finally:
        connection.close()


def _said(body: bytes) -> str:
    """The message in an error of the API's."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _connection(url: str, ca_file: Path | None) -> tuple[http.client.HTTPConnection, str]:
    if url.startswith("unix:"):
        return _Local(url.removeprefix("unix:")), ""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError('the URL must begin with "http://", "https://" or "unix:/"')
    base = parts.path.rstrip("/")
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT), base
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file is not None else None)
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT, context=context), base
