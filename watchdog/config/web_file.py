"""Reads the file that `web_config` names: YAML, in the words of Prometheus' exporter-toolkit.

Rules of this file: what the toolkit would do and we can't is an error that says so, never left out in silence; paths in
it are relative to its directory, as there; no hash and no key is ever repeated. It runs in the short-lived child, for
the resident process has no use for a YAML parser.

Source: exporter-toolkit's docs/web-configuration.md and web/tls_config.go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from watchdog.config.found import Place, quoted
from watchdog.config.typed import checked, near
from watchdog.config.web import (
    CIPHERS,
    CURVES,
    IF_GIVEN,
    NONE,
    OF_TLS13,
    REQUIRED,
    VERSIONS,
    Pem,
    Rate,
    Tls,
    TlsUnusable,
    Web,
    context,
)
from watchdog.settings import parse_duration

LARGEST = 1 << 20  # bytes of the file
CLIENT_AUTH = {"": NONE, NONE: NONE, IF_GIVEN: IF_GIVEN, REQUIRED: REQUIRED}
UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
HEADERS: Mapping[str, tuple[str, ...]] = {  # the toolkit's, and the values that it takes; empty: any
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
HASH = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
SLOWEST = 16  # the cost of a hash beyond which a look takes seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsTable:
    """`tls_server_config` as it is written."""

    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None
    client_auth_type: str = NONE
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpTable:
    """`http_server_config` as it is written."""

    http2: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateTable:
    """`rate_limit` as it is written."""

    interval: str | int = 0
    burst: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """The whole file as it is written."""

    tls_server_config: TlsTable | None = None
    http_server_config: HttpTable | None = None
    basic_auth_users: Mapping[str, str] | None = None
    rate_limit: RateTable | None = None


def read(path: Path, named_at: Place) -> Web | None:
    """The values of the file; None where anything is wrong with it, which is told. `named_at`: where the config names
    it.
    """
    place = Place(named_at.found, path)
    before = len(place.found.errors)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        named_at.error(f"{path} can't be read: {getattr(error, 'strerror', error)}; the daemon's own user reads it")
        return None
    table = _table(content, place)
    file_ = checked(File, table, place) if table is not None else None
    if file_ is None:
        return None
    tls = _tls(file_.tls_server_config, path.parent, place.at("tls_server_config"))
    http = file_.http_server_config or HttpTable()
    web = Web(
        tls=tls,
        users=dict(file_.basic_auth_users or {}),
        headers=_headers(http, place.at("http_server_config")),
        rate=_rate(file_.rate_limit, place.at("rate_limit")),
    )
    _users(web.users, place.at("basic_auth_users"))
    return web if len(place.found.errors) == before else None


def _table(content: bytes, place: Place) -> dict[str, Any] | None:
    if len(content) > LARGEST:
        place.error("is larger than 1 MiB; that is no web configuration")
        return None
    try:
        value = yaml.load(content, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)  # the error's own text may quote a secret
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = str(error) if isinstance(error, _Twice) else "is no YAML"
        place.error(f"{problem}{where}; see exporter-toolkit's docs/web-configuration.md")
        return None
    if value is None:
        return {}
    if not isinstance(value, dict):
        place.error("is no mapping; write keys such as tls_server_config: and basic_auth_users:")
        return None
    table: dict[str, Any] = _plain(value)
    return table


class _Twice(yaml.YAMLError):
    """A key that stands in a mapping twice; its text says so without the key, which may be anything."""

    def __init__(self, mark: Any) -> None:
        super().__init__("has a key twice in one mapping")
        self.problem_mark = mark


class _Loader(yaml.SafeLoader):
    """No aliases (a few of them can stand for gigabytes), no key twice: Go's UnmarshalStrict refuses that too."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value]
        if len(set(map(str, keys))) < len(keys):
            raise _Twice(node.start_mark)
        return super().construct_mapping(node, deep=deep)


def _plain(value: Any) -> Any:
    """As JSON could have it: keys are text, a null in a table is a key that is not there, dates are text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool) else str(value)


# --- TLS --------------------------------------------------------------------------------------------------------------


def _tls(table: TlsTable | None, directory: Path, place: Place) -> Tls | None:
    if table is None or table == TlsTable():
        return None
    before = len(place.found.errors)
    cert = _pem(table, "cert", directory, place)
    key = _pem(table, "key", directory, place)
    authority = _pem(table, "client_ca", directory, place)
    for word, pem in (("cert", cert), ("key", key)):
        if pem is None:
            place.error(f"has no {word}; give {word}_file")
    client_auth = _client_auth(table, authority, place)
    _versions(table, place)
    _suites(table, place)
    curve = _curve(table, place.at("curve_preferences"))
    if cert is None or key is None or len(place.found.errors) > before:
        return None
    tls = Tls(
        cert=cert,
        key=key,
        client_ca=authority,
        client_auth=client_auth,
        client_allowed_sans=table.client_allowed_sans,
        min_version=table.min_version,
        max_version=table.max_version,
        cipher_suites=table.cipher_suites,
        prefer_server_cipher_suites=table.prefer_server_cipher_suites,
        curve=curve,
    )
    try:
        context(tls)
    except TlsUnusable as error:
        hint = (
            "leave it out for all curves"
            if error.key == "curve_preferences"
            else "the daemon's own user reads it, in PEM"
        )
        place.at(error.key).error(f"{error.why}; {hint}")
        return None
    return tls


def _pem(table: TlsTable, word: str, directory: Path, place: Place) -> Pem | None:
    text, file = getattr(table, word), getattr(table, f"{word}_file")
    if text and file:
        place.at(word).error(f"stands beside {word}_file; keep one of them")
    if file:
        return Pem(key=f"{word}_file", file=os.path.join(directory, file))  # noqa: PTH118 (kept as it is written)
    return Pem(key=word, text=text) if text else None


def _client_auth(table: TlsTable, authority: Pem | None, place: Place) -> str:
    word, at = table.client_auth_type, place.at("client_auth_type")
    if word in UNVERIFIED:
        at.error(
            f"{quoted(word)} takes certificates that nobody verified, which Python's ssl can't do; "
            f"write {quoted(IF_GIVEN)} or {quoted(REQUIRED)}"
        )
    elif word not in CLIENT_AUTH:
        at.error(f"{quoted(word)} is unknown; {near(word, [*CLIENT_AUTH, *UNVERIFIED][1:])}")
    elif CLIENT_AUTH[word] == NONE and authority is not None:
        place.at(authority.key).error(f"is given, and no client is asked; write client_auth_type: {REQUIRED}")
    elif CLIENT_AUTH[word] != NONE and authority is None:
        at.error("needs the CA of the clients' certificates; give client_ca_file")
    if table.client_allowed_sans is not None and word != REQUIRED:
        place.at("client_allowed_sans").error(
            f"needs a client that has a certificate; write client_auth_type: {REQUIRED}"
        )
    return CLIENT_AUTH.get(word, NONE)


def _versions(table: TlsTable, place: Place) -> None:
    sound = True
    for key in ("min_version", "max_version"):
        word = getattr(table, key)
        if word in ("TLS10", "TLS11"):
            place.at(key).error(f"{quoted(word)} is not spoken here, it is broken (RFC 8996); write TLS12 or TLS13")
            sound = False
        elif word not in VERSIONS:
            place.at(key).error(f"{quoted(word)} is unknown; {near(word, VERSIONS)}")
            sound = False
    if sound and VERSIONS[table.min_version] > VERSIONS[table.max_version]:
        place.at("min_version").error("is above max_version; nothing would be spoken")


def _suites(table: TlsTable, place: Place) -> None:
    for index, word in enumerate(table.cipher_suites):
        if word not in CIPHERS and word not in OF_TLS13:
            hint = near(word, [*CIPHERS, *OF_TLS13])
            place.at("cipher_suites", index).error(f"{quoted(word)} is unknown; {hint}")
    if table.cipher_suites and not set(table.cipher_suites) & set(CIPHERS) and table.min_version != "TLS13":
        place.at("cipher_suites").error(
            "names none for TLS 1.2, and those of TLS 1.3 are always on; add min_version: TLS13"
        )


def _curve(table: TlsTable, place: Place) -> str | None:
    words = table.curve_preferences
    for index, word in enumerate(words):
        if word not in CURVES:
            place.at(index).error(f"{quoted(word)} is unknown; {near(word, CURVES)}")
    if len(words) > 1:
        place.error("names several, and Python's ssl can be told of one only; keep one, or leave it out for all")
    return words[0] if words else None


# --- the rest ---------------------------------------------------------------------------------------------------------


def _headers(table: HttpTable, place: Place) -> dict[str, str]:
    if table.http2:
        place.at("http2").error("HTTP/2 is not spoken here; write false, every client speaks HTTP/1.1 too")
    for name, value in table.headers.items():
        at = place.at("headers", name)
        if name not in HEADERS:
            at.error(f"can't be set; {near(name, HEADERS)}")
        elif HEADERS[name] and value not in HEADERS[name]:
            at.error(f"{quoted(value)} is not taken; write {' or '.join(HEADERS[name])}")
        elif not value.isprintable():
            at.error("has a line break or another control character; take it out")
    return {name: value for name, value in table.headers.items() if value}


def _users(users: Mapping[str, str], place: Place) -> None:
    for number, (name, hashed) in enumerate(users.items(), start=1):
        at = place.at(name) if name else place
        match = HASH.fullmatch(hashed)
        if not name or ":" in name:
            place.error(f"user {number} has a name that no client can send; it is not empty and has no colon")
        elif match is None:
            at.error("is no bcrypt hash; make one with `htpasswd -nBC 10 \"\" | tr -d ':\\n'`")
        elif int(match[1]) > SLOWEST:
            at.warn(f"has a hash of cost {match[1]}, so its first request takes seconds; a cost of 10 will do")


def _rate(table: RateTable | None, place: Place) -> Rate | None:
    if table is None or table.interval in (0, "0", "0s"):
        return None
    try:
        interval = parse_duration(str(table.interval))
    except ValueError as error:
        place.at("interval").error(str(error))
        return None
    if interval <= 0:
        return None
    if table.burst < 1:
        place.at("burst").error(f"{table.burst} would let nothing through; give 1 or more")
        return None
    return Rate(interval=interval, burst=table.burst)
