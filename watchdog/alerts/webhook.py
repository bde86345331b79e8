"""The channel `webhook`: a POST of JSON, signed as Standard Webhooks 1.0 says where a secret is set.

Rules of this file: the URL, the secret and the headers are credentials, and show up in no error, log, metric or repr;
so no error quotes what a library or the receiver wrote (both repeat URLs). A redirect is not followed: it would carry
the message, and its signature, to somebody whom nobody named. Of the answer only the status counts; at most `ANSWER`
bytes of its body are read.

The body's fields are told in `body`; `VERSION` changes when one of them changes its meaning or goes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from watchdog import __version__
from watchdog.alerts.delivery import Delivered, Failed
from watchdog.model import Severity
from watchdog.secret import SecretUnreadable, reveal
from watchdog.settings import Seconds, Secret, format_duration

if TYPE_CHECKING:
    import aiohttp

    from watchdog.store import Letter

VERSION = "1"
ANSWER = 16384
RETRIED = frozenset({408, 425, 429})  # of the 4xx: too slow, too early, too many
OWN_HEADERS = re.compile(
    r"(?i)content-(type|length|encoding)|transfer-encoding|host|connection|idempotency-key|webhook-.*"
)


class Unusable(ValueError):
    """A setting can't be used. The text says which and why, and never its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A `[channel.NAME]` table with `type = "webhook"`."""

    url: str | Secret = field(repr=False)
    secret: Secret | None = None  # signs; "whsec_" and base64, or any text
    timeout: Seconds = 10.0  # of one attempt, from the look-up of the name to the status line
    headers: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    ca_file: str | None = None  # PEM; the receiver's certificate must come from it, not from the system's CAs
    min_severity: Severity = Severity.INFO
    services: tuple[str, ...] = ()  # empty: all
    send_resolved: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.url, str):
            _check_url(self.url)
        if self.timeout <= 0:
            raise Unusable('timeout: must be longer than nothing, such as "10s"')
        for name, value in self.headers.items():
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise Unusable(f"headers: {name!r} is no name of a header (RFC 9110, 5.1)")
            if OWN_HEADERS.fullmatch(name):
                raise Unusable(f"headers: {name} is set by epoll-watchdog itself; leave it out")
            if isinstance(value, str) and not _is_header_value(value):
                raise Unusable(f"headers: the value of {name} has a line break or another control character")


def _check_url(url: str) -> None:
    """Raises `Unusable`."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise Unusable('url: must be like "https://alerts.example.org/hook" (the value is not shown, it is a secret)')


def _is_header_value(value: str) -> bool:
    return not any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in value)


class Webhook:
    """One receiver. Its HTTP session is made at the first letter and lives until `close`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None
        self._host = socket.gethostname()

    async def send(self, letter: Letter) -> Delivered | Failed:
        """One attempt. 2xx delivers; a time-out, a broken connection, 5xx, 408, 425 and 429 are worth another one."""
        import aiohttp

        try:
            return await self._post(letter)
        except TimeoutError:
            return Failed(retry=True, error=f"no answer within {format_duration(self._settings.timeout)}")
        except (SecretUnreadable, Unusable) as error:
            return Failed(retry=True, error=str(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Failed(retry=True, error=_words(error))

    async def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, letter: Letter) -> Delivered | Failed:
        settings = self._settings
        url = settings.url if isinstance(settings.url, str) else reveal(settings.url)
        _check_url(url)
        content = body(letter, self._host)
        headers = {name: value if isinstance(value, str) else reveal(value) for name, value in settings.headers.items()}
        headers |= {"Content-Type": "application/json", "Idempotency-Key": message_id(letter)}
        if settings.secret is not None:
            headers |= signature(reveal(settings.secret), message_id(letter), int(time.time()), content)
        async with asyncio.timeout(settings.timeout):
            response = await self._open().post(url, data=content, headers=headers, allow_redirects=False)
        try:
            with contextlib.suppress(Exception):  # only so that the receiver can end what it writes
                async with asyncio.timeout(1.0):
                    await response.content.read(ANSWER)
            return _result(response.status, response.headers.get("Retry-After", ""))
        finally:
            response.close()

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            ca_file = self._settings.ca_file
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    force_close=True,  # messages are rare: a kept connection would only go stale
                    ssl=ssl.create_default_context(cafile=ca_file) if ca_file is not None else True,
                ),
                headers={"User-Agent": f"epoll-watchdog/{__version__}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        return self._session


# --- what is said -----------------------------------------------------------------------------------------------------


def message_id(letter: Letter) -> str:
    """The idempotency key: the incident's id and the letter's, the same in each attempt and for no other message."""
    return f"{letter.incident}.{letter.id}"


def body(letter: Letter, host: str) -> bytes:
    """The JSON of one letter. `incident` ties together the messages of one incident, `id` tells them apart."""
    told = letter.payload
    since = told.get("since")
    content: dict[str, Any] = {
        "version": VERSION,
        "id": message_id(letter),
        "incident": letter.incident,
        "kind": letter.kind,
        "severity": letter.severity,
        "time": _rfc3339(letter.created),
        "host": host,
        "service": letter.service,
        "verdict": told.get("verdict"),
        "certainty": told.get("certainty"),
        "reasons": told.get("reasons", []),
        "since": _rfc3339(since) if since is not None else None,
        "text": told.get("text", ""),
        "labels": told.get("labels", {}),
        "annotations": told.get("annotations", {}),
        "detail": told.get("detail", {}),
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str).encode()


def _rfc3339(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")


def signature(secret: str, message: str, timestamp: int, content: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks 1.0: HMAC-SHA256 over id, time and body. Raises `Unusable`."""
    key = secret.encode()
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            raise Unusable('the secret begins with "whsec_", and what follows is no base64') from None
    signed = hmac.new(key, f"{message}.{timestamp}.".encode() + content, hashlib.sha256).digest()
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }


# --- what came of it --------------------------------------------------------------------------------------------------


def _result(status: int, retry_after: str) -> Delivered | Failed:
    if 200 <= status < 300:
        return Delivered()
    if 300 <= status < 400:
        return Failed(retry=False, error=f"answered {status}, a redirect: configure the URL that it leads to")
    retry = status >= 500 or status in RETRIED
    return Failed(retry=retry, error=f"answered {status}", after=_seconds(retry_after))


def _seconds(retry_after: str) -> float | None:
    """Of a Retry-After header: seconds or a date (RFC 9110, 10.2.3)."""
    if re.fullmatch(r"[0-9]{1,9}", retry_after):
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if at.tzinfo is None:  # RFC 5322 writes "-0000" for it
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _words(error: Exception) -> str:
    """What went wrong in our own words: a library's may quote the URL."""
    import aiohttp

    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or "wrong name"
            return f"its certificate is not trusted: {reason}"
        case aiohttp.ClientConnectorDNSError():
            return "the name of its host could not be resolved"
        case aiohttp.ClientSSLError():
            return "the TLS handshake failed"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without an answer"
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return "its answer is no HTTP"
        case OSError():
            return f"connection failed: {os.strerror(error.errno) if error.errno else 'unreachable'}"
        case _:
            return f"the request could not be made ({type(error).__name__})"
