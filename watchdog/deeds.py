"""What was done in an incident, in words, for the page and the terminal. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

REMEDIES = {"nudged": "nudge", "restarted": "restart", "captured": "capture"}  # by the kind of their record


def deeds(records: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """Of the kinds and details of its records: "nudge ×2, restart failed"; empty: nothing."""
    counted = Counter(deed for kind, detail in records if (deed := _deed(kind, detail)))
    return ", ".join(f"{deed} ×{count}" if count > 1 else deed for deed, count in counted.items())


def _deed(kind: str, detail: Mapping[str, Any]) -> str:
    if kind in REMEDIES:
        outcome = detail.get("outcome", "")
        return REMEDIES[kind] if outcome == "done" else f"{REMEDIES[kind]} {outcome.replace('_', ' ')}"
    if kind == "interrupted":
        return f"{detail.get('rung', 'remedy')} interrupted"
    if kind == "passed" and detail.get("reason") == "observed":
        return f"would {detail.get('rung', '')}"
    return "alert" if kind == "escalated" else ""
