"""The roads to a service: one file a kind of probe, found here by the config's `type`.

A probe is three functions beside its `Settings`: `probe` asks once and never raises, `road` tells the diagnosis what
its word weighs, `warnings` tells an operator what to know. What two kinds share stands in a file named for it.
Importing this package loads neither aiohttp nor pysnmp: each is loaded by the first probe that needs it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from watchdog.model import Epoch, Observation, Road
from watchdog.probes import command, cpu, file, http, journal, snmp, tcp, tls, unix
from watchdog.probes.deadline import Deadline


@dataclass(frozen=True, slots=True)
class ProbeType:
    """One kind of probe. `settings` is a frozen dataclass; the functions take an instance of it.

    `listener` tells how the kernel may write the address of the listening socket that is asked, if it is of this host.
    `prepare` may be called before the loop runs: it loads what the first probe would else load in it, for up to 0.4 s.
    """

    settings: type[Any]
    probe: Callable[[Any, Epoch | None, Deadline], Awaitable[Observation]]
    road: Callable[[Any], Road]
    warnings: Callable[[Any], tuple[str, ...]]
    prepare: Callable[[Any], None] = lambda _settings: None
    listener: Callable[[Any], tuple[str, ...]] = lambda _settings: ()


PROBES: Mapping[str, ProbeType] = {
    "tcp": ProbeType(tcp.Settings, tcp.probe, tcp.road, tcp.warnings, listener=tcp.listener),
    "unix": ProbeType(unix.Settings, unix.probe, unix.road, unix.warnings, listener=unix.listener),
    "http": ProbeType(http.Settings, http.probe, http.road, http.warnings, http.prepare, http.listener),
    "snmp": ProbeType(snmp.Settings, snmp.probe, snmp.road, snmp.warnings, snmp.prepare),
    "journal": ProbeType(journal.Settings, journal.probe, journal.road, journal.warnings, journal.prepare),
    "cpu": ProbeType(cpu.Settings, cpu.probe, cpu.road, cpu.warnings),
    "file": ProbeType(file.Settings, file.probe, file.road, file.warnings),
    "exec": ProbeType(command.Settings, command.probe, command.road, command.warnings),
}


async def close() -> None:
    """Release what probes keep: at shutdown, and at a reload, for the files behind settings may have changed."""
    tls.forget()
    journal.close()
    cpu.close()
    file.close()
    await command.close()
