"""Calls that may hang, in threads of their own: a disk that does not answer must not stop the loop, nor other probes.

Rules of this file: one call at a time. While one hangs, whoever asks waits behind it until its own deadline, so a file
system that hangs costs one thread and no more; when it answers again, the next call is made. The threads are daemons:
none keeps the process from ending. They are not the loop's executor, whose few threads resolve names for everybody.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
Outcome = tuple[Any, BaseException | None]


class Aside:
    """Makes one call after the other. `name` is what its threads are called."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._under_way: asyncio.Future[Outcome] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call has not returned yet."""
        return self._under_way is not None and not self._under_way.done()

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises. Cancelled while it is under way, this leaves it to itself."""
        while self._under_way is not None and not self._under_way.done():
            await asyncio.wait({self._under_way})
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        threading.Thread(target=_make, args=(call, future, loop), name=self._name, daemon=True).start()
        self._under_way = future
        result, error = await asyncio.shield(future)
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]


def _make(call: Callable[[], object], future: asyncio.Future[Outcome], loop: asyncio.AbstractEventLoop) -> None:
    outcome: Outcome
    try:
        outcome = call(), None
    except BaseException as error:
        outcome = None, error
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(future.set_result, outcome)
