"""How often a remedy may be used: at most `burst` times in any `interval`, as systemd's StartLimitBurst= counts."""

from __future__ import annotations

from dataclasses import dataclass

from watchdog.settings import Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """`burst` uses in any `interval` seconds. A burst of 0 forbids the remedy."""

    burst: int
    interval: Seconds


def kept(budget: Budget, spent: tuple[float, ...], now: float) -> tuple[float, ...]:
    """The uses that still count at `now`. One in the future counts: a clock that went back buys nothing."""
    return tuple(at for at in spent if now - at < budget.interval)


def left(budget: Budget, spent: tuple[float, ...], now: float) -> int:
    """How many uses are left at `now`; never negative."""
    return max(0, budget.burst - len(kept(budget, spent, now)))
