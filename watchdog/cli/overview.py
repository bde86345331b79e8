"""What the daemon sees, for people: a table of 80 columns, and sentences below it. It shows and decides nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from watchdog.cli.seen import Queue, Seen, Service
from watchdog.cli.terminal import bullets, lasting, plain, table, wall

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

HEADINGS = ("SERVICE", "VERDICT", "PROBES", "ASKED", "QUEUE", "LEFT", "NOTES")
FILLING = 0.5  # of an accept queue's limit: shown as a warning


def board(seen: Seen) -> RenderableType:
    """The table, and below it what is told of each in whole sentences."""
    from rich.console import Group

    if not seen.services:
        return plain("No service is guarded; epoll-watchdog init proposes those that listen here.")
    unknown = {"QUEUE"} if not seen.queues else set()
    if not any(service["last_round_at"] for service in seen.services):
        unknown.add("ASKED")
    shown = [heading for heading in HEADINGS if heading not in unknown]
    made = table(*shown, whole=("ASKED", "QUEUE"))
    for service in seen.services:
        cells = dict(zip(HEADINGS, _row(seen, service), strict=True))
        made.add_row(*(cells[heading] for heading in shown))
    sentences = [f"{service['name']}: {line}" for service in seen.services for line in _below(service)]
    return Group(made, *([bullets(map(plain, sentences))] if sentences else []))


def headed(shown: RenderableType, interval: float) -> RenderableType:
    """Under a line that says when it was, for a terminal that is watched."""
    from rich.console import Group

    now = time.strftime("%H:%M:%S")
    return Group(plain(f"epoll-watchdog, {now}, every {lasting(interval)}; Ctrl-C ends", "dim"), shown)


def lost(error: str, seen: Seen) -> RenderableType:
    """The daemon does not answer: that, above what was last seen."""
    from rich.console import Group

    return Group(plain(error, "bold red"), plain("Last seen:", "dim"), board(seen))


def _row(seen: Seen, service: Service) -> Iterator[Text]:
    verdict = service["verdict"] if service["healthy"] else f"{service['verdict']} ({service['certainty']})"
    asked = service["last_round_at"]
    yield plain(service["name"])
    yield plain(verdict, "green" if service["healthy"] else "bold red")
    yield _lines(_probe(seen, service, name, probe) for name, probe in service["probes"].items())
    yield plain(_ago(wall(asked)) if asked is not None else "")
    yield _queue(seen, service)
    yield plain(", ".join(f"{count} {rung}" for rung, count in service["budgets"].items()))
    yield plain(_notes(service))


def _lines(parts: Iterator[Text]) -> Text:
    from rich.text import Text

    return Text("\n").join(parts)


def _probe(seen: Seen, service: Service, name: str, probe: dict[str, Any]) -> Text:
    if probe["kind"] == "alive":
        return plain(f"{name} {probe['latency_s'] * 1000:.1f} ms")
    answered = seen.answered.get((service["name"], name))
    last = f", answered {_ago(answered)}" if answered is not None else ""
    return plain(f"{name} {probe['kind'] or 'not asked yet'}{last}", "yellow" if probe["kind"] else "")


def _ago(at: float) -> str:
    return f"{lasting(max(0, round(time.time() - at)))} ago".replace("0ms", "0s")


def _queue(seen: Seen, service: Service) -> Text:
    """The fullest."""
    queues = seen.queues.get(service["name"], {}).values()
    fullest = max(queues, key=lambda queue: (queue.share, queue.length), default=None)
    return plain("", "") if fullest is None else plain(str(fullest), "yellow" if _is_filling(fullest) else "")


def _is_filling(queue: Queue) -> bool:
    return queue.limit is not None and queue.share >= FILLING


def _below(service: Service) -> Iterator[str]:
    """What is told of a service in whole sentences."""
    yield from () if service["healthy"] else service["reasons"]
    told = service["paused"] and service["held_for"].startswith("paused by ")
    if service["held_for"] and service["held_for"] != service["window"] and not told:
        yield f"the next rung waits: {service['held_for']}"
    if service["paused"]:
        yield f"paused by {service['pause_by']}{_until(service['pause_until'])}{_because(service['pause_reason'])}"
    if service["window"]:
        yield service["window"]
    if service["acknowledged_by"]:
        yield f"acknowledged by {service['acknowledged_by']}"


def _until(moment: str | None) -> str:
    return "" if moment is None else f" until {time.strftime('%a %H:%M', time.localtime(wall(moment)))}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _notes(service: Service) -> str:
    notes = [f"mode {service['mode']}"] if service["mode"] != "full" else []
    if service["paused"]:
        notes.append("paused")
    if service["window"]:
        notes.append("maintenance")
    if service["incident"] is not None:
        notes.append(f"incident {service['incident'][:8]}")
    notes += [f"waits: {hold}" for hold in service["holds"]]
    notes += [f"passed over: {passed}" for passed in service["passes"]]
    return ", ".join(notes)
