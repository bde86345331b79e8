"""The snmp probe where it matters which process an agent speaks of: tables that are old, and agents that are stale."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests import servers
from tests.probes.asking import ask
from tests.servers import HRSWRUN_STATUS, SYS_UPTIME
from watchdog import target
from watchdog.demo import child
from watchdog.demo.agent import RAVENDB_PID
from watchdog.model import Epoch, Kind, Observation
from watchdog.probes import snmp
from watchdog.settings import Secret

OF_PROCESS = f"{HRSWRUN_STATUS}.{{pid}}"
HRSWRUN_INDEX = "1.3.6.1.2.1.25.4.2.1.1"  # followed by a PID, which is its value
PUBLIC, NARROW, AUTH = Secret(env="TEST_PUBLIC"), Secret(env="TEST_NARROW"), Secret(env="TEST_AUTH")
Given = dict[str, Any]


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch, snmpd: servers.Snmpd) -> None:
    monkeypatch.setenv("TEST_PUBLIC", snmpd.community)
    monkeypatch.setenv("TEST_NARROW", snmpd.narrow_community)
    monkeypatch.setenv("TEST_AUTH", snmpd.auth_password)


async def ask_of_us(agent: servers.Snmpd, **settings: Any) -> Observation:
    """What an agent says where this very process is the service."""
    return await ask("snmp", snmp.Settings(address=agent.address, **settings), target=Epoch(os.getpid(), 0))


# --- a table that may be older than the process -----------------------------------------------------------------------


@contextmanager
def newborn() -> Iterator[Epoch]:
    """A process that has just begun."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            yield Epoch(process.pid, target.start_time(process.pid))
        finally:
            process.kill()


async def until_listed(agent: servers.Snmpd, epoch: Epoch) -> None:
    """Until the agent's table has the process, which it reads anew each second."""
    settings = snmp.Settings(address=agent.address, oid=OF_PROCESS, community=PUBLIC)
    async with asyncio.timeout(10):
        while (await ask("snmp", settings, target=epoch)).kind is not Kind.ALIVE:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_what_a_table_says_against_a_young_process_is_our_own_error(snmpd: servers.Snmpd) -> None:
    settings = snmp.Settings(address=snmpd.address, oid=OF_PROCESS, community=PUBLIC, expect=(4,))
    with newborn() as epoch:
        await until_listed(snmpd, epoch)
        young = await ask("snmp", settings, target=epoch)
        old = await ask("snmp", settings, target=Epoch(epoch.pid, epoch.start_time - 36 * os.sysconf("SC_CLK_TCK")))
    assert (young.kind, old.kind) == (Kind.ERROR, Kind.WRONG)
    assert "the agent's table may be older than the process (" in young.reason


async def test_what_no_table_says_counts_of_a_young_process_too(snmpd: servers.Snmpd) -> None:
    settings = snmp.Settings(address=snmpd.address, oid=SYS_UPTIME, community=PUBLIC, expect=("never",))
    with newborn() as epoch:
        found = await ask("snmp", settings, target=epoch)
    assert found.kind is Kind.WRONG


# --- an agent that tells its process ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ravendb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[child.Service]:
    """A service that is its own agent and tells its own PID, as RavenDB does."""
    with child.service(tmp_path_factory.mktemp("ravendb")) as service:
        yield service


@pytest.mark.parametrize("version", ["1", "2c"])
async def test_an_agent_that_tells_of_the_service_is_a_witness(ravendb: child.Service, version: str) -> None:
    settings: Given = {"oid": SYS_UPTIME, "pid_oid": RAVENDB_PID, "version": version, "community": PUBLIC}
    found = await ask("snmp", snmp.Settings(address=ravendb.addresses.snmp, **settings), target=Epoch(ravendb.pid, 0))
    assert found.kind is Kind.ALIVE


@pytest.mark.parametrize("version", ["1", "2c"])
async def test_an_agent_that_tells_of_another_process_is_stale(ravendb: child.Service, version: str) -> None:
    settings: Given = {"oid": SYS_UPTIME, "pid_oid": f".{RAVENDB_PID}", "version": version, "community": PUBLIC}
    found = await ask("snmp", snmp.Settings(address=ravendb.addresses.snmp, **settings), target=Epoch(os.getpid(), 0))
    assert found.kind is Kind.WRONG
    assert found.reason == f"the agent tells of process {ravendb.pid}, the service is {os.getpid()}"


@pytest.mark.parametrize(
    ("version", "error"), [("1", "noSuchName"), ("2c", "noSuchInstance")], ids=["for the whole request", "for each"]
)
async def test_an_agent_that_does_not_tell_its_process_is_our_own_error(
    ravendb: child.Service, version: str, error: str
) -> None:
    settings: Given = {"oid": SYS_UPTIME, "pid_oid": "1.3.6.1.4.1.45751.9.9.0", "version": version}
    found = await ask(
        "snmp",
        snmp.Settings(address=ravendb.addresses.snmp, community=PUBLIC, **settings),
        target=Epoch(ravendb.pid, 0),
    )
    assert found.kind is Kind.ERROR
    assert found.reason.startswith(f"the agent does not tell its process at 1.3.6.1.4.1.45751.9.9.0 ({error})")


async def test_the_error_of_the_value_is_told_as_such_where_a_pid_is_asked_for(ravendb: child.Service) -> None:
    settings: Given = {"oid": "1.3.6.1.2.1.1.9.0", "pid_oid": RAVENDB_PID, "version": "1", "community": PUBLIC}
    found = await ask("snmp", snmp.Settings(address=ravendb.addresses.snmp, **settings), target=Epoch(ravendb.pid, 0))
    assert found.kind is Kind.ERROR
    assert found.reason.startswith("the agent shows no 1.3.6.1.2.1.1.9.0 (noSuchName)")


@pytest.mark.parametrize(
    "settings",
    [{"community": PUBLIC}, {"version": "3", "username": "watcher", "auth_password": AUTH}],
    ids=["v2c", "v3"],
)
async def test_an_agent_of_others_code_tells_of_a_process_too(snmpd: servers.Snmpd, settings: Given) -> None:
    with newborn() as epoch:
        await until_listed(snmpd, epoch)
        own: Given = {"oid": SYS_UPTIME, "pid_oid": f"{HRSWRUN_INDEX}.{epoch.pid}", **settings}
        same = await ask("snmp", snmp.Settings(address=snmpd.address, **own), target=epoch)
        other = await ask_of_us(snmpd, **own)
    assert (same.kind, other.kind) == (Kind.ALIVE, Kind.WRONG)
    assert other.reason == f"the agent tells of process {epoch.pid}, the service is {os.getpid()}"


async def test_a_pid_that_the_view_hides_is_our_own_error_with_the_line_to_add(snmpd: servers.Snmpd) -> None:
    found = await ask_of_us(snmpd, oid=SYS_UPTIME, pid_oid=f"{HRSWRUN_INDEX}.1", community=NARROW)
    assert found.kind is Kind.ERROR
    assert '"view systemonly included .1.3.6.1.2.1.25.4"' in found.reason
