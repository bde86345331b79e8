"""What the guides quote of the code is there: messages, words, verbs, versions, bounds."""

from __future__ import annotations

import re

import pytest

from tests.docs.tables import MANUAL
from watchdog import board, restraint
from watchdog.helper import ledger
from watchdog.helper.reach import THREAD_BOUND
from watchdog.helper.verbs import VERBS
from watchdog.model import Mode, Policy, Rung, Verdict
from watchdog.probes.snmp import HRSWRUN
from watchdog.store.keeping import KEEP
from watchdog.store.schema import SCHEMA_VERSION
from watchdog.verdicts import VERDICTS, Stance

DOCS = MANUAL.parent
CODE = "\n".join(path.read_text() for path in (DOCS.parent / "watchdog").rglob("*.py"))
TROUBLE = (DOCS / "troubleshooting.md").read_text()
SECURITY = (DOCS / "security.md").read_text()
UPGRADE = (DOCS / "upgrade.md").read_text()
ROLLING = (DOCS / "rolling-out.md").read_text()

QUOTED = (
    "can be written by others than root",
    "can't be asked",
    "can't be understood",
    "can't listen on",
    "does not exist for this process, yet a socket is bound to it",
    "may not connect to",
    "NOTES",
    "own loop lags",
    "probe could run",
    "process can't be known",
    "so no group may",
    "systemd knows no such unit",
    "the agent shows no",
    "the agent tells of process",
    "the host starves",
    "the host was paused",
    "the state cannot be written",
    "unreadable-",
)


@pytest.mark.parametrize("message", QUOTED)
def test_a_message_that_is_explained_is_one_of_ours(message: str) -> None:
    assert message in TROUBLE
    assert message in CODE


def test_the_words_under_notes_are_those_of_holds_and_passes() -> None:
    reasons = (*restraint.HOLDS, *restraint.PASSES, *restraint.LAST_PASSES)
    words = {reason.__name__ for reason in reasons} | {"observed"}
    words |= {verdict for verdict, row in VERDICTS.items() if row.stance is Stance.WAIT}

    waits = {
        word for found in re.findall(r"^\| waits: ([\w, ]+) \|", TROUBLE, re.MULTILINE) for word in found.split(", ")
    }
    passed = set(re.findall(r"passed over: [^|]*?(\w+) \|", TROUBLE))

    assert len(waits) > 3
    assert len(passed) > 3
    assert waits | passed <= words


@pytest.mark.parametrize("guide", ["guarding", "security", "troubleshooting", "rolling-out"])
def test_a_verdict_that_is_named_in_a_table_is_one(guide: str) -> None:
    named = re.findall(r"^\| `(\w+)`[ :]", (DOCS / f"{guide}.md").read_text(), re.MULTILINE)

    verdicts = {word for word in named if "_" in word and not word.startswith("epoll_watchdog_")}

    assert verdicts <= set(Verdict)


def test_the_verbs_of_root_are_all_told_with_who_may_ask() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (both|root) \|", SECURITY, re.MULTILINE)
    told = {verb: who for verbs, who in rows for verb in re.findall(r"\w+", verbs)}

    assert told == {name: "root" if verb.root else "both" for name, verb in VERBS.items()}


def test_how_long_a_thread_may_stand_still_is_told() -> None:
    assert f"each for at most {THREAD_BOUND:g} s" in SECURITY


def test_the_budgets_that_an_attacker_would_have_are_the_defaults() -> None:
    budgets = Policy().budget

    assert (budgets.nudge.burst, budgets.restart.burst, budgets.capture.burst) == (5, 2, 2)
    assert {each.interval for each in (budgets.nudge, budgets.restart, budgets.capture)} == {3600.0}
    assert "five nudges, two captures and two restarts of each service in an hour" in SECURITY
    assert "five nudges, two restarts an hour" in ROLLING


def test_the_modes_go_as_far_as_the_table_says() -> None:
    assert [Mode.NUDGE.forbids(rung) for rung in (Rung.NUDGE, Rung.CAPTURE, Rung.RESTART)] == [False, True, True]
    assert re.findall(r"^\| `(\w+)`.* \|", ROLLING.partition("## ")[0], re.MULTILINE) == list(Mode)


def test_the_versions_of_what_is_kept_are_those_of_today() -> None:
    assert f"`user_version` is the schema's, now {SCHEMA_VERSION}." in UPGRADE
    assert f"has a version of its own, {ledger.VERSION}." in UPGRADE


def test_how_much_is_kept_is_told() -> None:
    assert f"at most {KEEP.incidents:,} closed incidents and {KEEP.size >> 20} MiB" in UPGRADE


def test_the_hold_file_is_where_the_guides_say() -> None:
    guides = (TROUBLE, SECURITY, ROLLING)

    assert [str(board.HOLD_FILE) in guide for guide in guides] == [True, True, True]


def test_the_view_that_snmpd_lacks_is_the_one_that_the_probe_names() -> None:
    assert f"view systemonly included .{HRSWRUN}" in (DOCS / "guarding.md").read_text()
