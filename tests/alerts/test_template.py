"""Templates, rendered by the child that renders them."""

from __future__ import annotations

import logging
import sys

import pytest

from tests.alerts.letters import letter
from watchdog.alerts.message import TEXT, TITLE, facts, message
from watchdog.alerts.outgoing import Unusable
from watchdog.alerts.template import Wording

HOST = "db1"
DEFAULT = message(facts(letter(), HOST))


async def test_a_template_has_the_facts_as_variables() -> None:
    body = (
        "{{ service }}@{{ host }} {{ verdict }} ({{ certainty }}) {{ kind }}\n"
        "{% for each in done %}{{ each.at }} {{ each.rung }} {{ each.outcome }}{% endfor %}\n"
        "{{ labels.team }}{{ labels.absent }} {{ annotations.runbook_url }} {{ times_30d }}{{ ' over' if resolved }}"
    )

    told = await Wording("{{ severity }}: {{ event }}", body).of(letter(), HOST)

    assert told.title == "warning: the event loop sleeps"
    assert told.text == (
        "ravendb@db1 epoll_stall (suspected) opened\n"
        "22:13:19 nudge refused\n"
        "storage https://runbooks.example.org/ravendb 3"
    )


async def test_one_template_leaves_the_other_words_as_they_are() -> None:
    told = await Wording(title="{{ service }}").of(letter(), HOST)

    assert (told.title, told.text) == ("ravendb", DEFAULT.text)


async def test_words_are_bounded_and_a_title_is_one_line() -> None:
    told = await Wording("a\r\nBcc: x\n{{ 'b' * 1000 }}", "{{ 'c' * 100000 }}").of(letter(), HOST)

    assert told.title.startswith("a Bcc: x bbb")
    assert len(told.title) == TITLE
    assert len(told.text) == TEXT


async def test_what_a_mail_can_not_hold_is_taken_out() -> None:
    told = await Wording(body=r"{{ 'a\ud800b\x1bc' }}").of(letter(), HOST)

    assert told.text == "a b c"


@pytest.mark.parametrize(
    "body",
    [
        "{{ reasons[5] }}",
        "{{ absent }}",
        "{{ 1 / 0 }}",
        "{% for a in range(1000) %}" * 3 + "{% endfor %}" * 3,
        "{{ 'x' * 10 ** 9 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ service.__class__ }}",
    ],
)
async def test_an_alert_is_not_lost_to_its_template(body: str, caplog: pytest.LogCaptureFixture) -> None:
    told = await Wording(body=body).of(letter(), HOST)

    assert told.title == DEFAULT.title
    assert told.text.startswith(DEFAULT.text + "\n\nThe channel's template failed, so these are the default words: ")
    assert "channel ops: its template failed" in caplog.text


async def test_an_alert_is_not_lost_where_no_child_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/absent")

    told = await Wording(body="{{ service }}").of(letter(), HOST)

    assert told.text.startswith(DEFAULT.text)


async def test_the_sender_does_not_pay_for_jinja() -> None:
    await Wording(body="{{ service }}").of(letter(), HOST)

    assert "watchdog.alerts.jinja" not in sys.modules


def test_a_template_is_tried_before_it_is_needed() -> None:
    with pytest.raises(Unusable, match=r"^body: line 3: 'servise' is undefined; did you mean \"service\"\?$"):
        Wording(body="a\nb\n{{ servise }}").check()


def test_a_template_that_says_nothing_is_refused() -> None:
    with pytest.raises(Unusable, match=r"^title: says nothing"):
        Wording(title="{# later #}").check()


def test_a_sound_template_passes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    Wording("{{ default_title }}", "{{ default_body }}{{ annotations.wiki }}").check()
