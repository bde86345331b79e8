"""One HTTP request of a probe: HTTP/1.1's syntax by aiohttp's parser, I/O by `sockets`, as the other probes have it.

Not by aiohttp's client session: it costs twice the CPU, hides errnos, and takes a full Unix backlog for a connection in
progress. Rules of this file: a fresh connection for each request; redirects are followed like a browser's (RFC 9110,
15.4), without credentials to another origin; a body is read to its end or its first 1 MiB, and never told.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import ssl
import time
from dataclasses import dataclass

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpResponseParser, RawResponseMessage
from yarl import URL

import watchdog
from watchdog.model import Kind
from watchdog.probes import sockets, tls, unix
from watchdog.probes.attempt import Finding, Found
from watchdog.probes.deadline import Deadline
from watchdog.probes.http_settings import HeaderMatch, Settings
from watchdog.secret import reveal
from watchdog.settings import format_duration

BODY_LIMIT = 1 << 20
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 10
USER_AGENT = f"epoll-watchdog/{watchdog.__version__}"


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent. `headers` have lower-case names."""

    method: str
    url: URL
    headers: dict[str, str]
    body: bytes

    def encode(self) -> bytes:
        """As HTTP/1.1 writes it (RFC 9112, 2.1)."""
        lines = [f"{self.method} {self.url.raw_path_qs or '/'} HTTP/1.1"]
        if "host" not in self.headers:
            lines.append(f"host: {self.url.host_port_subcomponent}")
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(slots=True)
class Answer:
    """What came back. `expires` is the end of the certificate shown, in seconds of the wall clock."""

    url: URL
    head: RawResponseMessage
    body: bytes
    expires: float | None


async def ask(settings: Settings, deadline: Deadline) -> Finding:
    """Send the request, follow redirects, judge the answer. Raises `Found`, `OSError`, `SecretUnreadable`."""
    request = Request(settings.method, URL(settings.url), headers(settings), settings.body.encode())
    for _ in range(MAX_REDIRECTS + 1):
        answer = await _exchange(settings, request, deadline)
        location = answer.head.headers.get("Location")
        if not settings.follow_redirects or answer.head.code not in REDIRECTS or location is None:
            return judge(settings, answer)
        request = redirected(request, answer.head.code, location)
    return Kind.WRONG, f"more than {MAX_REDIRECTS} redirects"


def headers(settings: Settings) -> dict[str, str]:
    """The request's headers, secrets included. Raises `SecretUnreadable`."""
    made = {"user-agent": USER_AGENT, "connection": "close"}
    made |= {name.lower(): value for name, value in settings.headers.items()}
    if settings.basic_auth is not None:
        pair = f"{settings.basic_auth.username}:{reveal(settings.basic_auth.password)}"
        made["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    elif settings.authorization is not None:
        made["authorization"] = f"{settings.authorization.type} {reveal(settings.authorization.credentials)}"
    elif settings.bearer_token is not None:
        made["authorization"] = f"Bearer {reveal(settings.bearer_token)}"
    return made


def redirected(request: Request, code: int, location: str) -> Request:
    """The request that a redirect asks for. Raises `Found` where it leads out of HTTP."""
    try:
        url = request.url.join(URL(location))
    except ValueError:
        raise Found((Kind.WRONG, f"answered {code} with a Location that is no URL")) from None
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise Found((Kind.WRONG, f"answered {code} with a Location that is no URL of HTTP"))
    kept = dict(request.headers)
    if url.origin() != request.url.origin():
        for name in ("host", "authorization", "cookie"):
            kept.pop(name, None)
    if code == 303 or (code in (301, 302) and request.method == "POST"):
        method = "HEAD" if request.method == "HEAD" else "GET"
        return Request(method, url, kept, b"")
    return Request(request.method, url, kept, request.body)


async def _exchange(settings: Settings, request: Request, deadline: Deadline) -> Answer:
    """One request and its answer, on a connection of their own."""
    deadline.connected, deadline.heard = False, ""
    sock = await _connect(settings, request.url, deadline)
    try:
        expires = None
        if request.url.scheme == "https":
            config = settings.tls_config or tls.TlsConfig()
            name = config.server_name or request.url.raw_host
            sock = secure = await sockets.secured(sock, tls.context(config), name, deadline)
            certificate = secure.getpeercert()
            expires = ssl.cert_time_to_seconds(str(certificate["notAfter"])) if certificate else None
        data = request.encode()
        await sockets.send(sock, data)
        deadline.sent = len(data)
        head, body = await _read(sock, request.method, deadline)
        return Answer(request.url, head, body, expires)
    finally:
        sock.close()


async def _connect(settings: Settings, url: URL, deadline: Deadline) -> socket.socket:
    """A connection that stands."""
    if settings.unix_socket is not None:
        try:
            return unix.connect(settings.unix_socket, deadline)
        except OSError as error:
            raise Found(unix.refused(settings.unix_socket, error)) from None
    assert url.raw_host is not None
    assert url.port is not None
    place = await sockets.resolve(url.raw_host, url.port, settings.preferred_ip_protocol, deadline)
    sock = sockets.begin(place, deadline)
    try:
        await sockets.connected(sock, deadline)
    except BaseException:
        sock.close()
        raise
    return sock


async def _read(sock: socket.socket, method: str, deadline: Deadline) -> tuple[RawResponseMessage, bytes]:
    """The answer's head and body. Raises `Found` where there is none, or not a whole one."""
    loop = asyncio.get_running_loop()
    # The limit is far above what is fed, so that the parser never asks to pause.
    parser = HttpResponseParser(
        BaseProtocol(loop),
        loop,
        BODY_LIMIT * 2,
        response_with_body=method != "HEAD",
        read_until_eof=True,
        auto_decompress=False,
    )
    head: RawResponseMessage | None = None
    try:
        while True:
            data = await sockets.receive(sock)
            if not data:
                parser.feed_eof()
            for message, payload in parser.feed_data(data)[0] if data else ():
                if message.code >= 200 or message.code == 101:  # an interim answer is not the answer
                    head, content = message, payload
                    deadline.heard = f"answered {head.code}, but not to the end"
            if head is not None and (content.is_eof() or content.total_bytes >= BODY_LIMIT or not data):
                return head, content.read_nowait()
            if not data:
                raise Found((Kind.WRONG, "closed the connection without an answer"))
    except HttpProcessingError as error:
        # The parser's own text quotes the answer.
        raise Found((Kind.WRONG, deadline.heard or f"no valid HTTP answer ({type(error).__name__})")) from None


def judge(settings: Settings, answer: Answer) -> Finding:
    """Whether an answer is the expected one."""
    wrong = _bad_status(settings, answer) or _bad_security(settings, answer) or _bad_headers(settings, answer)
    wrong = wrong or _bad_body(settings, answer)
    return (Kind.WRONG, wrong) if wrong else (Kind.ALIVE, f"answered {answer.head.code}")


def _bad_status(settings: Settings, answer: Answer) -> str:
    code = answer.head.code
    if settings.valid_status_codes:
        if code not in settings.valid_status_codes:
            return f"answered {code}, expected {' or '.join(map(str, settings.valid_status_codes))}"
    elif not 200 <= code <= 299:
        return f"answered {code}, expected 2xx"
    version = f"HTTP/{answer.head.version.major}.{answer.head.version.minor}"
    if settings.valid_http_versions and version not in settings.valid_http_versions:
        return f"answered in {version}, expected {' or '.join(settings.valid_http_versions)}"
    return ""


def _bad_security(settings: Settings, answer: Answer) -> str:
    secure = answer.url.scheme == "https"
    if settings.fail_if_ssl and secure:
        return "answered over TLS (fail_if_ssl)"
    if settings.fail_if_not_ssl and not secure:
        return "answered without TLS (fail_if_not_ssl)"
    least = settings.certificate_min_validity
    if least is None:
        return ""
    if answer.expires is None:
        return "answered without TLS (certificate_min_validity)"
    left = answer.expires - time.time()
    if left < least:
        return f"the certificate expires in {format_duration(max(left, 0.0))}, sooner than {format_duration(least)}"
    return ""


def _bad_headers(settings: Settings, answer: Answer) -> str:
    for match in settings.fail_if_header_matches:
        if _matches(answer, match, missing=not match.allow_missing):
            return f'the header {match.header} matches "{match.regexp}", or is missing'
    for match in settings.fail_if_header_not_matches:
        if not _matches(answer, match, missing=match.allow_missing):
            return f'the header {match.header} does not match "{match.regexp}", or is missing'
    return ""


def _matches(answer: Answer, match: HeaderMatch, *, missing: bool) -> bool:
    """Whether any value of the header matches; `missing` where there is none."""
    values = answer.head.headers.getall(match.header, [])
    return any(re.search(match.regexp, value) for value in values) if values else missing


def _bad_body(settings: Settings, answer: Answer) -> str:
    if not settings.fail_if_body_matches_regexp and not settings.fail_if_body_not_matches_regexp:
        return ""
    body = answer.body[:BODY_LIMIT].decode("utf-8", "replace")
    for expression in settings.fail_if_body_matches_regexp:
        if re.search(expression, body):
            return f'the body matches "{expression}"'
    for expression in settings.fail_if_body_not_matches_regexp:
        if not re.search(expression, body):
            return f'the body does not match "{expression}"'
    return ""
