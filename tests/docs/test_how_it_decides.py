"""docs/how-it-decides.md is made of the code, and what its prose says in numbers is what the code has."""

from __future__ import annotations

import re

import pytest

from tests.docs.tables import COMES_TO, MANUAL, PACE, TABLES, renewed
from watchdog import diagnosis, examiner, forms, ladder, look, pace, restraint, stretch
from watchdog.config.check import General
from watchdog.diagnosis import RULES
from watchdog.model import Policy, Verdict
from watchdog.reading import Form

NUMBERS = {3: "three", 4: "four", 10: "ten"}
PROSE = {
    f"{stretch.WINDOWS + 2} samples": f"Over {NUMBERS[stretch.WINDOWS + 2]} samples",
    "the span of a reading": f"in {(stretch.SPAN + stretch.GRACE) * 1000:.0f} ms or more",
    "our own connections": f"more than {NUMBERS[examiner.MOST_OURS]} wait in one queue",
    "the patience": f"is kept for {look.PATIENCE:.0f} s more",
    "the tripwire": f"{NUMBERS[round(1 / General().tripwire)]} times a second",
    "a service that flaps": f"{NUMBERS[ladder.FLAP_RISE]} times `rise` good rounds",
    "when a probe is late": f"{NUMBERS[round(pace.LATE_TIMES)]} times its own usual latency",
    "what is usual": f"of its last {pace.LATENCIES} answers",
    "late at least": f"{pace.LATE_AT_LEAST * 1000:.0f} ms at least",
}


def test_the_tables_are_what_the_code_says() -> None:
    manual = MANUAL.read_text()

    assert renewed(manual) == manual, "write them anew: python -m tests.docs.tables"


def test_every_table_has_its_place() -> None:
    assert sorted(re.findall(r"<!-- (\w+): ", MANUAL.read_text())) == sorted(TABLES)


def test_every_verdict_has_a_rule_or_is_what_is_left() -> None:
    reached = {COMES_TO[rule.__name__][0] if rule.__name__ in COMES_TO else Verdict(rule.__name__) for rule in RULES}

    assert reached == set(Verdict) - {Verdict.UNSETTLED}


def test_every_form_of_the_proof_is_told() -> None:
    told = [show.__name__ for show in (*forms.PASSIVE, *forms.TOUCHING)]

    assert {*told, "parked"} == set(Form)


def test_every_row_has_a_text() -> None:
    rules = (*diagnosis.RULES, *forms.PASSIVE, *forms.TOUCHING, *pace.RULES)
    reasons = (*restraint.PASSES, *restraint.LAST_PASSES, *restraint.HOLDS)

    assert [rule.__name__ for rule in (*rules, *reasons) if not rule.__doc__] == []


def test_the_pace_has_every_time_of_a_service_but_the_probe_s_own() -> None:
    policy = Policy()
    numbers = {name for name in policy.__slots__ if isinstance(getattr(policy, name), int | float)}

    assert numbers - {"timeout"} == set(PACE)


@pytest.mark.parametrize("phrase", PROSE.values(), ids=PROSE.keys())
def test_a_number_of_the_prose_is_the_code_s(phrase: str) -> None:
    assert phrase in MANUAL.read_text()


def test_the_alert_holds_are_those_of_the_table() -> None:
    assert set(restraint.ALERT_HOLDS) <= set(restraint.HOLDS)
    assert set(ladder.ROUTINE) <= {reason.__name__ for reason in restraint.HOLDS}
