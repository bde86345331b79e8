"""How systemd's jobs end, as its signal JobRemoved tells it. Listen before the job is queued.

Source: org.freedesktop.systemd1(5), JobRemoved.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Jobs:
    """Results of jobs: also of one that ended before we knew its name."""

    results: dict[str, str] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def signal(self, _path: str, member: str, body: list[Any]) -> None:
        """To be given to `Bus`."""
        if member == "JobRemoved":
            self.results[body[1]] = body[3]
            self.changed.set()

    async def result(self, job: str, timeout_s: float) -> str | None:
        """How the job ended: done, canceled, timeout, failed, dependency, skipped; None while it has not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while job not in self.results:
                    self.changed.clear()
                    await self.changed.wait()
        return self.results.get(job)
