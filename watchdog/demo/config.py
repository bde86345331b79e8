"""The demo's configuration of the daemon: all that a user would write, and no more."""

from __future__ import annotations

import os
from pathlib import Path

from watchdog.demo.agent import RAVENDB_PID
from watchdog.demo.child import Addresses

COMMUNITY = "demo"
SERVICE = "demo"

CONFIG = """\
state_directory = "{directory}/state"

[http]
listen = "{listen}"

[service.{service}]
pidfile = "{pidfile}"
interval = "500ms"
timeout = "500ms"
ladder = {{ epoll_stall = ["nudge", "nudge", "alert"], hung = ["nudge", "alert"] }}
budget = {{ nudge = {{ burst = 100000, interval = "1h" }} }}   # a real service keeps its 5 an hour

[service.{service}.probe.tcp]
type = "tcp"
address = "{tcp}"
send = "ping\\n"
expect = "pong"

[service.{service}.probe.http]
type = "http"
url = "http://{tcp}/"

[service.{service}.probe.unix]
type = "unix"
path = "{unix}"
send = "ping\\n"
expect = "pong"

[service.{service}.probe.snmp]
type = "snmp"
address = "{snmp}"
oid = "{oid}"
pid_oid = "{oid}"
community = {{ file = "{directory}/community" }}
strength = "inside"

[channel.receiver]
type = "webhook"
url = "{webhook}"
"""


def write_config(directory: Path, service: Addresses, listen: str, webhook: str) -> Path:
    """Write what the daemon needs into `directory`; `listen` is its HTTP address. Returns the config's path."""
    (directory / "state").mkdir(mode=0o700)
    community = os.open(directory / "community", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(community, "w") as file:
        file.write(f"{COMMUNITY}\n")
    path = directory / "config.toml"
    path.write_text(
        CONFIG.format(
            directory=directory,
            listen=listen,
            service=SERVICE,
            pidfile=service.pidfile,
            tcp=service.tcp,
            unix=service.unix,
            snmp=service.snmp,
            oid=RAVENDB_PID,
            webhook=webhook,
        )
    )
    return path
