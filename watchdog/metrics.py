"""Every metric of the daemon: nothing else counts.

Rules of this file: names, labels and units are those of the design and never change; base units; a counter starts at 0,
so that `increase()` sees the first event; no label without a bound, at most 30 series a service. What is said of a
service is rendered from `_Service` when it is asked for, so nothing stale outlives a reload; events without a service
are plain counters and histograms. Nobody is called back: the guard, the daemon and the couriers tell what happened.

Facts: prometheus.io/docs/practices/naming, OpenMetrics 1.0; a probe's gauges are named as blackbox_exporter's are.
"""

from __future__ import annotations

import platform
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from watchdog import __version__
from watchdog.model import (
    Diagnosis,
    Kind,
    Method,
    Mode,
    Observation,
    Outcome,
    Plane,
    Policy,
    Record,
    RecordKind,
    Rung,
    State,
    Verdict,
)
from watchdog.reading import Advisory, Queue, Queues

PREFIX = "epoll_watchdog_"
REMEDIES = (Rung.NUDGE, Rung.RESTART)
OBSERVED = "observed"  # mode observe: what would have been done
PASSED = "passed"  # a rung was skipped for another reason

EOF = b"# EOF\n"  # of OpenMetrics
SERVICES_AT_ONCE = 10  # some 2 ms, as are
SAMPLES_AT_ONCE = 100
MOST_LISTENERS = 3  # of a service that are shown

PROBE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STOPPED_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
RECOVERY_BUCKETS = (0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)


@dataclass(slots=True)
class _Probe:
    plane: Plane
    success: bool
    seconds: float


@dataclass(slots=True)
class _Service:
    """What is known of one service now, and what was counted of it since the daemon started."""

    mode: Mode | None = None
    probes: dict[str, _Probe] = field(default_factory=dict)
    verdict: Verdict | None = None  # None: not looked at yet, so neither healthy nor not
    paused: bool = False
    maintenance: bool = False
    holds: tuple[str, ...] = ()
    incident_open: bool = False
    queues: Queues | None = None
    incidents: int = 0
    actions: Counts[tuple[str, str]] = field(default_factory=Counts)

    def enter(self, mode: Mode) -> None:
        """Show at 0 what can be counted in this mode."""
        if mode is self.mode:
            return
        self.mode = mode
        for rung in REMEDIES:
            for outcome in _outcomes(mode, rung):
                self.actions[rung, outcome] += 0


def _outcomes(mode: Mode, rung: Rung) -> tuple[str, ...]:
    if mode is Mode.OBSERVE:
        return (OBSERVED, PASSED)
    if mode is Mode.NUDGE and rung is Rung.RESTART:
        return (PASSED,)
    return (*Outcome, PASSED)


class _Services:
    """Collects every series of these services: all that have a `name` label."""

    def __init__(self, services: Mapping[str, _Service]) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        yield from self._of_probes()
        yield from self._of_now()
        yield from self._of_queues()
        yield from self._of_counters()

    def _of_probes(self) -> Iterator[Metric]:
        success = _gauge("probe_success", "Whether the probe last got the expected answer.", "name", "probe", "plane")
        seconds = _gauge("probe_duration_seconds", "How long the probe last took.", "name", "probe")
        for name, service in self._services.items():
            for probe, seen in service.probes.items():
                success.add_metric([name, probe, seen.plane], seen.success)
                seconds.add_metric([name, probe], seen.seconds)
        yield success
        yield seconds

    def _of_now(self) -> Iterator[Metric]:
        healthy = _gauge("healthy", "Whether the service was diagnosed as healthy.", "name")
        verdict = _gauge("verdict", "1 for the present verdict, while it is not healthy.", "name", "verdict")
        is_open = _gauge("incident_open", "Whether an incident is open.", "name")
        held = _gauge("held", "1 for each reason that keeps a due remedy waiting.", "name", "reason")
        mode = _gauge("mode", "1 for the mode in force: observe, nudge or full.", "name", "mode")
        paused = _gauge("paused", "Whether an operator paused every remedy.", "name")
        maintenance = _gauge("maintenance_open", "Whether a maintenance window of it is open.", "name")
        for name, service in self._services.items():
            if service.verdict is not None:
                healthy.add_metric([name], service.verdict is Verdict.HEALTHY)
                if service.verdict is not Verdict.HEALTHY:
                    verdict.add_metric([name, service.verdict], 1)
            is_open.add_metric([name], service.incident_open)
            for reason in service.holds:
                held.add_metric([name, reason], 1)
            if service.mode is not None:
                mode.add_metric([name, service.mode], 1)
            paused.add_metric([name], service.paused)
            maintenance.add_metric([name], service.maintenance)
        yield from (healthy, verdict, is_open, held, mode, paused, maintenance)

    def _of_queues(self) -> Iterator[Metric]:
        length = _gauge("accept_queue_length", "Connections that wait to be accepted.", "name", "listener")
        limit = _gauge("accept_queue_limit", "How many may wait: the listener's backlog.", "name", "listener")
        for name, service in self._services.items():
            for address, queues in _by_address(service.queues)[:MOST_LISTENERS]:
                length.add_metric([name, address], sum(queue.length for queue in queues))
                if limits := [queue.limit for queue in queues if queue.limit is not None]:
                    limit.add_metric([name, address], sum(limits))
        yield length
        yield limit

    def _of_counters(self) -> Iterator[Metric]:
        incidents = CounterMetricFamily(f"{PREFIX}incidents", "Incidents that were opened.", labels=["name"])
        actions = CounterMetricFamily(
            f"{PREFIX}actions",
            'Remedies, by what came of them; "observed": would have been done; "passed": skipped for a reason.',
            labels=["name", "rung", "outcome"],
        )
        for name, service in self._services.items():
            incidents.add_metric([name], service.incidents)
            for (rung, outcome), count in service.actions.items():
                actions.add_metric([name, rung, outcome], count)
        yield incidents
        yield actions


class _Of(prometheus_client.CollectorRegistry):
    """One family, for an encoder."""

    def __init__(self, family: Metric) -> None:
        super().__init__()
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def _by_address(queues: Queues | None) -> list[tuple[str, list[Queue]]]:
    """The listeners of each address: several may share one (SO_REUSEPORT)."""
    found: dict[str, list[Queue]] = {}
    for queue in queues.queues if queues is not None else ():
        found.setdefault(queue.address, []).append(queue)
    return list(found.items())


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=labels)


class Metrics:
    """What the daemon tells of itself and of its services. No method blocks."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a twin series for each counter
        self._services: dict[str, _Service] = {}
        self._registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        self._make_histograms()
        self._make_notifications()
        self._make_daemon()

    def _make_histograms(self) -> None:
        self._recovery = prometheus_client.Histogram(
            f"{PREFIX}recovery_seconds",
            'From the first bad round to recovery, by the remedy that brought it; "none": by itself.',
            ["rung"],
            buckets=RECOVERY_BUCKETS,
            registry=self._registry,
        )
        for rung in (*REMEDIES, Rung.CAPTURE, "none"):
            self._recovery.labels(rung)
        self._stopped = prometheus_client.Histogram(
            f"{PREFIX}nudge_stopped_seconds",
            "The longest time that a nudge stopped any one thread; by freeze, the whole service.",
            buckets=STOPPED_BUCKETS,
            registry=self._registry,
        )
        self._nudges = prometheus_client.Counter(
            f"{PREFIX}nudges",
            "Nudges by the method that was tried and its outcome; one nudge may try both.",
            ["method", "outcome"],
            registry=self._registry,
        )
        for method in Method:
            for outcome in Outcome:
                self._nudges.labels(method, outcome)
        self._probe = prometheus_client.Histogram(
            f"{PREFIX}probe_seconds",
            "How long probes took, those that timed out included.",
            ["type"],
            buckets=PROBE_BUCKETS,
            registry=self._registry,
        )
        self._verdicts = prometheus_client.Counter(
            f"{PREFIX}verdicts", "How often a service's verdict became this one.", ["verdict"], registry=self._registry
        )
        for verdict in Verdict:
            self._verdicts.labels(verdict)

    def _make_notifications(self) -> None:
        registry = self._registry
        gauge, counter = prometheus_client.Gauge, prometheus_client.Counter
        self._notifications = counter(
            f"{PREFIX}notifications", "Attempts to deliver a message.", ["channel"], registry=registry
        )
        self._notifications_failed = counter(
            f"{PREFIX}notifications_failed", "Attempts that failed.", ["channel"], registry=registry
        )
        self._notifications_given_up = counter(
            f"{PREFIX}notifications_given_up",
            "Messages that were let go of undelivered: too old, or no room for them.",
            ["channel"],
            registry=registry,
        )
        self._notifications_merged = counter(
            f"{PREFIX}notifications_merged",
            "Messages that a later one of the same incident stands for: for want of room, or by a rate limit.",
            ["channel"],
            registry=registry,
        )
        self._outbox = gauge(f"{PREFIX}outbox_length", "Messages not delivered yet.", registry=registry)

    def _make_daemon(self) -> None:
        registry = self._registry
        gauge, counter = prometheus_client.Gauge, prometheus_client.Counter
        self._lag = gauge(f"{PREFIX}loop_lag_seconds", "How late the daemon's own loop last ran.", registry=registry)
        self._late = counter(
            f"{PREFIX}loop_late", "How often the daemon's own loop stood still for 2 s.", registry=registry
        )
        self._pings = counter(
            f"{PREFIX}dead_man_pings",
            'Pings of the dead-man monitor, by what came of them: "success", "fail" (told that something is wrong), or '
            '"undelivered".',
            ["outcome"],
            registry=registry,
        )
        self._store = gauge(f"{PREFIX}store_writable", "Whether the last write to the store worked.", registry=registry)
        self._store.set(1)
        self._reloaded = gauge(
            f"{PREFIX}config_last_reload_successful",
            "Whether the config was last read without an error.",
            registry=registry,
        )
        self._reload_time = gauge(
            f"{PREFIX}config_last_reload_success_timestamp_seconds",
            "When the config in force was read.",
            registry=registry,
        )
        self._advisory = gauge(
            f"{PREFIX}kernel_advisory",
            "1 for each way in which this kernel is known to lose wake-ups.",
            ["id"],
            registry=registry,
        )
        build = gauge(f"{PREFIX}build_info", "1; what runs here.", ["version", "python"], registry=registry)
        build.labels(__version__, platform.python_version()).set(1)

    # --- services -----------------------------------------------------------------------------------------------------

    def guarded(self, service: str, mode: Mode, probes: Iterable[str]) -> None:
        """A service is guarded from now on, or anew after a reload: its counters show, its former probes don't."""
        known = self._service(service)
        known.enter(mode)
        kept = set(probes)
        known.probes = {name: seen for name, seen in known.probes.items() if name in kept}

    def forget(self, service: str) -> None:
        """A service is guarded no more: all its series go."""
        self._services.pop(service, None)

    def _service(self, name: str) -> _Service:
        return self._services.setdefault(name, _Service())

    def observed(self, service: str, probe: str, kind: str, plane: Plane, observation: Observation) -> None:
        """A probe of type `kind` ended. One that has not answered yet (*late*) says nothing yet."""
        if observation.kind is Kind.LATE:
            return
        alive = observation.kind is Kind.ALIVE
        self._service(service).probes[probe] = _Probe(plane, alive, observation.latency)
        if observation.kind is not Kind.ERROR:
            self._probe.labels(kind).observe(observation.latency)

    def looked(
        self, service: str, state: State, diagnosis: Diagnosis, policy: Policy, *, maintenance: bool = False
    ) -> None:
        """A round was diagnosed, and `state` is what the step made of it; `maintenance`: a window is open."""
        known = self._service(service)
        if diagnosis.verdict is not known.verdict:
            self._verdicts.labels(diagnosis.verdict).inc()
        known.enter(policy.mode)
        known.verdict = diagnosis.verdict
        known.holds = state.tally.holds
        known.paused = state.pause is not None
        known.maintenance = maintenance
        known.incident_open = state.incident is not None

    def queues(self, service: str, queues: Queues) -> None:
        """The accept queues of a service's listeners, as the tripwire reads them."""
        self._service(service).queues = queues

    def recorded(self, service: str, record: Record) -> None:
        """A fact was told; what it carries is what `ladder` puts into its detail."""
        known = self._service(service)
        match record.kind:
            case RecordKind.OPENED:
                known.incidents += 1
                known.incident_open = True
            case RecordKind.NUDGED | RecordKind.RESTARTED | RecordKind.CAPTURED:
                known.actions[record.detail["rung"], record.detail["outcome"]] += 1
                self._nudged(record)
            case RecordKind.PASSED:
                outcome = OBSERVED if record.detail["reason"] == OBSERVED else PASSED
                known.actions[record.detail["rung"], outcome] += 1
            case RecordKind.RESOLVED:
                known.incident_open = False
                if not record.detail.get("ended"):  # its operator stopped it: that is no recovery
                    self._recovery.labels(record.detail["rung"]).observe(record.detail["recovery_s"])
            case RecordKind.PAUSED:
                known.paused = True
            case RecordKind.RESUMED:
                known.paused = False

    def _nudged(self, record: Record) -> None:
        if record.kind is not RecordKind.NUDGED:
            return
        for tried in record.detail.get("methods", ()):  # as `helper.methods` tells it; of a nudge that got so far
            self._nudges.labels(tried["method"], tried["outcome"]).inc()
        longest = record.detail.get("longest_stop_seconds")
        if longest:  # 0: nothing stood still
            self._stopped.observe(longest)

    # --- the daemon itself --------------------------------------------------------------------------------------------

    def channel(self, name: str) -> None:
        """A channel is configured: its counters show at 0."""
        self._notifications.labels(name)
        self._notifications_failed.labels(name)
        self._notifications_given_up.labels(name)
        self._notifications_merged.labels(name)

    def notified(self, channel: str, ok: bool) -> None:
        """One attempt to deliver a message over a channel ended."""
        self._notifications.labels(channel).inc()
        if not ok:
            self._notifications_failed.labels(channel).inc()

    def gave_up(self, channel: str, messages: int = 1) -> None:
        """So many messages never reach the channel."""
        self._notifications_given_up.labels(channel).inc(messages)

    def merged(self, channel: str, messages: int) -> None:
        """So many messages are told by a later one."""
        self._notifications_merged.labels(channel).inc(messages)

    def outbox_length(self, letters: int) -> None:
        """So many messages wait."""
        self._outbox.set(letters)

    def loop_lag(self, seconds: float) -> None:
        """How late the daemon's own loop last ran."""
        self._lag.set(seconds)

    def loop_late(self) -> None:
        """The daemon's own loop stands still. May be called from any thread."""
        self._late.inc()

    def dead_man(self, outcomes: Iterable[str]) -> None:
        """A dead-man monitor is configured: its counters show at 0."""
        for outcome in outcomes:
            self._pings.labels(outcome)

    def pinged(self, outcome: str) -> None:
        """One ping of the dead-man monitor had this outcome."""
        self._pings.labels(outcome).inc()

    def store_writable(self, ok: bool) -> None:
        """Whether the last write to the store worked."""
        self._store.set(ok)

    def kernel(self, advisories: Iterable[Advisory]) -> None:
        """What is known of the running kernel."""
        for advisory in advisories:
            self._advisory.labels(advisory.id).set(1)

    def config_reloaded(self, ok: bool, time: float) -> None:
        """The config was read at wall-clock `time`; if that did not work, the old one stays in force."""
        self._reloaded.set(ok)
        if ok:
            self._reload_time.set(time)

    def render(self, accept: str) -> tuple[Iterator[bytes], str]:
        """The exposition and its content type: OpenMetrics where the Accept header asks for it.

        It comes in pieces, each of which takes 2 ms or less: of a thousand services, the whole takes 170 ms [M],
        and a thread would keep the loop from its work as long (it gets the interpreter back every 5 ms only).
        """
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number
            encode, content_type = choose_encoder("")
        return self._pieces(encode), content_type

    def _pieces(self, encode: Callable[[prometheus_client.CollectorRegistry], bytes]) -> Iterator[bytes]:
        own = encode(self._registry)
        yield own.removesuffix(EOF)
        families: dict[str, Metric] = {}
        services = list(self._services.items())
        for first in range(0, len(services), SERVICES_AT_ONCE):
            for family in _Services(dict(services[first : first + SERVICES_AT_ONCE])).collect():
                if (known := families.setdefault(family.name, family)) is not family:
                    known.samples += family.samples
            yield b""
        for family in families.values():
            yield from _encoded(family, encode)
        if own.endswith(EOF):
            yield EOF


def _encoded(family: Metric, encode: Callable[[prometheus_client.CollectorRegistry], bytes]) -> Iterator[bytes]:
    """Of a family in several pieces, the first one alone has the lines about it."""
    for first in range(0, max(1, len(family.samples)), SAMPLES_AT_ONCE):
        piece = Metric(family.name, family.documentation, family.type)
        piece.samples = family.samples[first : first + SAMPLES_AT_ONCE]
        text = encode(_Of(piece)).removesuffix(EOF)
        while first and text.startswith(b"#"):
            text = text.partition(b"\n")[2]
        yield text
