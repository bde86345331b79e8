"""Threads beside the loop's own: what a channel waits for in them delays no guard and no other channel.

A look-up of a name (getaddrinfo(3)) can't be cancelled: it sits in its thread until the resolver answers, mostly long
after the attempt that asked was ended. In the executor of the loop, which has few threads and which probes and evidence
use, some channels whose DNS hangs would delay every guard. So each channel has a few threads of its own; what is more
than they can take waits, and goes unasked when its attempt ends.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

Infos = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]  # of getaddrinfo


class Aside:
    """At most so many threads, which are made when they are needed."""

    def __init__(self, name: str, threads: int = 2) -> None:
        self._name = name
        self._limit = threads
        self._threads: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What `work` returns. Raises what it raises."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._limit, thread_name_prefix=self._name)
        return await asyncio.wrap_future(self._threads.submit(work, *args, **kwargs))

    async def look_up(self, host: str, port: int, family: int = 0, flags: int = 0) -> Infos:
        """The stream addresses of a host. Raises `OSError`, of which `socket.gaierror` is one."""
        found = await self.run(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, flags)
        return list(found)

    def close(self) -> None:
        """Drop what waits; a thread that hangs is not waited for."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


async def connected(aside: Aside, host: str, port: int) -> socket.socket:
    """A connection to the first address of the host that takes one. Raises the `OSError` of the last that does not."""
    loop = asyncio.get_running_loop()
    failed: OSError | None = None
    for family, kind, protocol, _, address in await aside.look_up(host, port):
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        try:
            await loop.sock_connect(made, address)
        except OSError as error:
            made.close()
            failed = error
        except BaseException:
            made.close()
            raise
        else:
            return made
    raise failed or OSError("no address")
