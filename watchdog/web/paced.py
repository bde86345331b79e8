"""Puts together what is rendered in pieces, and lets the probes have their turns in between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

AT_ONCE = 0.002  # s of rendering without letting others run
FOR_OTHERS = 2.0  # times as long as that is theirs: a probe takes several turns of the loop, and waits in each


async def joined(pieces: Iterator[bytes], for_others: float = FOR_OTHERS) -> bytearray:
    """All pieces; each takes some 2 ms or less to make."""
    content, loop = bytearray(), asyncio.get_running_loop()
    began = loop.time()
    for piece in pieces:
        content += piece
        if loop.time() - began > AT_ONCE:
            await asyncio.sleep(for_others * (loop.time() - began))
            began = loop.time()
    return content
