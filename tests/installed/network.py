"""Sockets of another network namespace, for a test that stays outside of it.

A socket belongs to the namespace of the thread that makes it, for ever (setns(2), network_namespaces(7)).
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

CLONE_NEWNET = 0x40000000
T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def inside(leader: int, make: Callable[[], T]) -> T:
    """What `make` returns, called in the network of the process `leader`."""
    made: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            namespace = os.open(f"/proc/{leader}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(namespace, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(namespace)
            made.append(make())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def connect(leader: int, address: tuple[str, int], within_s: float = 2.0) -> socket.socket:
    """A connection by TCP."""

    def make() -> socket.socket:
        return socket.create_connection(address, within_s)

    return inside(leader, make)


def listen(leader: int) -> socket.socket:
    """A listener on a free port of 127.0.0.1."""
    return inside(leader, lambda: socket.create_server(("127.0.0.1", 0)))


def get(leader: int, address: tuple[str, int], path: str) -> tuple[int, str]:
    """Status and body of an HTTP answer."""
    client = http.client.HTTPConnection(*address)
    client.sock = connect(leader, address, 20.0)
    with closing(client):
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read().decode()


def get_json(leader: int, address: tuple[str, int], path: str) -> Any:
    """The body of an answer 200, as values."""
    status, body = get(leader, address, path)
    if status != 200:
        raise ConnectionError(f"{path}: status {status}: {body[:500]}")
    return json.loads(body)
