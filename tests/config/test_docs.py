"""docs/config.md and good/everything.toml hold every key there is, no other, and the defaults that are in force."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from watchdog.alerts import CHANNELS
from watchdog.alerts.routing import HttpRouting, Routing
from watchdog.config import Http
from watchdog.config.check import General, Pace, Words
from watchdog.deadman import Settings as DeadMan
from watchdog.model import Budgets, Policy
from watchdog.probes import PROBES
from watchdog.probes.http_settings import Authorization, BasicAuth, HeaderMatch
from watchdog.probes.tls import TlsConfig
from watchdog.settings import Seconds, Secret, format_duration
from watchdog.target import Target
from watchdog.window import Window

DOCS = Path(__file__).parents[2] / "docs" / "config.md"
EVERYTHING = tomllib.loads((Path(__file__).parent / "good" / "everything.toml").read_text())

# Of each section: the dataclasses it tells of, and the keys that are read apart from any.
SECTIONS: Mapping[str, tuple[tuple[type, ...], tuple[str, ...]]] = {
    "At the top": ((General,), ()),
    "[http]": ((Http,), ()),
    "[dead_man]": ((DeadMan,), ()),
    "[service.NAME]": ((Target, Policy, Words), ("probe",)),
    "[service.NAME.budget]": ((Budgets,), ()),
    "[service.NAME.probe.NAME]": ((Pace,), ("type",)),
    **{f'type = "{word}"': ((kind.settings,), ()) for word, kind in PROBES.items()},
    "tls_config": ((TlsConfig,), ()),
    "basic_auth": ((BasicAuth,), ()),
    "authorization": ((Authorization,), ()),
    "header matches": ((HeaderMatch,), ()),
    "[channel.NAME]": ((Routing,), ("type",)),
    "channels over HTTP": ((HttpRouting,), ()),
    **{f'channel type = "{word}"': ((kind.settings,), ()) for word, kind in CHANNELS.items()},
    "[window.NAME]": ((Window,), ()),
    "Secrets": ((Secret,), ()),
}


def own(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    """The fields that a table of its own tells of: not those that it has from `Routing`, unless it changes them."""
    shared = {field.name for base in (Routing, HttpRouting) if base in kind.__mro__[1:] for field in fields(base)}
    return tuple(field for field in fields(kind) if field.name not in shared or field.name in kind.__annotations__)


def told() -> dict[str, dict[str, str]]:
    """Of each section of the manual, the keys of its table with their defaults."""
    sections: dict[str, dict[str, str]] = {}
    for part in re.split(r"^##+ ", DOCS.read_text(), flags=re.MULTILINE)[1:]:
        rows = re.findall(r"^\| `(\w+)` \| ?(.*?) ?\| .*\|$|^\| `(\w+)` \| ?(.*?) ?\| ?\|$", part, re.MULTILINE)
        sections[part.partition("\n")[0]] = {row[0] or row[2]: row[1] or row[3] for row in rows}
    return sections


def default(kind: type, field: dataclasses.Field[Any]) -> str | None:
    """As the manual writes it; None where it explains instead."""
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if value is None:
        return None
    return f"`{written(value, get_type_hints(kind, include_extras=True)[field.name])}`"


def written(value: Any, hint: Any) -> str:
    if hint == Seconds:
        return f'"{format_duration(value)}"'
    if dataclasses.is_dataclass(value):
        hints = get_type_hints(type(value), include_extras=True)
        inner = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return "{ " + ", ".join(f"{key} = {written(part, hints[key])}" for key, part in inner.items()) + " }"
    if isinstance(value, tuple) and value:
        return "[" + ", ".join(f'"{part}"' for part in value) + "]"
    plain = {True: "true", False: "false", (): "[]"}
    if isinstance(value, bool | tuple):
        return plain[value]
    return {str: '"{}"', dict: "{{}}", int: "{}"}.get(type(value), '"{}"').format(value)


def test_the_manual_has_a_section_for_every_table_and_no_other() -> None:
    assert set(SECTIONS) == {name for name, keys in told().items() if keys}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_manual_tells_every_key_of_a_table_and_no_other(section: str) -> None:
    kinds, apart = SECTIONS[section]

    assert set(told()[section]) == {field.name for kind in kinds for field in own(kind)} | set(apart)


DEFAULTS = [
    pytest.param(section, field.name, text, id=f"{section} {field.name}")
    for section, (kinds, _) in SECTIONS.items()
    for kind in kinds
    for field in own(kind)
    if (text := default(kind, field)) is not None and field.name not in ("http", "budget")
]


@pytest.mark.parametrize(("section", "key", "text"), DEFAULTS)
def test_the_manual_tells_the_default_in_force(section: str, key: str, text: str) -> None:
    assert told()[section][key] == text


# --- the file with every key ------------------------------------------------------------------------------------------

SERVICE = EVERYTHING["service"]["web"]


def of_type(tables: Mapping[str, Any], word: str) -> set[str]:
    return {key for table in tables.values() if table["type"] == word for key in table} - {"type", "timeout"}


def names(*kinds: type) -> set[str]:
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}


def test_the_file_with_every_key_has_every_key_of_the_top() -> None:
    assert set(EVERYTHING) == names(General) | {"service", "channel", "window"}


def test_the_file_with_every_key_has_every_key_of_a_window() -> None:
    assert set(EVERYTHING["window"]["patches"]) == names(Window)


def test_the_file_with_every_key_has_every_key_of_a_service_but_the_other_way_to_name_it() -> None:
    assert set(SERVICE) == (names(Target, Policy, Words) | {"probe"}) - {"pidfile", "process", "cgroup"}


def test_the_file_with_every_key_has_every_key_of_the_dead_man() -> None:
    assert set(EVERYTHING["dead_man"]) == names(DeadMan)


@pytest.mark.parametrize("word", PROBES)
def test_the_file_with_every_key_has_every_key_of_a_probe(word: str) -> None:
    assert of_type(SERVICE["probe"], word) == names(PROBES[word].settings)


@pytest.mark.parametrize("word", CHANNELS)
def test_the_file_with_every_key_has_every_key_of_a_channel(word: str) -> None:
    assert of_type(EVERYTHING["channel"], word) == names(CHANNELS[word].settings) - {"timeout"}
