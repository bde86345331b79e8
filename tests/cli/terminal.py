"""A command in a terminal of 80 columns and 24 lines, and what it has shown there."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

WITHIN = 20.0  # s


class Terminal:
    """Read it to its end, or until something is shown."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        self.shown = ""
        self._master, slave = pty.openpty()
        env = {"COLUMNS": "80", "LINES": "24", "TERM": "xterm-256color", "TZ": "UTC", **environment}
        command = [sys.executable, "-P", "-m", "watchdog", *arguments]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env)
        os.close(slave)

    async def until(self, text: str) -> None:
        """Until the text is shown, in one line or in several. Forgets what was before it."""
        found = await asyncio.to_thread(self._read, text)
        assert found, f"{text!r} was not shown in {self.shown[-4000:]!r}"
        self.shown = ""

    async def end(self, number: int = signal.SIGINT) -> int:
        """End it by a signal; its exit code. What it shows until then is kept."""
        self.process.send_signal(number)
        await asyncio.to_thread(self._read, None)
        return await asyncio.to_thread(self.process.wait, WITHIN)

    async def finished(self) -> int:
        """Its exit code."""
        await asyncio.to_thread(self._read, None)
        return await asyncio.to_thread(self.process.wait, WITHIN)

    def _read(self, text: str | None) -> bool:
        until = time.monotonic() + WITHIN
        while text is None or text not in plain(self.shown):
            if not select.select([self._master], [], [], max(0.0, until - time.monotonic()))[0]:
                return False
            try:
                self.shown += os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # EIO: nobody has it open any more
                return text is None
        return True

    def close(self) -> None:
        """End it, if it has not ended."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(WITHIN)
        os.close(self._master)


def plain(shown: str) -> str:
    """Without colours and breaks of lines."""
    return " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", " ", shown).split())


@asynccontextmanager
async def terminal(*arguments: str, **environment: str) -> AsyncIterator[Terminal]:
    """The command in a terminal of its own."""
    opened = Terminal(arguments, environment)
    try:
        yield opened
    finally:
        opened.close()
