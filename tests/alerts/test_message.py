"""What a message says, of a full letter and of whatever a payload may hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alerts.letters import letter
from watchdog.alerts.message import TEXT, TITLE, facts, message

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = ("verdict", "certainty", "reasons", "since", "text", "labels", "annotations", "times_30d", "done", "kernel")
NASTY = st.text(st.sampled_from("a\r\n\0\x1b\u2028\u202e\ud800 :"), max_size=400)
PARTS = st.dictionaries(st.sampled_from(("at", "rung", "outcome", "reason", "text", "fixed_in")), JSON | NASTY)


def said(**changed: Any) -> str:
    return message(facts(letter(**changed), "db1.example.org")).text


def test_a_message_says_what_an_engineer_needs_at_three_in_the_morning() -> None:
    told = message(facts(letter(), "db1.example.org"))

    assert told.title == "[WARNING] ravendb on db1.example.org: the event loop sleeps"
    assert told.text == (
        "the event loop sleeps\n"
        "\n"
        "service    ravendb on db1.example.org\n"
        "verdict    epoll_stall (suspected): a wake-up was lost: its loop sleeps in epoll_wait\n"
        "because    sockets dark, a witness alive\n"
        "since      2023-11-14 22:13:18 UTC (2.25s)\n"
        "told       2023-11-14 22:13:20 UTC\n"
        "done       22:13:19  nudge refused: Yama forbids it\n"
        "incidents  3 in 30 days, this one included\n"
        "kernel     it loses wake-ups (fixed in 5.4.226)\n"
        "runbook    https://runbooks.example.org/ravendb\n"
        "evidence   epoll-watchdog diagnose ravendb\n"
        "           epoll-watchdog replay /var/lib/epoll-watchdog/state.db --incident 01JINCIDENT\n"
        "incident   01JINCIDENT\n"
        "labels     team=storage"
    )


def test_what_was_done_last_stands_first() -> None:
    done = [
        {"at": 1_700_000_000.0 + second, "rung": "nudge", "outcome": "done", "reason": f"number {second}"}
        for second in range(30)
    ]

    lines = [line for line in said(payload={"done": done}).splitlines() if "nudge" in line]

    assert lines[0].endswith("number 29")
    assert lines[-1].endswith("number 10")


def test_an_end_is_marked_as_one_whatever_its_severity() -> None:
    told = message(facts(letter(kind="resolved", payload={"text": "healed by nudge after 2s"}), "db1"))

    assert told.title == "[RESOLVED] ravendb on db1: healed by nudge after 2s"


def test_a_letter_that_stands_for_others_says_so() -> None:
    assert "stands for 4 earlier messages, too" in said(merged=4)


def test_what_is_not_known_has_no_line() -> None:
    lines = said(incident="", kind="paused", payload={"text": "paused by root"}).splitlines()

    assert [line.split()[0] for line in lines if line] == ["paused", "service", "told", "evidence"]


@settings(max_examples=300, deadline=None)
@given(
    payload=st.dictionaries(st.sampled_from(KEYS), JSON | NASTY | st.lists(PARTS, max_size=30)),
    service=NASTY,
    kind=NASTY | st.just("resolved"),
    severity=NASTY,
    host=NASTY,
    created=st.floats(),
)
def test_any_payload_gives_a_title_of_one_line_and_a_bounded_text(
    payload: dict[str, Any], service: str, kind: str, severity: str, host: str, created: float
) -> None:
    known = facts(letter(payload=payload, service=service, kind=kind, severity=severity, created=created), host)

    told = message(known)

    assert told.title.isprintable()
    assert 0 < len(told.title) <= TITLE
    assert all(line.isprintable() for line in told.text.split("\n"))
    assert 0 < len(told.text) <= TEXT
