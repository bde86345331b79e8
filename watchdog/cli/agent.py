"""The witness that `epoll-watchdog init` proposes: the SNMP agent of this host, if one tells of processes.

Rules of this file. It is asked as the daemon will ask it, with the community that is kept as the credential; of process
1, which every agent's table of processes has. Without a community it is asked whether it is there at all: an agent of
version 3 says to any user that it does not know him (RFC 3414, 3.2), and logs nothing. No community is guessed.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from watchdog.cli.tried import ask
from watchdog.model import Kind
from watchdog.probes.snmp import HRSWRUN
from watchdog.secret import CREDENTIALS, SecretUnreadable, reveal
from watchdog.settings import Secret

ADDRESS = "127.0.0.1:161"
CREDENTIAL = "snmp-community"
STATUS = f"{HRSWRUN}.2.1.7"  # hrSWRunStatus
RUNS = (1, 2)  # running, runnable
NOBODY = "epoll-watchdog-init"


class Agent(enum.StrEnum):
    """What there is."""

    TELLS = "tells"  # it answers with the credential, and shows the processes
    THERE = "there"  # it is there, and something lacks
    NONE = "none"  # nobody answers


@dataclass(frozen=True, slots=True)
class Witness:
    """The agent, and why it is no witness yet."""

    agent: Agent
    reason: str = ""


def witness_keys() -> Mapping[str, Any]:
    """The probe of a service, as the config has it."""
    return {
        "type": "snmp",
        "address": ADDRESS,
        "oid": f"{STATUS}.{{pid}}",
        "expect": RUNS,
        "community": {"credential": CREDENTIAL},
    }


async def witness() -> Witness:
    """Ask."""
    community = Secret(credential=CREDENTIAL)
    try:
        reveal(community)
    except SecretUnreadable:
        return await _without(f"its community is not in {CREDENTIALS / CREDENTIAL} (of root, mode 0600)")
    keys = {"address": ADDRESS, "oid": f"{STATUS}.1", "expect": RUNS, "community": community, "retries": 1}
    seen = await ask("snmp", keys)
    if seen.kind is Kind.ALIVE:
        return Witness(Agent.TELLS)
    if seen.kind in (Kind.WRONG, Kind.ERROR):
        return Witness(Agent.THERE, seen.reason)
    return await _without(f"it does not answer with the community in {CREDENTIALS / CREDENTIAL}")


async def _without(reason: str) -> Witness:
    seen = await ask(
        "snmp", {"address": ADDRESS, "oid": f"{STATUS}.1", "version": "3", "username": NOBODY, "retries": 1}
    )
    if seen.kind in (Kind.ALIVE, Kind.WRONG, Kind.ERROR):
        return Witness(Agent.THERE, reason)
    return Witness(Agent.NONE, f"no agent answers at {ADDRESS}")
