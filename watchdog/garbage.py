"""How Python's garbage collector is kept from holding up the loop.

Measured with a thousand services, on a loop that they keep at 60 % of a CPU: a full collection looks at all that lives
and takes 70–140 ms, every ten seconds or so, and all collections together take a third of the daemon's CPU time. What
lives as long as its service is therefore taken out of the collector's sight once it is there; what is left are rounds,
requests and letters, whose cycles are few. docs.python.org/3/library/gc.html: freeze, set_threshold.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

THRESHOLDS = (10_000, 20, 50)  # objects, and collections of the next younger generation
LOOK_EVERY = 1.0  # s


async def spare(ready: Callable[[], bool]) -> None:
    """Once `ready`, take what lives out of the collector's sight, and what an earlier call had taken out and is dead
    since, away.
    """
    while not ready():  # noqa: ASYNC110 – it is the sum of what every guard knows
        await asyncio.sleep(LOOK_EVERY)
    gc.set_threshold(*THRESHOLDS)
    gc.unfreeze()
    gc.collect()
    gc.freeze()
