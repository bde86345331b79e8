"""Wakes whoever waits for what is shown to change. It counts, so that nothing is missed between two waits."""

from __future__ import annotations

import asyncio


class Bell:
    """Rung by whoever knows that something changed, in the loop's own thread."""

    def __init__(self) -> None:
        self.rung = 0  # how often, so far
        self._ringing = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait."""
        self.rung += 1
        self._ringing.set()
        self._ringing = asyncio.Event()

    async def after(self, count: int) -> int:
        """Wait until it was rung more than `count` times; returns how often it was."""
        while self.rung <= count:
            await self._ringing.wait()
        return self.rung
