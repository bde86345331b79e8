"""The thread that SQLite has for itself, and the deadline of every call to it."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from watchdog.store.schema import open_or_make

DEADLINE = 1.0  # s

T = TypeVar("T")


class StoreUnwritable(Exception):
    """The state could not be read or written in time; the message names the file and the fault."""


class Disk:
    """A database that is opened at first use, and again after a fault. All its work is done on one thread."""

    def __init__(self, path: Path, deadline: float) -> None:
        self.path = path
        self._deadline = deadline
        self._connection: sqlite3.Connection | None = None
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A thread of our own and not an executor: one that hangs on a dead disk must not keep the process from ending.
        threading.Thread(target=self._serve, name="store", daemon=True).start()

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction, within the deadline. Raises `StoreUnwritable`."""
        return await self._on_thread(lambda: self._transaction(work, "BEGIN IMMEDIATE"))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same for work that only reads: it goes on while the disk is full or read-only."""
        return await self._on_thread(lambda: self._transaction(work, "BEGIN"))

    async def close(self) -> None:
        """Close the database and end its thread."""
        try:
            await self._on_thread(self._disconnect)
        finally:
            self._calls.put(None)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _on_thread(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def answer(settle: Callable[[], None]) -> None:
            def settle_if_awaited() -> None:
                if not done.done():
                    settle()

            try:
                loop.call_soon_threadsafe(settle_if_awaited)
            except RuntimeError:  # the loop has ended; nobody waits
                return

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # whatever it is: this thread must not end
                fault = StoreUnwritable(f"{self.path}: {error}")
                answer(lambda: done.set_exception(fault))
            else:
                answer(lambda: done.set_result(result))

        self._calls.put(run)
        try:
            async with asyncio.timeout(self._deadline):  # wait_for loses a cancellation that comes with the answer
                return await done
        except TimeoutError:
            raise StoreUnwritable(f"{self.path}: no answer from the disk within {self._deadline:g} s") from None

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def _transaction(self, work: Callable[[sqlite3.Connection], T], begin: str) -> T:
        if self._connection is None:
            self._connection = open_or_make(self.path, DEADLINE)
        db = self._connection
        try:
            db.execute(begin)
            result = work(db)
            db.execute("COMMIT")
        except Exception as error:
            self._recover(db, error)
            raise
        return result

    def _recover(self, db: sqlite3.Connection, error: Exception) -> None:
        """Keep a connection that can still read; begin anew after a fault that may have left it unusable."""
        readable = getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_BUSY")
        try:
            if db.in_transaction:
                db.execute("ROLLBACK")
        except sqlite3.Error:
            readable = False
        if not readable:
            self._connection = None
            db.close()
