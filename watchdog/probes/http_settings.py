"""The keys of an `http` probe, named as blackbox_exporter names them, and what is refused of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from watchdog.probes.sockets import IpProtocol
from watchdog.probes.tls import TlsConfig
from watchdog.probes.unix import check_path
from watchdog.settings import Seconds, Secret

TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2: a method, a header's name


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """RFC 7617."""

    username: str
    password: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """An Authorization header of another scheme."""

    type: str = "Bearer"
    credentials: Secret

    def __post_init__(self) -> None:
        if not re.fullmatch(TOKEN, self.type):
            raise ValueError(f'"{self.type}" is no authentication scheme; write one word, such as "Bearer"')


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatch:
    """A header of the answer. Missing, it fails the probe unless `allow_missing`."""

    header: str
    regexp: str
    allow_missing: bool = False

    def __post_init__(self) -> None:
        check_expression(self.regexp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to ask, and what to expect. Without `valid_status_codes`, every 2xx is expected."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    valid_status_codes: tuple[int, ...] = ()
    valid_http_versions: tuple[Literal["HTTP/1.0", "HTTP/1.1"], ...] = ()
    fail_if_body_matches_regexp: tuple[str, ...] = ()
    fail_if_body_not_matches_regexp: tuple[str, ...] = ()
    fail_if_header_matches: tuple[HeaderMatch, ...] = ()
    fail_if_header_not_matches: tuple[HeaderMatch, ...] = ()
    fail_if_ssl: bool = False
    fail_if_not_ssl: bool = False
    tls_config: TlsConfig | None = None
    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    bearer_token: Secret | None = None
    preferred_ip_protocol: IpProtocol | None = None
    follow_redirects: bool = True
    unix_socket: str | None = None
    certificate_min_validity: Seconds | None = None

    def __post_init__(self) -> None:
        check_url(self.url)
        check_request(self)
        check_tls(self)
        for code in self.valid_status_codes:
            if not 100 <= code <= 599:
                raise ValueError(f"{code} is no HTTP status code; these are 100 to 599")
        for expression in (*self.fail_if_body_matches_regexp, *self.fail_if_body_not_matches_regexp):
            check_expression(expression)
        if self.unix_socket is not None:
            check_path(self.unix_socket)


def check_url(url: str) -> None:
    """Raise `ValueError` for what is no URL of a probe."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        if "@" in url:
            raise ValueError("this is no URL (it is not shown, it may hold a password)") from None
        raise ValueError(f'"{url}" is no URL: {error}') from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL holds a user or password; give them as basic_auth, the password as a secret")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(f'"{url}" is no URL of HTTP; write "http://host:port/path" or "https://…"')


def check_request(settings: Settings) -> None:
    """Raise `ValueError` for a request that cannot be sent, or that has a secret in the config."""
    if not re.fullmatch(TOKEN, settings.method):
        raise ValueError(f'"{settings.method}" is no HTTP method; write one word, such as "GET" or "HEAD"')
    for name, value in settings.headers.items():
        if not re.fullmatch(TOKEN, name) or re.search(r"[\r\n\0]", value):
            raise ValueError(f'"{name}" is no HTTP header of one line')
        if name.lower() in ("authorization", "proxy-authorization"):
            raise ValueError(f"the header {name} is a secret; give it as basic_auth, authorization or bearer_token")
    given = [name for name in ("basic_auth", "authorization", "bearer_token") if getattr(settings, name) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other; give one")


def check_tls(settings: Settings) -> None:
    """Raise `ValueError` for expectations of TLS that contradict each other."""
    if settings.fail_if_ssl and settings.fail_if_not_ssl:
        raise ValueError("fail_if_ssl and fail_if_not_ssl exclude each other")
    if settings.certificate_min_validity is None:
        return
    if settings.tls_config is not None and settings.tls_config.insecure_skip_verify:
        raise ValueError(
            "certificate_min_validity needs a certificate that is verified; "
            "instead of insecure_skip_verify, name the server's own certificate as tls_config.ca_file"
        )
    if not settings.url.startswith("https:") and not settings.follow_redirects:
        raise ValueError('certificate_min_validity needs an "https://" URL')


def check_expression(expression: str) -> None:
    """Raise `ValueError` for what is no regular expression."""
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f'"{expression}" is no regular expression: {error}') from None
