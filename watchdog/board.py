"""What all guards share, and what the API shows of them.

It is told what happened and passes it on: to the metrics, the log, the alert channels and systemd's status line. It
answers what a decision must know of the other services, and holds the claim on the one restart at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from watchdog import log
from watchdog.alerts.routing import Routing
from watchdog.clock import Clock
from watchdog.config import Config, Service
from watchdog.evidence.pressure import HostMeter, Meter
from watchdog.guard import Guard
from watchdog.heart import notify
from watchdog.history import History, Past, Span
from watchdog.maintenance import Maintenance, clause
from watchdog.messages import Event, of_event
from watchdog.metrics import Metrics
from watchdog.model import Epoch, Host, Record, RestartOutlook, Verdict
from watchdog.outlook import Outlooks
from watchdog.reading import Advisory, Pressure, Queues
from watchdog.settings import format_duration
from watchdog.store import Letter, Store, StoreUnwritable
from watchdog.store.archive import Unreadable
from watchdog.views import disclosed, evidence, incident_view, service_view
from watchdog.web.bell import Bell
from watchdog.web.view import IncidentView, ServiceView, Unavailable

HOLD_FILE = Path("/etc/epoll-watchdog/hold")
FEW, AT_LEAST = 4, 30.0  # rounds that a guard may not come to before it is overdue; in seconds, at least
logger = logging.getLogger(__name__)


def _exists(path: Path) -> bool:
    """A directory that may not be searched must not void every round."""
    try:
        return path.exists()
    except OSError:
        return False


class Board:
    """Implements `guard.Surroundings` and `web.view.View`. The daemon keeps `guards` and `config` up to date."""

    def __init__(
        self, config: Config, store: Store, clock: Clock, metrics: Metrics, beating: Callable[[], bool]
    ) -> None:
        self.config = config
        self.guards: dict[str, Guard] = {}
        self.lag: Callable[[], float] = lambda: 0.0
        self.wake_couriers: Callable[[], None] = lambda: None
        self.meter = HostMeter(clock.now)
        self.outlooks: Outlooks | None = None
        self.kernel: tuple[Advisory, ...] = ()
        self.history = History()
        self.bell = Bell()
        self._glimpses: weakref.WeakKeyDictionary[Guard, object] = weakref.WeakKeyDictionary()
        self.maintenance = Maintenance(lambda: self.config.windows, clock)
        self._meters: dict[str, Meter] = {}
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._beating = beating
        self._restarting = ""
        self._store_fault = ""
        self._status = ""
        self._unpacking = asyncio.Lock()  # one incident's evidence at a time is enough for memory

    # --- guard.Surroundings -------------------------------------------------------------------------------------------

    def host(self, service: str) -> Host:
        """What a decision must know of the host and of the other services, now."""
        now = self._clock.now()
        others = [guard for name, guard in self.guards.items() if name != service]
        looks = [guard.seen.round.ended if guard.seen is not None else 0.0 for guard in others]
        max_sick = self.config.max_sick
        return Host(
            loop_lag=self.lag(),
            sick=1 + sum(self._newly_sick(guard, now) for guard in others if not self._in_window(guard)),
            max_sick=max(2, len(self.guards) // 4) if max_sick is None else max_sick,
            others_looked=min(looks, default=None),
            restarting=self._restarting if self._restarting != service else "",
            hold_file=_exists(HOLD_FILE),
            window=clause(self.maintenance.of(service)),
            sick_parents=self._sick_parents(service),
        )

    def _sick_parents(self, service: str) -> tuple[str, ...]:
        """Those it depends on that are not known to be well, as one not looked at since this one's first bad round."""
        if service not in self.guards:
            return ()
        child = self.guards[service]
        since = child.state.tally.bad_since
        parents = [self.guards[name] for name in child.service.policy.depends_on if name in self.guards]
        return tuple(
            parent.service.name
            for parent in parents
            if parent.sick or (since is not None and (parent.seen is None or parent.seen.round.ended < since))
        )

    def _in_window(self, guard: Guard) -> bool:
        """Whether its operator works on it: that it is sick says nothing of the fault of others."""
        return self.maintenance.of(guard.service.name) is not None

    @staticmethod
    def _newly_sick(guard: Guard, now: float) -> bool:
        """An incident that has long been exhausted tells nothing of what is wrong with the others."""
        incident = guard.state.incident
        if incident is None:
            return False
        return incident.exhausted is None or now - incident.opened < guard.service.policy.cool_off

    def pressure(self, service: Service, epoch: Epoch | None) -> Pressure:
        """How scarce the host and the service's cgroup are, now."""
        self._meters = {name: meter for name, meter in self._meters.items() if name in self.guards}
        meter = self._meters.setdefault(service.name, Meter(self.meter, self._clock.now))
        return meter.read(service.target, epoch)

    async def outlook(self, service: Service) -> RestartOutlook | None:
        """What would come of a restart of its unit; None where it has none, or nobody tells."""
        target = service.target
        if self.outlooks is None or target.unit is None or target.restart_command:
            return None
        return await self.outlooks.of(target.unit, target.also_restarts)

    def advisories(self) -> tuple[Advisory, ...]:
        """What is known of the running kernel."""
        return self.kernel

    @contextlib.contextmanager
    def restarting(self, service: str) -> Iterator[None]:
        """Claims the one restart until it is left."""
        self._restarting = service
        try:
            yield
        finally:
            self._restarting = ""

    def letters(self, service: Service, record: Record) -> Sequence[Letter]:
        """For each record that is an alert, a letter to each channel that wants it; the store adds what was before."""
        if record.severity is None:
            return ()
        detail = disclosed(record.detail)
        since = detail.pop("since", None)
        payload = {
            "since": self._clock.wall_of(since) if since is not None else None,
            "verdict": detail.pop("verdict", None),
            "certainty": detail.pop("certainty", None),
            "reasons": detail.pop("reasons", []),
            "against": detail.pop("against", []),
            "text": record.text,
            "labels": dict(service.labels),
            "annotations": dict(service.annotations),
            "detail": detail,
            "kernel": [{"id": each.id, "text": each.text, "fixed_in": each.fixed_in} for each in self.kernel],
        }
        created = self._clock.wall_of(record.at)
        letter = Letter(0, "", record.incident, service.name, record.kind, record.severity, created, payload)
        letters = []
        for name, channel in self.config.channels.items():
            routing: Routing = channel.settings
            wanted = routing.wants(service.name, record.kind, record.severity)
            if wanted or routing.wants_end(service.name, record.kind):
                letters.append(replace(letter, channel=name, only_if_told=not wanted))
        return letters

    def told(self, service: Service, records: Sequence[Record]) -> None:
        """Records were committed, or at least tried to be."""
        for record in records:
            self._metrics.recorded(service.name, record)
            log.record(service.name, record)
        if records:
            self.bell.ring()
        if any(record.severity is not None for record in records):
            self.wake_couriers()

    def looked(self, guard: Guard) -> None:
        """A round was taken and judged."""
        seen, diagnosis = guard.seen, guard.diagnosis
        if seen is None or diagnosis is None:
            return
        name, service = guard.service.name, guard.service
        for probe, observation in seen.round.observations.items():
            self._metrics.observed(name, probe, service.probes[probe].type, guard.roads[probe].plane, observation)
        maintenance = self.maintenance.of(name) is not None
        self._metrics.looked(name, guard.state, diagnosis, service.policy, maintenance=maintenance)
        self.history.looked(name, self._clock.now(), seen.round.observations, service.policy.interval)
        self._tell_status()
        glimpse = self._glimpse(guard)
        if self._glimpses.get(guard) != glimpse:
            self._glimpses[guard] = glimpse
            self.bell.ring()

    @staticmethod
    def _glimpse(guard: Guard) -> object:
        """What of a service is worth telling at once, where somebody watches."""
        seen, state = guard.seen, guard.state
        kinds = [observation.kind for observation in seen.round.observations.values()] if seen is not None else []
        verdict = (guard.diagnosis.verdict, guard.diagnosis.certainty) if guard.diagnosis is not None else ()
        return verdict, kinds, state.incident, state.pause, state.tally.holds

    def queued(self, service: str, queues: Queues) -> None:
        """The accept queues of a service were read, as they are a few times a second."""
        self._metrics.queues(service, queues)
        self.history.queued(service, self._clock.now(), queues)

    def store_failed(self, error: StoreUnwritable | None) -> None:
        """The last commit failed; None: it worked."""
        fault = "" if error is None else str(error)
        self._metrics.store_writable(not fault)
        if fault and not self._store_fault:
            text = "the state cannot be written, so restarts are refused and nudges go on: %s"
            logger.error(text, fault, extra=of_event(Event.STORE_UNWRITABLE))
        elif self._store_fault and not fault:
            logger.warning("the state can be written again", extra=of_event(Event.STORE_WRITABLE))
        self._store_fault = fault

    def _tell_status(self) -> None:
        sick = [
            f"{name}: {guard.diagnosis.verdict}"
            for name, guard in self.guards.items()
            if guard.diagnosis is not None and guard.diagnosis.verdict is not Verdict.HEALTHY
        ]
        status = f"guarding {len(self.guards)} services"
        status += f"; {', '.join(sick)}" if sick else "; all healthy"
        if status != self._status:
            self._status = status
            notify(f"STATUS={status}")

    def ailing(self) -> str:
        """What is wrong with the watchdog itself, in a clause, as its dead-man monitor hears it; empty: nothing.

        A store that cannot be written is: restarts are refused, and alerts, which wait in it, may reach nobody.
        """
        if not self._beating():
            return "its own loop lags"
        if self._store_fault:
            return f"its state cannot be written: {self._store_fault}"
        now = self._clock.now()
        for name, guard in self.guards.items():
            looked = guard.seen.round.ended if guard.seen is not None else guard.began
            idle = guard.state.pending is None  # else it waits for a remedy, which the helper's deadlines end
            if idle and now - looked > max(FEW * guard.service.policy.interval, AT_LEAST):
                return f"service {name} was not looked at for {format_duration(now - looked)}"
        return ""

    # --- web.view.View ------------------------------------------------------------------------------------------------

    def services(self) -> list[ServiceView]:
        """Every guarded service, as it was last seen."""
        return [service_view(guard, self._clock, self.maintenance.of(name)) for name, guard in self.guards.items()]

    def past(self, service: str, spans: Collection[Span]) -> Past:
        """What is remembered of the service's last hours."""
        return self.history.of(service, self._clock.now(), spans)

    async def incidents(
        self, service: str | None, limit: int, skip: int = 0, only_open: bool = False
    ) -> list[IncidentView]:
        """The newest incidents, newest first. Raises `Unavailable` where the store can't be read."""
        try:
            found = await self._store.incidents(service, limit, skip, only_open)
        except StoreUnwritable as error:
            raise Unavailable(str(error)) from error
        return [incident_view(stored) for stored in found]

    async def incident(self, incident: str) -> IncidentView | None:
        """The incident of that id. Raises `Unavailable` where the store can't be read."""
        try:
            found = await self._store.incident(incident)
        except StoreUnwritable as error:
            raise Unavailable(str(error)) from error
        return None if found is None else incident_view(found)

    async def evidence(self, incident: str) -> bytes | None:
        """All that is kept of an incident, as JSON. Raises `Unavailable` where the store can't be read."""
        try:
            async with self._unpacking:
                return await asyncio.to_thread(evidence, self._store.path, incident)
        except Unreadable as error:
            raise Unavailable(str(error)) from error

    def ready(self) -> bool:
        """Whether every service had its first round."""
        guards = [self.guards.get(name) for name in {*self.config.services, *self.guards}]
        return all(guard is not None and guard.seen is not None for guard in guards)

    def healthy(self) -> bool:
        """Whether the daemon's own loop ticks."""
        return self._beating()

    def metrics(self, accept: str) -> tuple[Iterator[bytes], str]:
        """The exposition and its content type."""
        return self._metrics.render(accept)
