"""What a channel wants by its settings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchdog.alerts.routing import TOLD, HttpRouting, Rate, Routing
from watchdog.model import RecordKind, Severity

ROUTINGS = st.builds(
    Routing,
    min_severity=st.sampled_from(Severity),
    services=st.sampled_from([(), ("web",), ("web", "redis")]),
    events=st.lists(st.sampled_from(TOLD), max_size=3).map(tuple),
    send_resolved=st.booleans(),
)
SERVICES, KINDS, SEVERITIES = st.sampled_from(["web", "redis"]), st.sampled_from(TOLD), st.sampled_from(Severity)


def test_a_channel_wants_everything_by_default() -> None:
    assert [kind for kind in TOLD if not Routing().wants("web", kind, Severity.INFO)] == []


@pytest.mark.parametrize("least", Severity)
def test_nothing_below_the_least_severity_is_wanted(least: Severity) -> None:
    routing = Routing(min_severity=least)
    wanted = [severity for severity in Severity if routing.wants("web", RecordKind.ESCALATED, severity)]
    assert wanted == list(Severity)[least.rank :]


def test_only_the_services_named_are_wanted() -> None:
    routing = Routing(services=("redis",))
    assert routing.wants("redis", RecordKind.OPENED, Severity.WARNING)
    assert not routing.wants("web", RecordKind.OPENED, Severity.CRITICAL)
    assert not routing.wants_end("web", RecordKind.RESOLVED)


def test_only_the_events_named_are_wanted_and_a_late_opening_is_one() -> None:
    routing = Routing(events=(RecordKind.OPENED,))
    wanted = {kind for kind in TOLD if routing.wants("web", kind, Severity.CRITICAL)}
    assert wanted == {RecordKind.OPENED, RecordKind.BELATED}


def test_the_end_is_wanted_by_who_was_told_whatever_else_it_wants() -> None:
    routing = Routing(min_severity=Severity.CRITICAL, events=(RecordKind.ESCALATED,))
    assert not routing.wants("web", RecordKind.RESOLVED, Severity.INFO)
    assert routing.wants_end("web", RecordKind.RESOLVED)
    assert not routing.wants_end("web", RecordKind.NUDGED)


def test_a_channel_may_want_no_ends() -> None:
    routing = Routing(send_resolved=False)
    assert not routing.wants("web", RecordKind.RESOLVED, Severity.INFO)
    assert not routing.wants_end("web", RecordKind.RESOLVED)


@given(ROUTINGS, SERVICES, KINDS, SEVERITIES, SEVERITIES)
def test_who_wants_an_event_wants_it_if_it_is_worse(
    routing: Routing, service: str, kind: RecordKind, severity: Severity, worse: Severity
) -> None:
    if routing.wants(service, kind, severity) and worse.rank >= severity.rank:
        assert routing.wants(service, kind, worse)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout": 0.0}, "timeout: 0s is too short"),
        ({"give_up_after": 0.0}, "give_up_after: 0s is too short"),
        ({"events": (RecordKind.ANSWERED,)}, 'events: "answered" is kept in the timeline and told to nobody'),
        ({"proxy": "socks5://secret@10.0.0.1"}, 'proxy: must be like "http://proxy.example.org:3128"'),
        ({"headers": {"Content-Length": "1"}}, "headers: Content-Length is set by epoll-watchdog itself"),
    ],
)
def test_wrong_settings_are_refused_without_a_secret(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        HttpRouting(**settings)
    assert "secret@" not in str(refused.value)


@pytest.mark.parametrize(("burst", "interval", "message"), [(0, 1.0, "burst: 0 would"), (1, 0.0, "interval: 0s is")])
def test_a_rate_that_lets_nothing_through_is_refused(burst: int, interval: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rate(burst=burst, interval=interval)
