"""The channels: how a word from the config becomes a road to people. A new one is a file, a line here and a test.

Importing this imports no HTTP client; `open` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from watchdog.alerts import alertmanager, email, pagerduty, slack, webhook
from watchdog.alerts import exec as command
from watchdog.alerts.delivery import Channel


@dataclass(frozen=True, slots=True)
class ChannelType:
    """`settings`: the dataclass of a `[channel.NAME]` table, less its `type`. `open` is given one of them."""

    settings: type[Any]
    open: Callable[[Any], Channel]


CHANNELS: Mapping[str, ChannelType] = MappingProxyType(
    {
        "webhook": ChannelType(webhook.Settings, webhook.Webhook),
        "alertmanager": ChannelType(alertmanager.Settings, alertmanager.Alertmanager),
        "pagerduty": ChannelType(pagerduty.Settings, pagerduty.PagerDuty),
        "slack": ChannelType(slack.Settings, slack.Slack),
        "email": ChannelType(email.Settings, email.Email),
        "exec": ChannelType(command.Settings, command.Exec),
    }
)
