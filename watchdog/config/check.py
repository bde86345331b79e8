"""The check itself: from files to a `Config`, or to everything that is wrong with them.

It imports pydantic, so it runs in the short-lived child or in a command, never in the resident process.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from watchdog.alerts import CHANNELS
from watchdog.config import Channel, Config, ConfigInvalid, Http, Probe, Service, rules, web_file
from watchdog.config.files import NAMED, Entry, Tables, read
from watchdog.config.found import Findings, Keys, Place, quoted, shown
from watchdog.config.secrets import Secrets, look_at
from watchdog.config.typed import checked, near, partly
from watchdog.config.web import Web
from watchdog.deadman import Settings as DeadMan
from watchdog.model import Policy, Rung, Verdict
from watchdog.probes import PROBES
from watchdog.settings import Seconds, format_duration
from watchdog.target import Target
from watchdog.verdicts import VERDICTS, ladder, with_capture
from watchdog.window import Window

STATE_DIRECTORY = "/var/lib/epoll-watchdog"


@dataclass(frozen=True, slots=True, kw_only=True)
class General:
    """The keys at the top that are no named tables."""

    http: Http = field(default_factory=Http)
    state_directory: str | None = None
    max_sick: int | None = None
    tripwire: Seconds = 0.25
    dead_man: DeadMan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The keys of a service that its alerts carry."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The key that every probe has beside its own."""

    timeout: Seconds | None = None


def check(path: Path, secrets: Secrets = Secrets.READ) -> Config:
    """The configuration in `path` and `conf.d` beside it. Raises `ConfigInvalid` with every error."""
    return check_tables(path, secrets)[0]


def check_tables(path: Path, secrets: Secrets) -> tuple[Config, Tables]:
    """The same, with what was read."""
    found = Findings()
    tables = read(path, found)
    services = _services(tables.entries, found, secrets)
    channels = _channels(tables.entries, found, secrets, services)
    windows = _windows(tables.entries, found, services)
    general, web = _general(tables.entries, found, secrets)
    if not services and not found.errors:
        Place(found, path).warn("no service is named, so nothing is guarded; epoll-watchdog init proposes some")
    if found.errors:
        raise ConfigInvalid(tuple(sorted(found.errors, key=lambda error: (str(error.file), error.path))))
    config = Config(
        files=tables.files,
        services=services,
        channels=channels,
        http=general.http,
        state_directory=Path(general.state_directory or _state_directory()),
        max_sick=general.max_sick,
        warnings=tuple(sorted(map(str, found.warnings))),
        tripwire=general.tripwire,
        dead_man=general.dead_man,
        windows=windows,
        web=web,
    )
    return config, tables


def _state_directory() -> str:
    """systemd.exec(5): $STATE_DIRECTORY holds the paths of StateDirectory=, with colons in between."""
    return os.environ.get("STATE_DIRECTORY", "").partition(":")[0] or STATE_DIRECTORY


def _general(entries: Mapping[Keys, Entry], found: Findings, secrets: Secrets) -> tuple[General, Web]:
    """Each key may stand in another file, so the keys of each file are checked for themselves and then put together."""
    general, web = General(), Web()
    tops = {str(keys[0]): entry for keys, entry in entries.items() if len(keys) == 1 and keys[0] not in NAMED}
    for file in {entry.file for entry in tops.values()}:
        place = Place(found, file)
        table = {key: entry.value for key, entry in tops.items() if entry.file == file}
        part, bad = partly(General, table, place, NAMED)
        general = replace(general, **{key: getattr(part, key) for key in table if key not in bad})
        if part.max_sick is not None and part.max_sick < 1:
            place.at("max_sick").error(f"{part.max_sick} is too few; give 1 or more")
        rules.tripwire(place.at("tripwire"), part.tripwire)
        if part.state_directory is not None:
            rules.path(place.at("state_directory"), part.state_directory)
        if "http" in table:
            web = _http(part.http, place.at("http"), secrets)
        if part.dead_man is not None:
            rules.dead_man(place.at("dead_man"), part.dead_man.interval, part.dead_man.timeout)
            look_at(part.dead_man, place.at("dead_man"), secrets)
    return general, web


def _http(http: Http, place: Place, secrets: Secrets) -> Web:
    """What the file holds that it names; the helper serves nobody, and looks at none."""
    web: Web | None = Web()
    if http.web_config is not None and secrets is not Secrets.SKIP:
        at = place.at("web_config")
        web = web_file.read(Path(http.web_config), at) if rules.path(at, http.web_config) else None
    if http.control is not None:
        rules.path(place.at("control"), http.control)
    if not http.addresses:
        place.at("listen").error('is empty; give one address at least, such as "127.0.0.1:9797"')
    for index, address in enumerate(http.addresses):
        at = place.at("listen") if isinstance(http.listen, str) else place.at("listen", index)
        if rules.listen(at, address) and web is not None and secrets is not Secrets.SKIP:
            rules.exposed(at, address, web)
    return web or Web()


def _tables(kind: str, entries: Mapping[Keys, Entry], found: Findings) -> list[tuple[str, dict[str, Any], Place]]:
    """The named tables of a kind, each with its name and place."""
    tables = []
    for keys, entry in entries.items():
        place = Place(found, entry.file, keys)
        if keys[0] == kind and _is_table(entry.value, place, f"[{kind}.NAME]") and len(keys) == 2:
            rules.name(place, kind)
            tables.append((str(keys[1]), entry.value, place))
    return tables


def _is_table(value: Any, place: Place, example: str) -> bool:
    if not isinstance(value, dict):
        place.error(f"is no table; write {example}")
    return isinstance(value, dict)


def _picked(table: Mapping[str, Any], kind: type) -> dict[str, Any]:
    names = _names(kind)
    return {key: value for key, value in table.items() if key in names}


def _names(kind: Any) -> list[str]:
    return [each.name for each in fields(kind)]


# --- services ---------------------------------------------------------------------------------------------------------


def _services(entries: Mapping[Keys, Entry], found: Findings, secrets: Secrets) -> dict[str, Service]:
    services: dict[str, Service] = {}
    units: dict[str, str] = {}
    places: dict[str, Place] = {}
    for name, table, place in _tables("service", entries, found):
        services[name] = service = _service(name, table, place, secrets)
        unit = service.target.unit
        if unit is not None and units.setdefault(unit, name) != name:
            place.at("unit").error(f"{unit} is guarded by service {units[unit]} already; put its probes there")
        places[name] = place
    parents = {name: service.policy.depends_on for name, service in services.items()}
    for name, place in places.items():
        rules.dependencies(place.at("depends_on"), name, parents)
    return services


def _service(name: str, table: dict[str, Any], place: Place, secrets: Secrets) -> Service:
    known = [*_names(Target), *_names(Policy), *_names(Words), "probe"]
    for key in table:
        if key not in known:
            place.at(key).error(f"is no key; {near(key, known)}")
    target, bad = partly(Target, _picked(table, Target), place)
    rules.target(place, target, bad)
    policy = _policy(_picked(table, Policy), place)
    rules.capturable(place, target, policy)
    rules.restartable(place, target, policy)
    if target.capture:
        policy = replace(policy, ladder=_captured(policy))
    words, _ = partly(Words, _picked(table, Words), place)
    rules.labels(place.at("labels"), words.labels, rules.OWN_LABELS)
    rules.labels(place.at("annotations"), words.annotations)
    return Service(
        name=name,
        target=target,
        policy=policy,
        labels=words.labels,
        annotations=words.annotations,
        probes=_probes(table.get("probe", {}), place, policy, secrets),
    )


def _policy(table: dict[str, Any], place: Place) -> Policy:
    """A service with a short interval need not say that its other times are as short."""
    policy, bad = partly(Policy, _whole_budgets(table), place)
    for key in ("timeout", "interval_suspect"):
        if key not in table and policy.interval >= rules.MIN_INTERVAL:
            policy = replace(policy, **{key: min(getattr(policy, key), policy.interval)})
    rules.policy(place, policy, bad)
    return policy


def _captured(policy: Policy) -> dict[Verdict, tuple[Rung, ...]]:
    """The ladders, with a capture before each restart."""
    rungs = {verdict: ladder(policy, verdict) for verdict in VERDICTS}
    return {**policy.ladder, **{verdict: with_capture(own) for verdict, own in rungs.items() if Rung.RESTART in own}}


def _whole_budgets(table: dict[str, Any]) -> dict[str, Any]:
    """A budget that gives one of its two keys has the other at its default."""
    budgets = table.get("budget")
    if not isinstance(budgets, dict):
        return table
    whole = dict(budgets)
    for each in fields(Policy().budget):
        default = getattr(Policy().budget, each.name)
        if isinstance(budgets.get(each.name), dict):
            filled = {"burst": default.burst, "interval": format_duration(default.interval)}
            whole[each.name] = {**filled, **budgets[each.name]}
    return {**table, "budget": whole}


def _probes(tables: Any, service: Place, policy: Policy, secrets: Secrets) -> dict[str, Probe]:
    place = service.at("probe")
    if not _is_table(tables, place, "[service.NAME.probe.NAME]"):
        return {}
    if not tables:
        service.error("has no probe; add a [service.NAME.probe.NAME] table")
        return {}
    probes = {name: _probe(table, place.at(name), policy, secrets) for name, table in tables.items()}
    sound = {name: probe for name, probe in probes.items() if probe is not None}
    if len(sound) == len(probes):
        rules.planes(service, [PROBES[probe.type].road(probe.settings).plane for probe in sound.values()])
    return sound


def _probe(table: Any, place: Place, policy: Policy, secrets: Secrets) -> Probe | None:
    rules.name(place, "probe")
    if not _is_table(table, place, "[service.NAME.probe.NAME]"):
        return None
    pace, bad = partly(Pace, _picked(table, Pace), place)
    if pace.timeout is not None and rules.duration(place.at("timeout"), pace.timeout):
        rules.within(place.at("timeout"), pace.timeout, policy.interval)
    if (word := _type(table, place, PROBES)) is None:
        return None
    kind = PROBES[word]
    settings = _settings(kind.settings, table, place, secrets, ("type", *_names(Pace)))
    if settings is None or bad:
        return None
    for sentence in kind.warnings(settings):
        place.warn(sentence)
    return Probe(type=word, timeout=pace.timeout, settings=settings)


# --- channels, and what they have in common with probes ---------------------------------------------------------------


def _channels(
    entries: Mapping[Keys, Entry], found: Findings, secrets: Secrets, services: Collection[str]
) -> dict[str, Channel]:
    channels: dict[str, Channel] = {}
    for name, table, place in _tables("channel", entries, found):
        word = _type(table, place, CHANNELS)
        settings = _settings(CHANNELS[word].settings, table, place, secrets, ("type",)) if word else None
        if (ca_file := getattr(settings, "ca_file", None)) is not None:
            rules.path(place.at("ca_file"), ca_file)
        rules.services(place.at("services"), getattr(settings, "services", ()), services)
        if word and settings is not None:
            channels[name] = Channel(name=name, type=word, settings=settings)
    return channels


def _windows(entries: Mapping[Keys, Entry], found: Findings, services: Collection[str]) -> dict[str, Window]:
    windows: dict[str, Window] = {}
    for name, table, place in _tables("window", entries, found):
        window = checked(Window, table, place)
        if window is not None:
            rules.services(place.at("services"), window.services, services)
            rules.window(place, window)
            windows[name] = window
    return windows


def _type(table: dict[str, Any], place: Place, kinds: Mapping[str, Any]) -> str | None:
    """The value of `type`, which decides what the other keys mean."""
    word = table.get("type")
    if isinstance(word, str) and word in kinds:
        return word
    known = ", ".join(map(quoted, sorted(kinds)))
    if isinstance(word, str):
        place.at("type").error(f"{shown(word)} is unknown; {near(word, kinds)}")
    elif "type" in table:
        place.at("type").error(f"is no string; write one of {known}")
    else:
        place.at("type").error(f"is missing; write one of {known}")
    return None


def _settings(kind: Any, table: dict[str, Any], place: Place, secrets: Secrets, ours: tuple[str, ...]) -> Any:
    """A type's own settings, from the keys that are not `ours`."""
    settings = checked(kind, {key: value for key, value in table.items() if key not in ours}, place, ours)
    if settings is not None:
        look_at(settings, place, secrets)
    return settings
