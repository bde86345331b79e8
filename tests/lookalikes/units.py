"""A unit and the daemon that guards it, inside a booted systemd; the daemon's API is asked from outside.

The machine has a network namespace of its own: a socket belongs to the namespace that the thread was in which made it
(setns(2), network_namespaces(7)), so a short-lived thread makes the connection and goes.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lookalikes.programs import ROOT
from tests.lookalikes.watched import DARK_FOR, NAME, PACE
from tests.systemd.machine import Machine, booted
from watchdog.demo.child import NoAnswer

CLONE_NEWNET = 0x40000000
LISTEN = ("127.0.0.1", 19797)
PORT = 17001
UNIT = "lookalike.service"
DAEMON = "guarding-lookalike.service"
_libc = ctypes.CDLL(None, use_errno=True)

GUARDED = f"""
[Service]
RuntimeDirectory=lookalike
ExecStartPre=/bin/sleep 2
ExecStart={sys.executable} -m watchdog.demo.service --dir /run/lookalike --port {PORT} --snmp-port {PORT}
WorkingDirectory={ROOT}
"""
GUARDING = f"""
[Service]
Type=notify
ExecStart={sys.executable} -m watchdog run --config /run/guarding/config.toml
WorkingDirectory={ROOT}
"""
CONFIG = f"""
state_directory = "/run/guarding"
http = {{ listen = "{LISTEN[0]}:{LISTEN[1]}" }}
[service.{NAME}]
unit = "{UNIT}"
{PACE}dark_for = "{DARK_FOR}"
[service.{NAME}.probe.tcp]
type = "tcp"
address = "127.0.0.1:{PORT}"
send = "ping\\n"
expect = "pong"
[service.{NAME}.probe.snmp]
type = "snmp"
address = "127.0.0.1:{PORT}"
oid = "1.3.6.1.2.1.1.3.0"
strength = "inside"
community = {{ file = "/run/guarding/community" }}
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """As `Watched` has it, of a unit in the machine."""

    machine: Machine

    def service(self) -> Mapping[str, Any]:
        """As `Watched` has it."""
        [view] = self._api("services")
        return view

    def incidents(self) -> list[Mapping[str, Any]]:
        """As `Watched` has it."""
        return self._api("incidents")

    def restarts(self) -> int:
        """Only ours: an operator restarts it, too."""
        records = (record["kind"] for incident in self.incidents() for record in incident["timeline"])
        return sum(kind == "restarted" for kind in records)

    def said(self) -> str:
        """As `Watched` has it."""
        return self.machine.run("journalctl", "--unit", DAEMON, "--output", "cat", check=False).stdout

    def _api(self, what: str) -> list[Mapping[str, Any]]:
        with ThreadPoolExecutor(1) as thread:
            text = thread.submit(_get, self.machine.leader, f"/api/v1/{what}").result()
        return json.loads(text)[what]  # type: ignore[no-any-return]


def _get(leader: int, path: str) -> bytes:
    """Ask the daemon in the network namespace of this process. The thread that calls stays in it."""
    namespace = os.open(f"/proc/{leader}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(namespace, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(namespace)
    with closing(http.client.HTTPConnection(*LISTEN, timeout=2)) as connection:
        try:
            connection.sock = socket.create_connection(LISTEN, 2)
            connection.request("GET", path)
            return connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"GET {path}: {error}") from error


@contextmanager
def guarded_unit(directory: Path) -> Iterator[Unit]:
    """A machine with the demo's service as a unit that takes 2 s to start, and the daemon beside it."""
    base = directory / "machine"
    base.mkdir()
    with booted(base) as machine:
        machine.run("mkdir", "-p", "-m", "700", "/run/guarding")
        machine.write_file("/run/guarding/community", "public\n", 0o600)
        machine.write_file("/run/guarding/config.toml", CONFIG, 0o600)
        machine.add_unit(UNIT, GUARDED, start=True)
        machine.add_unit(DAEMON, GUARDING, start=True)
        yield Unit(machine)
