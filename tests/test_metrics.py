"""What Prometheus sees: read by its own client's parsers."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace

import pytest
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.samples import Sample

from watchdog.deadman import Ping
from watchdog.metrics import Metrics
from watchdog.model import (
    Certainty,
    Diagnosis,
    Incident,
    Kind,
    Mode,
    Observation,
    Outcome,
    Pause,
    Plane,
    Policy,
    Record,
    RecordKind,
    Rung,
    State,
    Tally,
    Verdict,
)
from watchdog.reading import Advisory, Family, Queue, Queues

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5"
STALL = Diagnosis(Verdict.EPOLL_STALL, Certainty.CONFIRMED, ("why",))
HEALTHY = Diagnosis(Verdict.HEALTHY, Certainty.CONFIRMED, ("every probe alive",))
OPEN = Incident(id="i", since=1.0, opened=2.0, verdict=Verdict.EPOLL_STALL, certainty=Certainty.CONFIRMED)
ALIVE = Observation(Kind.ALIVE, 0.002, "answered")

Labels = tuple[tuple[str, str], ...]


def rendered(metrics: Metrics, accept: str = "") -> tuple[bytes, str]:
    pieces, content_type = metrics.render(accept)
    return b"".join(pieces), content_type


def samples(metrics: Metrics, accept: str = "") -> list[Sample]:
    """Every sample of one scrape."""
    content, content_type = rendered(metrics, accept)
    parse = openmetrics_parser if content_type.startswith("application/openmetrics-text") else text_parser
    return [sample for family in parse.text_string_to_metric_families(content.decode()) for sample in family.samples]


def series(metrics: Metrics, name: str) -> dict[Labels, float]:
    """The values of one metric by its labels."""
    found = [sample for sample in samples(metrics) if sample.name == f"epoll_watchdog_{name}"]
    return {tuple(sorted(sample.labels.items())): sample.value for sample in found}


def value(metrics: Metrics, metric: str, /, **labels: str) -> float | None:
    """The value of one series; None: there is none."""
    return series(metrics, metric).get(tuple(sorted(labels.items())))


def guarded(mode: Mode = Mode.FULL, probes: Iterable[str] = ()) -> Metrics:
    """Metrics of one service."""
    metrics = Metrics()
    metrics.guarded("ravendb", mode, probes)
    return metrics


def record(kind: RecordKind, **detail: object) -> Record:
    """A fact of an incident."""
    return Record(kind, 3.0, "text", "i", None, detail)


def test_counters_start_at_zero() -> None:
    metrics = guarded()
    metrics.channel("ops")
    assert value(metrics, "incidents_total", name="ravendb") == 0
    assert value(metrics, "actions_total", name="ravendb", rung="nudge", outcome="done") == 0
    assert value(metrics, "actions_total", name="ravendb", rung="restart", outcome="refused") == 0
    assert value(metrics, "notifications_total", channel="ops") == 0
    assert value(metrics, "notifications_failed_total", channel="ops") == 0
    assert value(metrics, "verdicts_total", verdict="epoll_stall") == 0
    assert value(metrics, "recovery_seconds_count", rung="nudge") == 0
    assert value(metrics, "nudge_stopped_seconds_count") == 0


def test_a_service_never_looked_at_is_neither_healthy_nor_not() -> None:
    metrics = guarded()
    assert series(metrics, "healthy") == {}
    assert series(metrics, "verdict") == {}


def test_a_probe_tells_whether_it_got_its_answer_and_how_fast() -> None:
    metrics = guarded()
    metrics.observed("ravendb", "https", "http", Plane.SOCKET, Observation(Kind.SILENT, 2.0, "no answer"))
    metrics.observed("ravendb", "snmp", "snmp", Plane.WITNESS, ALIVE)
    assert value(metrics, "probe_success", name="ravendb", probe="https", plane="socket") == 0
    assert value(metrics, "probe_success", name="ravendb", probe="snmp", plane="witness") == 1
    assert value(metrics, "probe_duration_seconds", name="ravendb", probe="https") == 2.0
    assert value(metrics, "probe_seconds_count", type="http") == 1
    assert value(metrics, "probe_seconds_bucket", type="snmp", le="0.0025") == 1


def test_a_late_probe_says_nothing_yet() -> None:
    metrics = guarded()
    metrics.observed("ravendb", "https", "http", Plane.SOCKET, ALIVE)
    metrics.observed("ravendb", "https", "http", Plane.SOCKET, Observation(Kind.LATE, 0.5, "not answered yet"))
    assert value(metrics, "probe_success", name="ravendb", probe="https", plane="socket") == 1
    assert value(metrics, "probe_seconds_count", type="http") == 1


def test_a_probe_that_could_not_run_is_no_success_and_no_duration_of_its_type() -> None:
    metrics = guarded()
    metrics.observed("ravendb", "https", "http", Plane.SOCKET, Observation(Kind.ERROR, 0.0, "too many open files"))
    assert value(metrics, "probe_success", name="ravendb", probe="https", plane="socket") == 0
    assert value(metrics, "probe_seconds_count", type="http") is None


def test_only_the_present_verdict_shows_and_only_while_not_healthy() -> None:
    metrics = guarded()
    metrics.looked("ravendb", State(incident=OPEN), STALL, Policy())
    assert series(metrics, "verdict") == {(("name", "ravendb"), ("verdict", "epoll_stall")): 1.0}
    assert value(metrics, "healthy", name="ravendb") == 0
    metrics.looked("ravendb", State(), HEALTHY, Policy())
    assert series(metrics, "verdict") == {}
    assert value(metrics, "healthy", name="ravendb") == 1


def test_a_verdict_counts_once_however_long_it_stays() -> None:
    metrics = guarded()
    for diagnosis in (HEALTHY, STALL, STALL, STALL, HEALTHY, STALL):
        metrics.looked("ravendb", State(), diagnosis, Policy())
    assert value(metrics, "verdicts_total", verdict="epoll_stall") == 2


def test_the_ladders_state_shows() -> None:
    metrics = guarded()
    state = State(incident=OPEN, pause=Pause("root", "upgrade", None), tally=Tally(holds=("paused",)))
    metrics.looked("ravendb", state, STALL, Policy(mode=Mode.NUDGE))
    assert value(metrics, "incident_open", name="ravendb") == 1
    assert value(metrics, "paused", name="ravendb") == 1
    assert series(metrics, "held") == {(("name", "ravendb"), ("reason", "paused")): 1.0}
    assert series(metrics, "mode") == {(("mode", "nudge"), ("name", "ravendb")): 1.0}


def test_a_hold_that_is_over_shows_no_more() -> None:
    metrics = guarded()
    metrics.looked("ravendb", State(incident=OPEN, tally=Tally(holds=("settling",))), STALL, Policy())
    metrics.looked("ravendb", State(incident=OPEN), STALL, Policy())
    assert series(metrics, "held") == {}


def test_an_incident_counts_when_it_opens() -> None:
    metrics = guarded()
    metrics.recorded("ravendb", record(RecordKind.OPENED, verdict="epoll_stall"))
    assert value(metrics, "incidents_total", name="ravendb") == 1
    assert value(metrics, "incident_open", name="ravendb") == 1


def test_a_remedy_counts_by_its_outcome() -> None:
    metrics = guarded()
    metrics.recorded(
        "ravendb", record(RecordKind.NUDGED, rung=Rung.NUDGE, outcome=Outcome.DONE, longest_stop_seconds=90e-6)
    )
    metrics.recorded("ravendb", record(RecordKind.RESTARTED, rung="restart", outcome="refused"))
    assert value(metrics, "actions_total", name="ravendb", rung="nudge", outcome="done") == 1
    assert value(metrics, "actions_total", name="ravendb", rung="restart", outcome="refused") == 1
    assert value(metrics, "nudge_stopped_seconds_bucket", le="0.0001") == 1
    assert value(metrics, "nudge_stopped_seconds_bucket", le="5e-05") == 0


def test_each_method_of_a_nudge_counts_by_its_outcome() -> None:
    metrics = guarded()
    assert len(series(metrics, "nudges_total")) == 2 * len(Outcome)
    methods = [{"method": "ptrace", "outcome": "refused"}, {"method": "freeze", "outcome": "done"}]
    metrics.recorded("ravendb", record(RecordKind.NUDGED, rung="nudge", outcome="done", methods=methods))
    metrics.recorded("ravendb", record(RecordKind.NUDGED, rung="nudge", outcome="gone"))
    counted = {labels: count for labels, count in series(metrics, "nudges_total").items() if count}
    assert counted == {
        (("method", "ptrace"), ("outcome", "refused")): 1,
        (("method", "freeze"), ("outcome", "done")): 1,
    }


def test_a_nudge_that_stopped_nothing_is_no_stop() -> None:
    metrics = guarded()
    metrics.recorded(
        "ravendb", record(RecordKind.NUDGED, rung="nudge", outcome="refused", longest_stop_seconds=0.0, methods=[])
    )
    assert value(metrics, "nudge_stopped_seconds_count") == 0


def test_what_would_have_been_done_counts_apart_from_what_was_skipped() -> None:
    metrics = guarded(Mode.OBSERVE)
    metrics.recorded("ravendb", record(RecordKind.PASSED, rung="nudge", reason="observed"))
    metrics.recorded("ravendb", record(RecordKind.PASSED, rung="restart", reason="budget"))
    assert value(metrics, "actions_total", name="ravendb", rung="nudge", outcome="observed") == 1
    assert value(metrics, "actions_total", name="ravendb", rung="restart", outcome="passed") == 1


def test_recovery_is_measured_by_what_brought_it() -> None:
    metrics = guarded()
    metrics.recorded("ravendb", record(RecordKind.OPENED))
    metrics.recorded("ravendb", record(RecordKind.RESOLVED, rung="nudge", recovery_s=1.5, ended=""))
    assert value(metrics, "recovery_seconds_sum", rung="nudge") == 1.5
    assert value(metrics, "incident_open", name="ravendb") == 0


def test_a_stop_by_the_operator_is_no_recovery() -> None:
    metrics = guarded()
    metrics.recorded("ravendb", record(RecordKind.RESOLVED, rung="none", recovery_s=9.0, ended="stopped"))
    assert value(metrics, "recovery_seconds_count", rung="none") == 0


def test_a_service_that_is_guarded_no_more_leaves_no_series() -> None:
    metrics = guarded(probes=["https"])
    metrics.observed("ravendb", "https", "http", Plane.SOCKET, ALIVE)
    metrics.looked("ravendb", State(incident=OPEN), STALL, Policy())
    metrics.forget("ravendb")
    assert [sample for sample in samples(metrics) if "ravendb" in sample.labels.values()] == []


def test_a_reload_keeps_counters_and_drops_probes_that_are_gone() -> None:
    metrics = guarded(probes=["https", "snmp"])
    metrics.observed("ravendb", "https", "http", Plane.SOCKET, ALIVE)
    metrics.observed("ravendb", "snmp", "snmp", Plane.WITNESS, ALIVE)
    metrics.recorded("ravendb", record(RecordKind.OPENED))
    metrics.guarded("ravendb", Mode.OBSERVE, ["snmp"])
    assert [dict(labels)["probe"] for labels in series(metrics, "probe_success")] == ["snmp"]
    assert value(metrics, "incidents_total", name="ravendb") == 1


@pytest.mark.parametrize("mode", list(Mode))
def test_a_service_of_five_probes_has_at_most_thirty_series(mode: Mode) -> None:
    metrics = guarded(mode)
    for probe in ("tcp", "https", "pipe", "snmp", "hrswrun"):
        metrics.observed("ravendb", probe, "tcp", Plane.SOCKET, ALIVE)
    state = State(incident=OPEN, tally=Tally(holds=("settling",)))
    metrics.looked("ravendb", state, STALL, replace(Policy(), mode=mode))
    assert len([sample for sample in samples(metrics) if sample.labels.get("name") == "ravendb"]) <= 30


def test_the_daemon_tells_of_itself() -> None:
    metrics = Metrics()
    metrics.outbox_length(3)
    metrics.loop_lag(0.25)
    metrics.store_writable(False)
    metrics.notified("ops", True)
    metrics.notified("ops", False)
    assert value(metrics, "outbox_length") == 3
    assert value(metrics, "loop_lag_seconds") == 0.25
    assert value(metrics, "store_writable") == 0
    assert value(metrics, "notifications_total", channel="ops") == 2
    assert value(metrics, "notifications_failed_total", channel="ops") == 1
    assert [sample.value for sample in samples(metrics) if sample.name == "epoll_watchdog_build_info"] == [1.0]
    assert [sample.name for sample in samples(metrics) if sample.name == "process_resident_memory_bytes"]


def test_what_is_known_of_the_kernel_shows() -> None:
    metrics = Metrics()
    assert series(metrics, "kernel_advisory") == {}
    metrics.kernel([Advisory("autoremove", "text", "5.4.226", "source")])
    assert series(metrics, "kernel_advisory") == {(("id", "autoremove"),): 1.0}


def test_a_bad_reload_keeps_the_time_of_the_last_good_one() -> None:
    metrics = Metrics()
    metrics.config_reloaded(True, 1000.0)
    metrics.config_reloaded(False, 2000.0)
    assert value(metrics, "config_last_reload_successful") == 0
    assert value(metrics, "config_last_reload_success_timestamp_seconds") == 1000.0


def test_openmetrics_is_negotiated_and_strictly_valid() -> None:
    metrics = guarded()
    metrics.observed("ravendb", "https", "http", Plane.SOCKET, ALIVE)
    metrics.looked("ravendb", State(incident=OPEN), STALL, Policy())
    content, content_type = rendered(metrics, OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert content.endswith(b"# EOF\n")
    plain, other = samples(metrics, OPENMETRICS), samples(metrics)
    names = {sample.name for sample in plain if sample.name.startswith("epoll_watchdog_")}
    assert names == {sample.name for sample in other if sample.name.startswith("epoll_watchdog_")}


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a_thousand_services_come_in_pieces_that_make_one_exposition(accept: str) -> None:
    metrics = Metrics()
    for number in range(1100):
        metrics.guarded(f"service-{number}", Mode.FULL, ["https"])
        metrics.observed(f"service-{number}", "https", "http", Plane.SOCKET, ALIVE)
    pieces = list(metrics.render(accept)[0])
    assert max(piece.count(b"\n") for piece in pieces) <= 200  # some 2 ms
    lines = b"".join(pieces).decode().splitlines()
    told = [line for line in lines if line.startswith("# TYPE")]
    assert len(told) == len(set(told))
    for name in ("probe_success", "mode", "incidents_total"):
        places = [place for place, line in enumerate(lines) if line.startswith(f"epoll_watchdog_{name}{{")]
        assert places == list(range(places[0], places[0] + 1100))  # a family's lines stand together
    assert {sample.labels.get("name") for sample in samples(metrics, accept)} >= {"service-0", "service-1099"}


@pytest.mark.parametrize("accept", ["", "*/*", "text/html", "application/openmetrics-text;version=x", ";;,=", "é" * 99])
def test_any_accept_header_gets_an_answer(accept: str) -> None:
    content, _content_type = rendered(Metrics(), accept)
    assert b"epoll_watchdog_build_info" in content


def test_no_series_says_when_a_counter_was_made() -> None:
    metrics = guarded()
    metrics.channel("ops")
    assert [sample.name for sample in samples(metrics) if sample.name.endswith("_created")] == []


def test_labels_are_escaped() -> None:
    metrics = Metrics()
    metrics.looked("ravendb", State(tally=Tally(holds=('a "quoted"\nline',))), STALL, Policy())
    assert series(metrics, "held") == {(("name", "ravendb"), ("reason", 'a "quoted"\nline')): 1.0}


def test_metrics_import_no_pydantic() -> None:
    code = "import sys, watchdog.metrics; sys.exit('pydantic' in sys.modules or 'aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_accept_queues_of_listeners_that_share_an_address_are_one_series() -> None:
    metrics = Metrics()
    shared = [Queue(number, Family.TCP, "0.0.0.0:80", number, 128) for number in (1, 2)]
    metrics.queues("web", Queues(0.0, (*shared, Queue(3, Family.UNIX, "/run/web.sock", 0, None))))
    assert series(metrics, "accept_queue_length") == {
        (("listener", "0.0.0.0:80"), ("name", "web")): 3.0,
        (("listener", "/run/web.sock"), ("name", "web")): 0.0,
    }
    assert series(metrics, "accept_queue_limit") == {(("listener", "0.0.0.0:80"), ("name", "web")): 256.0}


def test_a_loop_that_stands_still_counts_from_any_thread() -> None:
    metrics = Metrics()
    assert value(metrics, "loop_late_total") == 0
    thread = threading.Thread(target=metrics.loop_late)
    thread.start()
    thread.join()
    assert value(metrics, "loop_late_total") == 1


def test_pings_show_once_a_monitor_is_configured_at_0() -> None:
    metrics = Metrics()
    assert series(metrics, "dead_man_pings_total") == {}
    metrics.dead_man(Ping)
    metrics.pinged(Ping.FAIL)
    assert series(metrics, "dead_man_pings_total") == {
        (("outcome", "success"),): 0,
        (("outcome", "fail"),): 1,
        (("outcome", "undelivered"),): 0,
    }


def test_messages_that_never_arrive_or_are_told_by_a_later_one_count() -> None:
    metrics = Metrics()
    metrics.channel("ops")
    metrics.gave_up("ops")
    metrics.merged("ops", 3)
    text = rendered(metrics)[0].decode()
    assert 'epoll_watchdog_notifications_given_up_total{channel="ops"} 1.0' in text
    assert 'epoll_watchdog_notifications_merged_total{channel="ops"} 3.0' in text
