"""The channel `webhook`: a POST of JSON, signed as Standard Webhooks 1.0 says where a secret is set.

`format = "alertmanager"` sends what Alertmanager would, for receivers that were written for it (`alert_body`).

Rules of this file: the URL, the secret and the headers are credentials, and show up in no error, log, metric or repr
(`outgoing.py` keeps this up in all that may go wrong on the way). Of the answer only the status counts.

The body's fields are told in `body`; `VERSION` changes when one of them changes its meaning or goes.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from watchdog.alerts import alert, answers
from watchdog.alerts.delivery import Delivered, Failed
from watchdog.alerts.message import TEST
from watchdog.alerts.outgoing import Answer, Sender, Unusable, check_url, value_of
from watchdog.alerts.routing import HttpRouting
from watchdog.clock import rfc3339
from watchdog.secret import reveal
from watchdog.settings import Secret

if TYPE_CHECKING:
    from watchdog.store import Letter

VERSION = "1"
ALERTMANAGER_VERSION = "4"
NEVER = "0001-01-01T00:00:00Z"  # Go's zero time: Alertmanager's `endsAt` of what fires
URL = "https://alerts.example.org/hook"


class Format(enum.StrEnum):
    """What the body is."""

    JSON = "json"  # our own
    ALERTMANAGER = "alertmanager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(HttpRouting):
    """A `[channel.NAME]` table with `type = "webhook"`."""

    url: str | Secret = field(repr=False)
    secret: Secret | tuple[Secret, ...] | None = None  # signs; "whsec_" and base64, or any text. Of several, each signs
    format: Format = Format.JSON

    def __post_init__(self) -> None:
        HttpRouting.__post_init__(self)
        if isinstance(self.url, str):
            check_url(self.url, URL)
        if self.secret == ():
            raise Unusable("secret: an empty list signs nothing; name a secret, or leave the key out")


class Webhook:
    """One receiver."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sender = Sender(settings.timeout, settings.ca_file, settings.proxy)
        self._host = socket.gethostname()

    async def send(self, letter: Letter) -> Delivered | Failed:
        """One attempt. 2xx delivers; a time-out, a broken connection, 5xx, 408, 425 and 429 are worth another one."""
        if self._settings.format is Format.ALERTMANAGER and not alert.tells(letter):
            return Delivered()
        return await answers.attempt(self._post(letter))

    async def _post(self, letter: Letter) -> Answer:
        settings = self._settings
        url = value_of(settings.url)
        check_url(url, URL)
        content = self._body(letter)
        headers = {name: value_of(value) for name, value in settings.headers.items()}
        headers |= {"Content-Type": "application/json", "Idempotency-Key": message_id(letter)}
        if secrets := _several(settings.secret):
            headers |= signature([reveal(each) for each in secrets], message_id(letter), int(time.time()), content)
        return await self._sender.post(url, content, headers)

    async def close(self) -> None:
        """Close the session."""
        await self._sender.close()

    def _body(self, letter: Letter) -> bytes:
        return (alert_body if self._settings.format is Format.ALERTMANAGER else body)(letter, self._host)


def _several(secret: Secret | tuple[Secret, ...] | None) -> tuple[Secret, ...]:
    if secret is None:
        return ()
    return secret if isinstance(secret, tuple) else (secret,)


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
        "time": rfc3339(letter.created),
        "host": host,
        "service": letter.service,
        "verdict": told.get("verdict"),
        "certainty": told.get("certainty"),
        "reasons": told.get("reasons", []),
        "since": rfc3339(since) if since is not None else None,
        "text": told.get("text", ""),
        "merged": letter.merged,
        "times_30d": told.get("times_30d"),
        "done": [{**each, "at": rfc3339(each["at"])} for each in told.get("done", [])],
        "kernel": told.get("kernel", []),
        "labels": told.get("labels", {}),
        "annotations": told.get("annotations", {}),
        "detail": told.get("detail", {}),
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str).encode()


def alert_body(letter: Letter, host: str) -> bytes:
    """The same for a receiver of Alertmanager's webhooks, version 4: a group of the incident's alerts.

    prometheus.io/docs/alerting/latest/configuration, "webhook_config".
    """
    names = [alert.TRIED] if letter.kind == TEST else [alert.INCIDENT]
    if alert.is_critical(letter):
        names.append(alert.UNHEALED)
    over, notes = alert.is_resolved(letter), alert.notes(letter, host)
    status = "resolved" if over else "firing"
    alerts = [
        {
            "status": status,
            "labels": (labels := alert.labels(letter, host, name)),
            "annotations": notes,
            "startsAt": rfc3339(alert.began(letter)),
            "endsAt": rfc3339(letter.created) if over else NEVER,
            "generatorURL": "",
            "fingerprint": alert.fingerprint(labels),
        }
        for name in names
    ]
    all_labels = [alert.labels(letter, host, name).items() for name in names]
    group = {"instance": host, "name": letter.service}
    key = ", ".join(f"{name}={json.dumps(word, ensure_ascii=False)}" for name, word in group.items())
    content: dict[str, Any] = {
        "version": ALERTMANAGER_VERSION,
        "groupKey": f"{{}}:{{{key}}}",
        "truncatedAlerts": 0,
        "status": status,
        "receiver": letter.channel,
        "groupLabels": group,
        "commonLabels": dict(item for item in all_labels[0] if all(item in others for others in all_labels)),
        "commonAnnotations": notes,
        "externalURL": "",
        "alerts": alerts,
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def signature(secrets: Sequence[str], message: str, timestamp: int, content: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks 1.0: HMAC-SHA256 over id, time and body; of several secrets each signs, so
    one can be replaced without a message lost. Raises `Unusable`.
    """
    signed = f"{message}.{timestamp}.".encode() + content
    codes = [hmac.new(_key(secret), signed, hashlib.sha256).digest() for secret in secrets]
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(code).decode()}" for code in codes),
    }


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise Unusable('the secret begins with "whsec_", and what follows is no base64') from None
