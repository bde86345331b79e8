"""While a service that it depends on is sick, its restart and its opening alert are held."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.drive import Story
from watchdog.model import Certainty, Host, Outcome, Policy, Record, RecordKind, Rung, Severity, Verdict

STALL, HUNG, NETWORK = Verdict.EPOLL_STALL, Verdict.HUNG, Verdict.NETWORK
N, R = Rung.NUDGE, Rung.RESTART
ASIDE = (RecordKind.VERDICT, RecordKind.HELD, RecordKind.PASSED)
SICK, WELL = Host(sick=2, sick_parents=("redis",)), Host()


def child(policy: Policy | None = None, host: Host = SICK) -> Story:
    """A service that was seen healthy before the one that it depends on failed."""
    story = Story(policy or Policy()).healthy()
    story.host = host
    return story


def alerts(story: Story) -> list[Record]:
    return [record for record in story.records if record.severity is not None]


def test_it_is_recorded_and_told_to_nobody_while_its_parent_is_sick() -> None:
    story = child().look(NETWORK, every=5, for_=1700)
    assert story.kinds == [RecordKind.OPENED, RecordKind.HELD]
    assert alerts(story) == []
    assert story.records[0].text.endswith("; held back: it depends on redis, not known to be well")
    assert story.state.tally.holds == ("parent_sick",)
    assert story.state.tally.held_for == "it depends on redis, not known to be well"


def test_what_is_held_back_for_longer_than_cool_off_is_told_after_all() -> None:
    story = child().look(NETWORK, every=5, for_=1900)
    (escalated,) = alerts(story)
    assert escalated.text == "network since 30m10s, and alert still waits: it depends on redis, not known to be well"
    story.host = WELL
    assert story.healthy().last(RecordKind.RESOLVED).severity is Severity.INFO


def test_it_is_nudged_and_not_restarted_while_its_parent_is_sick() -> None:
    story = child().look(STALL, for_=300)
    assert story.rungs == [N, N]
    assert story.state.tally.holds == ("parent_sick",)


def test_nor_is_it_restarted_on_a_proof() -> None:
    assert child().look(STALL, certainty=Certainty.CONFIRMED, for_=300).rungs == [N, N]


def test_what_recovers_with_its_parent_was_told_to_nobody() -> None:
    story = child().look(NETWORK, times=5)
    story.host = WELL
    story.look(NETWORK, times=2).healthy()
    assert alerts(story) == []
    resolved = story.last(RecordKind.RESOLVED)
    assert (
        resolved.text == "recovered by itself after 3.5s; told to nobody, for it went with what held its opening back"
    )


def test_what_is_still_sick_when_its_parent_is_well_again_is_told_then() -> None:
    story = child().look(NETWORK, times=5)
    story.host = WELL
    story.look(NETWORK, for_=3)
    belated, escalated = alerts(story)
    assert (belated.kind, belated.severity) == (RecordKind.BELATED, Severity.WARNING)
    assert belated.text == (
        "network (suspected): the network to it is dark, the service is not; what held its opening back is over"
    )
    assert belated.detail["reasons"] == ["because"]
    assert escalated.kind is RecordKind.ESCALATED


def test_its_parent_is_well_again_only_once_it_has_been_so_for_settle() -> None:
    story = child().look(NETWORK, times=5)
    for host in (WELL, SICK, WELL, SICK):
        story.host = host
        story.look(NETWORK, for_=1.5)
    assert alerts(story) == []


def test_its_own_darkness_begins_when_its_parent_is_well_again() -> None:
    story = child().look(STALL, for_=300)
    story.host = WELL
    well_since = story.now
    story.look(STALL, for_=70)
    assert story.rungs == [N, N, R]
    assert story.actions[-1].at - well_since == story.policy.dark_for


def test_an_incident_that_was_told_already_is_told_on_when_its_parent_falls_sick_too() -> None:
    story = child(host=WELL).look(STALL, for_=5)
    story.host = SICK
    story.look(NETWORK, for_=5)
    assert [record.kind for record in alerts(story) if record.kind not in ASIDE] == [
        RecordKind.OPENED,
        RecordKind.NUDGED,
        RecordKind.NUDGED,
        RecordKind.ESCALATED,
    ]


def test_a_remedy_is_told_though_its_opening_was_held_back_and_so_is_what_it_healed() -> None:
    story = child().look(STALL, times=3).healthy()
    assert [record.kind for record in alerts(story)] == [RecordKind.NUDGED, RecordKind.RESOLVED]
    assert story.last(RecordKind.RESOLVED).text == "healed by nudge after 1.5s"


def test_what_was_held_back_is_told_after_the_daemon_was_killed_too() -> None:
    story = child().look(NETWORK, times=5)
    story.resume_daemon()
    story.host = WELL
    story.look(NETWORK, for_=3)
    assert RecordKind.BELATED in story.kinds


def test_a_start_that_lasts_too_long_is_held_back_too() -> None:
    story = child().look(Verdict.STARTING, every=5, for_=1200)
    assert alerts(story) == []


hosts = st.lists(st.tuples(st.sampled_from([SICK, WELL]), st.integers(1, 40)), min_size=1, max_size=12)
verdicts = st.sampled_from([STALL, HUNG, NETWORK, Verdict.HEALTHY, Verdict.STARTING])
restarts = st.sampled_from([Outcome.DONE, Outcome.FAILED, Outcome.REFUSED])


@settings(max_examples=200, deadline=None)
@given(hosts, st.lists(verdicts, min_size=12, max_size=12), restarts)
def test_whatever_happens_nothing_is_restarted_nor_opened_aloud_while_a_parent_is_sick(
    spells: list[tuple[Host, int]], seen: list[Verdict], outcome: Outcome
) -> None:
    story = Story(replace(Policy(), dark_for=5.0, start_timeout=30.0, cool_off=60.0)).healthy()
    story.outcomes = {R: outcome}
    for (host, rounds), verdict in zip(spells, seen, strict=False):
        story.host = host
        before = len(story.rungs), len(story.records)
        story.look(verdict, times=rounds, every=1.0)
        told = {record.kind for record in story.records[before[1] :] if record.severity is not None}
        assert host is WELL or R not in story.rungs[before[0] :]
        assert host is WELL or not told & {RecordKind.OPENED, RecordKind.BELATED}


@settings(max_examples=200, deadline=None)
@given(hosts, st.lists(verdicts, min_size=12, max_size=12))
def test_an_incident_is_opened_aloud_at_most_once_and_never_lost(
    spells: list[tuple[Host, int]], seen: list[Verdict]
) -> None:
    story = Story(replace(Policy(), dark_for=5.0, start_timeout=30.0, cool_off=60.0)).healthy()
    for (host, rounds), verdict in zip(spells, seen, strict=False):
        story.host = host
        story.look(verdict, times=rounds, every=1.0)
    story.host = WELL
    story.look(NETWORK, times=10, every=1.0)
    aloud = [record.incident for record in alerts(story) if record.kind in (RecordKind.OPENED, RecordKind.BELATED)]
    assert len(aloud) == len(set(aloud))
    assert aloud[-1] == story.incident.id
