"""How often a remedy may be used, counted over a sliding interval."""

from __future__ import annotations

from watchdog.model import Budget


def kept(budget: Budget, spent: tuple[float, ...], now: float) -> tuple[float, ...]:
    """The uses that still count at `now`. One in the future counts: a clock that went back buys nothing."""
    return tuple(at for at in spent if now - at < budget.interval)


def left(budget: Budget, spent: tuple[float, ...], now: float) -> int:
    """How many uses are left at `now`; never negative."""
    return max(0, budget.burst - len(kept(budget, spent, now)))
