"""Whatever units, sockets and programs are called: what `epoll-watchdog init` writes is sound, and means them."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchdog.cli.agent import Agent, Witness
from watchdog.cli.first_config import First, key, table, text, value
from watchdog.cli.proposed import Proposal, proposed, service_name
from watchdog.cli.survey import Listener, Seen, Survey
from watchdog.cli.talks import talks
from watchdog.cli.tried import Ready, Tried, chosen_of
from watchdog.config.check import check
from watchdog.config.secrets import Secrets
from watchdog.model import Kind, Observation
from watchdog.reading import Family

PROGRAMS = (
    "nginx",
    "redis-server",
    "postgres",
    "mariadbd",
    "memcached",
    "java",
    "prometheus",
    "grafana",
    "haproxy",
    "x",
)

units = st.from_regex(r"[A-Za-z0-9:_.\\-]{1,80}(@[A-Za-z0-9:_.\\-]{1,80})?\.service", fullmatch=True)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
ports = st.sampled_from([21, 22, 25, 80, 443, 3306, 5432, 8080]) | st.integers(1, 65535)
tcp = st.builds("{}:{}".format, st.sampled_from(["0.0.0.0", "[::]", "127.0.0.1", "192.0.2.1", "[2001:db8::1]"]), ports)
paths = st.builds(
    "/run/{}".format, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
)
names = st.lists(st.sampled_from(PROGRAMS) | words, max_size=2).map(tuple)
listeners = st.builds(Listener, st.just(Family.TCP), tcp, names) | st.builds(
    Listener, st.just(Family.UNIX), paths, names
)
seen = st.builds(Seen, units, words, st.lists(listeners, min_size=1, max_size=6).map(tuple))
surveys = st.lists(seen, max_size=4, unique_by=lambda each: each.unit).map(lambda found: Survey(tuple(found)))
witnesses = st.builds(Witness, st.sampled_from(Agent), words)
observations = st.builds(Observation, st.sampled_from([Kind.ALIVE, Kind.SILENT, Kind.REFUSED]), st.just(0.001), words)


def tried(listener: Listener, data: st.DataObject) -> Tried:
    """One of the talks, as if it had been asked."""
    return Tried(listener, data.draw(st.sampled_from(talks(listener))), data.draw(observations), data.draw(words))


def answered(proposal: Proposal, data: st.DataObject) -> Ready:
    return Ready(proposal, chosen_of([tried(listener, data) for listener in proposal.sockets]), proposal.unasked)


def read_back(text: str) -> dict[str, Any]:
    """What the daemon reads of it; it must be sound."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "config.toml")
        file.write_text(text)
        check(file, Secrets.SKIP)
    return tomllib.loads(text)


@settings(deadline=None)
@given(surveys, witnesses, st.data())
def test_whatever_is_found_makes_a_sound_configuration_that_means_it(
    found: Survey, said: Witness, data: st.DataObject
) -> None:
    chosen = proposed(found, {}, ())
    services = [ready for each in chosen.proposals if (ready := answered(each, data)).probes]
    document = read_back(text(First(services, chosen.left_out, found, said)))

    written = document.get("service", {})
    assert {name: table["unit"] for name, table in written.items()} == {
        each.proposal.name: each.proposal.seen.unit for each in services
    }
    assert all(table["mode"] == "observe" for table in written.values())
    wanted = [{"type": tried.talk.type, **read_value(tried)} for each in services for tried in each.probes]
    sockets = [probe for table in written.values() for probe in table["probe"].values() if not is_witness(probe)]
    assert sockets == wanted


def read_value(tried: Tried) -> dict[str, Any]:
    return {key: list(each) if isinstance(each, tuple) else each for key, each in tried.talk.keys.items()}


def is_witness(probe: dict[str, Any]) -> bool:
    return probe["type"] in ("snmp", "cpu")


@given(units, st.sets(st.from_regex(r"[a-z]{1,3}(-[2-4])?", fullmatch=True)))
def test_a_name_is_one_that_no_other_has(unit: str, taken: set[str]) -> None:
    first = service_name(unit, taken)
    second = service_name(unit, {*taken, first})

    assert first not in taken
    assert second not in {*taken, first}
    assert max(len(first), len(second)) <= 64


scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(words, inner), max_leaves=8)


@given(st.dictionaries(words, values), words)
def test_a_value_is_read_back_as_it_was(keys: dict[str, Any], name: str) -> None:
    assert tomllib.loads(table(("service", name), keys)) == {"service": {name: keys}}


@pytest.mark.parametrize(
    ("given_", "written"),
    [
        ("PING\r\n", '"PING\\r\\n"'),
        ("\0\x7f", '"\\u0000\\u007f"'),
        ((1, 2), "[1, 2]"),
        (False, "false"),
        ({"a b": "c"}, '{ "a b" = "c" }'),
    ],
)
def test_a_value_is_written_as_a_person_would(given_: Any, written: str) -> None:
    assert value(given_) == written


def test_a_key_stands_bare_where_it_may() -> None:
    assert [key("redis-server"), key("postgresql@15-main")] == ["redis-server", '"postgresql@15-main"']


def made(*found: Seen, said: Witness | None = None, kind: Kind = Kind.ALIVE) -> str:
    """The text where each first talk was asked, and this came of it."""
    survey = Survey(found, silent=("cron.service",), unowned=("127.0.0.1:1",))
    chosen = proposed(survey, {}, ())
    observation = Observation(kind, 0.001, "so it was")
    services = [
        Ready(each, tuple(Tried(one, talks(one)[0], observation) for one in each.sockets), each.unasked)
        for each in chosen.proposals
    ]
    return text(First(services, chosen.left_out, survey, said or Witness(Agent.TELLS)))


REDIS = Seen("redis-server.service", "", (Listener(Family.TCP, "127.0.0.1:6379", ("redis-server",)),))


def test_where_no_agent_tells_the_witness_is_a_comment_and_the_reason_stands_above() -> None:
    told = made(REDIS, said=Witness(Agent.THERE, "it hides them"))

    assert "# [service.redis-server.probe.process]" in told
    assert "\n[service.redis-server.probe.process]" not in told
    assert "it hides them" in told


def test_where_an_agent_tells_it_is_the_witness() -> None:
    assert tomllib.loads(made(REDIS))["service"]["redis-server"]["probe"]["process"]["oid"].endswith(".7.{pid}")


def test_a_runtime_with_other_threads_has_its_cpu_as_a_witness() -> None:
    java = Seen("shop.service", "", (Listener(Family.TCP, "[::]:8080", ("java",)),))

    assert "cpu" in tomllib.loads(made(java))["service"]["shop"]["probe"]


def test_a_connection_alone_is_told_to_prove_nothing() -> None:
    stranger = Seen("queue.service", "", (Listener(Family.TCP, "127.0.0.1:7000", ("queued",)),))

    assert "connect_only = true" in made(stranger)
    assert "for a service that sleeps, too" in " ".join(made(stranger).replace("#", "").split())


def test_what_is_left_out_is_told_with_the_reason() -> None:
    bus = Seen("dbus.service", "", (Listener(Family.UNIX, "/run/dbus/system_bus_socket", ("dbus-daemon",)),))
    told = made(REDIS, bus)

    assert "# dbus.service: the host or the watchdog itself stands on it: it is never touched" in told
    assert "# cron.service: no listening socket was seen" in told
    assert "root may see it: 127.0.0.1:1" in told
