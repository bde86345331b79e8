"""What the running daemon sees of its services: asked for, and remembered from one look to the next.

Rules of this file. The API tells what each probe last found, not when it last answered: who goes on looking remembers
that himself. Accept queues are told among the metrics; where they can't be read, nothing is said of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from watchdog.cli.api import Daemon, Denied
from watchdog.cli.terminal import wall

Service = Mapping[str, Any]
LENGTH, LIMIT = "epoll_watchdog_accept_queue_length", "epoll_watchdog_accept_queue_limit"


@dataclass(frozen=True, slots=True)
class Queue:
    """A listener's accept queue. `limit` is None where it is not told."""

    length: int
    limit: int | None

    @property
    def share(self) -> float:
        """How full it is; where the limit is not told, any that waits is much."""
        return self.length / self.limit if self.limit else float(self.length)

    def __str__(self) -> str:
        return f"{self.length}/{self.limit}" if self.limit is not None else str(self.length)


@dataclass(frozen=True, slots=True)
class Seen:
    """All services at one moment, and the accept queues by service and listener."""

    services: Sequence[Service]
    queues: Mapping[str, Mapping[str, Queue]]
    answered: Mapping[tuple[str, str], float]  # wall clock; by service and probe

    @property
    def healthy(self) -> bool:
        """Whether all are."""
        return all(service["healthy"] for service in self.services)

    def as_json(self) -> Mapping[str, Any]:
        """What the API says, and the queues."""
        return {"services": [{**service, "accept_queues": self._queues(service)} for service in self.services]}

    def _queues(self, service: Service) -> Mapping[str, Any]:
        found = self.queues.get(service["name"], {})
        return {listener: {"length": queue.length, "limit": queue.limit} for listener, queue in found.items()}


@dataclass(slots=True)
class Watcher:
    """Looks, and remembers when each probe last answered."""

    daemon: Daemon
    _answered: dict[tuple[str, str], float] = field(default_factory=dict)

    def look(self) -> Seen:
        """Raises `Unanswered`."""
        services: list[Service] = self.daemon.get("/api/v1/services")["services"]
        for service in services:
            if service["last_round_at"] is not None:
                self._remember(service, wall(service["last_round_at"]))
        return Seen(services, _queues(self.daemon), dict(self._answered))

    def _remember(self, service: Service, at: float) -> None:
        for name, probe in service["probes"].items():
            if probe["kind"] == "alive":
                self._answered[service["name"], name] = at


def _queues(daemon: Daemon) -> Mapping[str, Mapping[str, Queue]]:
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[tuple[str, str], dict[str, float]] = {}
    try:
        text = daemon.fetch("/metrics").decode()
        told = "".join(f"{line}\n" for line in text.splitlines() if line.startswith((LENGTH, LIMIT)))
        for family in text_string_to_metric_families(told):
            for sample in family.samples:
                found.setdefault((sample.labels["name"], sample.labels["listener"]), {})[sample.name] = sample.value
    except (Denied, click.ClickException, ValueError, KeyError):
        return {}
    queues: dict[str, dict[str, Queue]] = {}
    for (service, listener), values in found.items():
        limit = values.get(LIMIT)
        queue = Queue(int(values.get(LENGTH, 0)), int(limit) if limit is not None else None)
        queues.setdefault(service, {})[listener] = queue
    return queues
