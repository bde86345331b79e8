"""Asks the daemon's API, over HTTP, HTTPS or the Unix socket."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 5.0  # s


class _Local(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


def ask(url: str, path: str, ca_file: Path | None, user: str | None, password: str | None) -> Any:
    """What a GET of the path answers. Raises `OSError`, `ValueError` and `HTTPException` with one line, no password."""
    connection, base = _connection(url, ca_file)
    headers = {}
    if user is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password or ''}".encode()).decode()
    try:
        connection.request("GET", f"{base}{path}", headers=headers)
        answer = connection.getresponse()
        if answer.status == http.HTTPStatus.UNAUTHORIZED:
            raise ValueError("it wants a user and a password; give --user and --password-file")
        if answer.status != http.HTTPStatus.OK:
            raise ValueError(f"it answered {answer.status} {answer.reason}")
        return json.loads(answer.read())
    finally:
        connection.close()


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
