"""The channel `slack`: an incoming webhook of Slack, or of Mattermost, which takes the same.

Rules of this file: the URL is a credential (`outgoing.py` keeps it out of everything). What a service or its config
says is text and no markup: it can neither mention anybody nor make a link; only `mentions` can.
docs.slack.dev, "Formatting message text"; docs.mattermost.com, "Incoming webhooks".
"""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from watchdog.alerts import answers
from watchdog.alerts.delivery import Delivered, Failed
from watchdog.alerts.message import Message
from watchdog.alerts.outgoing import Answer, Sender, check_url, value_of
from watchdog.alerts.routing import HttpRouting
from watchdog.alerts.template import Wording
from watchdog.model import RecordKind, Severity
from watchdog.settings import Secret

if TYPE_CHECKING:
    from watchdog.store import Letter

URL = "https://hooks.slack.com/services/T000/B000/XXXX"
COLOURS = {Severity.INFO: "#439fe0", Severity.WARNING: "#daa038", Severity.CRITICAL: "#a30200"}
RESOLVED = "#2eb886"
NOT_JOINED = "\u2060"  # word joiner: seen by nobody, and "@channel" with it mentions nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(HttpRouting):
    """A `[channel.NAME]` table with `type = "slack"`."""

    url: str | Secret = field(repr=False)
    min_severity: Severity = Severity.WARNING
    mentions: tuple[str, ...] = ()  # "<!here>", "<@U012AB3CD>"; for Mattermost "@here", "@name"
    title: str | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        HttpRouting.__post_init__(self)
        if isinstance(self.url, str):
            check_url(self.url, URL)
        Wording(self.title, self.body).check()


class Slack:
    """One Slack or Mattermost channel."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sender = Sender(settings.timeout, settings.ca_file, settings.proxy)
        self._wording = Wording(settings.title, settings.body)
        self._host = socket.gethostname()

    async def send(self, letter: Letter) -> Delivered | Failed:
        """One attempt."""
        return await answers.attempt(self._post(letter))

    async def _post(self, letter: Letter) -> Answer:
        settings = self._settings
        said = await self._wording.of(letter, self._host)
        url = value_of(settings.url)
        check_url(url, URL)
        headers = {name: value_of(value) for name, value in settings.headers.items()}
        content = json.dumps(body(letter, said, settings)).encode()
        return await self._sender.post(url, content, headers | {"Content-Type": "application/json"})

    async def close(self) -> None:
        """Close the session."""
        await self._sender.close()


def body(letter: Letter, said: Message, settings: Settings) -> dict[str, Any]:
    """The title is the message, which a phone shows; the text hangs on it, with the severity's colour at its side."""
    severity = Severity(letter.severity) if letter.severity in set(Severity) else Severity.WARNING
    resolved = letter.kind == RecordKind.RESOLVED
    wakes = severity is not Severity.INFO and not resolved
    text = plain(said.text)
    if settings.body is None:  # it is set in columns
        text = "```\n" + text.replace("```", "'''") + "\n```"
    return {
        "text": " ".join([*(settings.mentions if wakes else ()), plain(said.title)]),
        "attachments": [
            {
                "fallback": plain(said.title),
                "color": RESOLVED if resolved else COLOURS[severity],
                "text": text,
                "mrkdwn_in": ["text"],
            }
        ],
    }


def plain(text: str) -> str:
    """The text as text: the three characters of Slack's markup escaped, all Mattermost's mentions taken apart."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"@(?=\w)", f"@{NOT_JOINED}", escaped)
