"""The channel `pagerduty`: events for PagerDuty's Events API v2, one alert there for an incident.

Rules of this file: the routing key, the URL and the headers are credentials (`outgoing.py`). An alert is known by the
incident's id, so each later event of it is added to the same alert, and wakes nobody anew. Acknowledged and resolved is
only what was triggered.

developer.pagerduty.com/docs/events-api-v2-overview; github.com/PagerDuty/developer-docs, docs/events-API-v2.
"""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from watchdog.alerts import alert, answers
from watchdog.alerts.delivery import Delivered, Failed
from watchdog.alerts.message import Message, cut, facts
from watchdog.alerts.outgoing import Answer, Sender, check_url, value_of
from watchdog.alerts.routing import HttpRouting, Routing
from watchdog.alerts.template import Wording
from watchdog.clock import rfc3339
from watchdog.model import RecordKind, Severity
from watchdog.secret import reveal
from watchdog.settings import Secret

if TYPE_CHECKING:
    from watchdog.store import Letter

URL = "https://events.pagerduty.com/v2/enqueue"
SUMMARY = 1024  # characters, of `payload.summary`
ACTIONS = {RecordKind.RESOLVED: "resolve", RecordKind.ACKNOWLEDGED: "acknowledge"}  # of all others: trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(HttpRouting):
    """A `[channel.NAME]` table with `type = "pagerduty"`."""

    routing_key: Secret
    url: str | Secret = field(default=URL, repr=False)
    min_severity: Severity = Severity.CRITICAL
    title: str | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        HttpRouting.__post_init__(self)
        if isinstance(self.url, str):
            check_url(self.url, URL)
        Wording(self.title, self.body).check()

    def wants(self, service: str, kind: RecordKind, severity: Severity) -> bool:
        """What triggers."""
        return kind not in ACTIONS and Routing.wants(self, service, kind, severity)

    def wants_end(self, service: str, kind: RecordKind) -> bool:
        """An acknowledgement too is for whoever was told of the incident, however little it weighs."""
        if kind is not RecordKind.ACKNOWLEDGED:
            return Routing.wants_end(self, service, kind)
        mine = not self.services or service in self.services
        return mine and (not self.events or kind in self.events)


class PagerDuty:
    """One integration of a PagerDuty service."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sender = Sender(settings.timeout, settings.ca_file, settings.proxy)
        self._wording = Wording(settings.title, settings.body)
        self._host = socket.gethostname()

    async def send(self, letter: Letter) -> Delivered | Failed:
        """One attempt. PagerDuty answers 202 to what it took, 400 to what it never will."""
        if not alert.tells(letter):
            return Delivered()
        return await answers.attempt(self._post(letter))

    async def _post(self, letter: Letter) -> Answer:
        settings = self._settings
        said = await self._wording.of(letter, self._host)
        url = value_of(settings.url)
        check_url(url, URL)
        headers = {name: value_of(value) for name, value in settings.headers.items()}
        content = json.dumps({"routing_key": reveal(settings.routing_key)} | body(letter, said, self._host)).encode()
        return await self._sender.post(url, content, headers | {"Content-Type": "application/json"})

    async def close(self) -> None:
        """Close the session."""
        await self._sender.close()


def body(letter: Letter, said: Message, host: str) -> dict[str, Any]:
    """The event, less its routing key."""
    known = facts(letter, host)
    kind = RecordKind(letter.kind) if letter.kind in set(RecordKind) else None
    severity = Severity(letter.severity) if letter.severity in set(Severity) else Severity.WARNING
    told = {name: fact for name, fact in asdict(known).items() if fact not in ("", (), None, {})}
    event: dict[str, Any] = {
        "event_action": "trigger" if kind is None else ACTIONS.get(kind, "trigger"),
        "dedup_key": letter.incident or letter.message_id,
        "client": "epoll-watchdog",
        "payload": {
            "summary": cut(said.title, SUMMARY),
            "source": host,
            "severity": str(severity),  # PagerDuty's "error" is none of ours
            "timestamp": rfc3339(letter.created),
            "component": letter.service,
            **({"class": known.verdict} if known.verdict else {}),
            "custom_details": told | {"text": said.text},
        },
    }
    if known.runbook_url.startswith(("https://", "http://")):
        event["links"] = [{"href": known.runbook_url, "text": "runbook"}]
    return event
