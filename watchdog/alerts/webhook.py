"""The channel `webhook`: a POST of JSON, signed as Standard Webhooks 1.0 says where a secret is set.

Rules of this file: the URL, the secret and the headers are credentials, and show up in no error, log, metric or repr
(`outgoing.py` keeps this up in all that may go wrong on the way). Of the answer only the status counts.

The body's fields are told in `body`; `VERSION` changes when one of them changes its meaning or goes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from watchdog.alerts.delivery import Delivered, Failed
from watchdog.alerts.outgoing import Sender, Undelivered, Unusable, check_url, value_of
from watchdog.alerts.routing import HttpRouting
from watchdog.secret import SecretUnreadable, reveal
from watchdog.settings import Secret

if TYPE_CHECKING:
    from watchdog.store import Letter

VERSION = "1"
URL = "https://alerts.example.org/hook"
RETRIED = frozenset({408, 425, 429})  # of the 4xx: too slow, too early, too many


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(HttpRouting):
    """A `[channel.NAME]` table with `type = "webhook"`."""

    url: str | Secret = field(repr=False)
    secret: Secret | None = None  # signs; "whsec_" and base64, or any text

    def __post_init__(self) -> None:
        HttpRouting.__post_init__(self)
        if isinstance(self.url, str):
            check_url(self.url, URL)


class Webhook:
    """One receiver."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sender = Sender(settings.timeout, settings.ca_file, settings.proxy)
        self._host = socket.gethostname()

    async def send(self, letter: Letter) -> Delivered | Failed:
        """One attempt. 2xx delivers; a time-out, a broken connection, 5xx, 408, 425 and 429 are worth another one."""
        settings = self._settings
        try:
            url = value_of(settings.url)
            check_url(url, URL)
            content = body(letter, self._host)
            headers = {name: value_of(value) for name, value in settings.headers.items()}
            headers |= {"Content-Type": "application/json", "Idempotency-Key": message_id(letter)}
            if settings.secret is not None:
                headers |= signature(reveal(settings.secret), message_id(letter), int(time.time()), content)
            answer = await self._sender.post(url, content, headers)
        except (Undelivered, SecretUnreadable, Unusable) as error:
            return Failed(retry=True, error=str(error))
        except (OSError, ValueError) as error:  # whose text may quote what it was about
            return Failed(retry=True, error=f"the request could not be made ({type(error).__name__})")
        return _result(answer.status, answer.retry_after)

    async def close(self) -> None:
        """Close the session."""
        await self._sender.close()


# --- what is said -----------------------------------------------------------------------------------------------------


def message_id(letter: Letter) -> str:
    """The idempotency key: the same in each attempt, and of no other message."""
    return letter.message_id


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
        "merged": letter.merged,
        "times_30d": told.get("times_30d"),
        "done": [{**each, "at": _rfc3339(each["at"])} for each in told.get("done", [])],
        "kernel": told.get("kernel", []),
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
