"""`epoll-watchdog init`: a first configuration, made of what listens on this host."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from watchdog.config import DEFAULT_FILE

if TYPE_CHECKING:
    from watchdog.cli.first_config import First
    from watchdog.cli.survey import Survey

MODE = 0o644  # as the package's own: no secret is in it, and the daemon's user reads it


class NotMade(click.ClickException):
    """There is no configuration; the text says why, and what would help."""

    exit_code = 1


@click.command()
@click.argument("units", metavar="[UNIT]...", nargs=-1)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write this file, instead of printing it."
)
@click.option("--force", is_flag=True, help="Replace the file, if it exists.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="Leave out the units that this one guards already, or a conf.d/*.toml beside it.",
)
@click.option("--json", "as_json", is_flag=True, help="Tell in JSON what was found, and write nothing.")
def command(units: tuple[str, ...], output: Path | None, force: bool, config: Path, as_json: bool) -> None:
    """Write a first configuration, made of what listens here.

    It looks which units of systemd run and at which sockets they listen, and proposes a service for each, in mode
    observe, with the probes that fit: a protocol where the program or the port tells which, and only a connection
    where nothing better is known. A host's snmpd that tells of processes is their witness. Comments give the reason for
    each choice, and at the end stands what was left out, and why. With UNIT (its suffix may be left out) only these are
    proposed.

    Each probe is asked once before it is written, as epoll-watchdog check does. Nothing else is touched. Who is not
    root sees only the sockets of his own processes, and is told of the others.

    \b
    Exit status:
      0  a configuration was written, or printed
      1  it was not: the file exists, nothing listens, or systemd can't be asked
      2  wrong usage, or no such unit

    \b
    Examples:
      epoll-watchdog init
      epoll-watchdog init --output /etc/epoll-watchdog/conf.d/services.toml
      epoll-watchdog init nginx redis-server
    """
    if as_json and output is not None:
        raise click.UsageError("--json writes no file.")
    if force and output is None:
        raise click.UsageError("--force goes with --output.")
    if output is not None and not force and os.path.lexists(output):
        raise _exists(output)
    first = _first(units, config, output)
    if as_json:
        click.echo(json.dumps(_as_json(first), indent=2))
        return
    if not first.services:
        raise NotMade(_nothing(first))
    from watchdog.cli.first_config import text

    if output is None:
        click.echo(text(first), nl=False)
        return
    write(output, text(first), force=force)
    click.echo(_told(first, output))


def _first(units: tuple[str, ...], config: Path, output: Path | None) -> First:
    from watchdog import probes
    from watchdog.cli.agent import witness
    from watchdog.cli.first_config import First
    from watchdog.cli.proposed import proposed
    from watchdog.cli.survey import survey
    from watchdog.cli.tried import ready
    from watchdog.probes import PROBES
    from watchdog.systemd import Bus, BusUnavailable, CallError, run_on_poll

    guarded, taken = _guarded(config, output)

    async def look() -> First:
        async with Bus() as bus:
            found = await survey(bus)
        chosen = proposed(found, guarded, taken, _wanted(units, found))
        for kind in ("http", "snmp"):  # both take a while to load, which must not make an answer late
            PROBES[kind].prepare(_anything(kind))
        try:
            asked = [await ready(proposal) for proposal in chosen.proposals]
            said = await witness()
        finally:
            await probes.close()
        left_out = dict(chosen.left_out)
        for each in asked:
            if not each.probes:
                reason = "; ".join(f"{address}: {why}" for address, why in each.unasked)
                left_out[reason] = (*left_out.get(reason, ()), each.proposal.seen.unit)
        found = replace(found, silent=()) if units else found
        return First([each for each in asked if each.probes], left_out, found, said)

    try:
        return run_on_poll(look())
    except BusUnavailable as error:
        raise NotMade(f"{error}; without systemd, name a service by its pidfile or process: docs/config.md") from None
    except CallError as error:
        raise NotMade(f"systemd does not tell which units run: {error}") from None


def _anything(kind: str) -> Any:
    from watchdog.probes import http, snmp
    from watchdog.settings import Secret

    if kind == "http":
        return http.Settings(url="http://127.0.0.1/")
    return snmp.Settings(address="127.0.0.1:161", oid="1.3.6.1.2.1.1.3.0", community=Secret(env="HOME"))


def _guarded(config: Path, output: Path | None) -> tuple[dict[str, str], set[str]]:
    """The units that are guarded, with the names of their services; and all names. Not of what will be replaced."""
    from watchdog.config.files import read
    from watchdog.config.found import Findings

    if not config.exists():
        return {}, set()
    findings = Findings()
    entries = read(config, findings).entries
    if findings.errors:
        raise NotMade(f"{findings.errors[0]}; mend that first, for it tells what is guarded already")
    replaced = output.resolve() if output is not None else None
    ours = {keys[1]: each.value for keys, each in entries.items() if _names_service(keys, each.file, replaced)}
    units = {each["unit"]: str(name) for name, each in ours.items() if isinstance(each, dict) and "unit" in each}
    return units, {str(name) for name in ours}


def _names_service(keys: tuple[str | int, ...], file: Path, replaced: Path | None) -> bool:
    return len(keys) == 2 and keys[0] == "service" and file.resolve() != replaced


def _wanted(units: tuple[str, ...], found: Survey) -> set[str]:
    """The units that were named, with their suffix, and by their own names. Raises `UsageError`."""
    from watchdog.target import resolved

    wanted = set()
    listening = [seen.unit for seen in found.listening]
    for name in units:
        unit = resolved(name if "." in name and name.rpartition(".")[2] in ("service", "scope") else f"{name}.service")
        if unit not in listening:
            where = "it listens nowhere" if unit in found.silent else "no unit of that name listens here"
            close = difflib.get_close_matches(unit, listening, n=1)
            hint = f"did you mean {close[0]}?" if close else f"These do: {', '.join(listening) or 'none'}."
            raise click.UsageError(f"{name}: {where}; {hint}")
        wanted.add(unit)
    return wanted


# --- what is told -----------------------------------------------------------------------------------------------------


def _nothing(first: First) -> str:
    reasons = [f"{', '.join(units)}: {reason}" for reason, units in first.left_out.items()]
    if first.survey.unowned:
        count = len(first.survey.unowned)
        reasons.append(f"{count} sockets are of processes that only root may look at: run it as root")
    return "\n  ".join(["Nothing listens here that could be guarded.", *reasons])


def _told(first: First, output: Path) -> str:
    from watchdog.cli.agent import Agent
    from watchdog.cli.first_config import lack, named

    lines = [f"{output}: {len(first.services)} service{'s' if len(first.services) > 1 else ''}, in mode observe"]
    for each in first.services:
        probes = [f"{name} {tried.seen.kind}" for name, tried in named(each.probes)]
        lines.append(f"  {each.proposal.name}: {', '.join(probes)}")
    if first.witness.agent is not Agent.TELLS:
        lines.append(f"{lack(first.witness)}.")
    if count := len(first.survey.unowned):
        lines.append(f"{count} sockets are of processes that only root may look at.")
    lines.append("Next: epoll-watchdog check, then systemctl restart epoll-watchdog")
    return "\n".join(lines)


def _as_json(first: First) -> dict[str, Any]:
    from watchdog.cli.first_config import named

    return {
        "services": [
            {
                "name": each.proposal.name,
                "unit": each.proposal.seen.unit,
                "description": each.proposal.seen.description,
                "probes": {
                    name: {
                        "listener": tried.listener.address,
                        "type": tried.talk.type,
                        **tried.talk.keys,
                        "proves": tried.talk.proves,
                        "why": tried.talk.why,
                        "kind": tried.seen.kind,
                        "reason": tried.seen.reason,
                    }
                    for name, tried in named(each.probes)
                },
                "not_asked": _pairs(each.unasked),
            }
            for each in first.services
        ],
        "not_included": [{"units": list(units), "reason": reason} for reason, units in first.left_out.items()],
        "listens_nowhere": list(first.survey.silent),
        "owner_unknown": list(first.survey.unowned),
        "not_read": list(first.survey.lacks),
        "witness": {"agent": first.witness.agent, "reason": first.witness.reason},
    }


def _pairs(found: Iterable[tuple[str, str]]) -> list[Mapping[str, str]]:
    return [{"listener": address, "reason": reason} for address, reason in found]


def write(file: Path, text: str, *, force: bool) -> None:
    """Write the file as a whole or not at all; one that is replaced is kept beside it. Raises `NotMade`: it exists, or
    can't be written.
    """
    try:
        descriptor, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    except OSError as error:
        raise NotMade(f"{file.parent}: {error.strerror}") from None
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), MODE)
            os.fsync(stream.fileno())
        if force:
            _keep(file)
            Path(draft).replace(file)
        else:
            os.link(draft, file)  # where somebody was faster, his file stays
    except FileExistsError:
        raise _exists(file) from None
    except OSError as error:
        raise NotMade(f"{file}: {error.strerror}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(draft).unlink()


def _exists(file: Path) -> NotMade:
    return NotMade(f"{file} exists; --force replaces it, and keeps it as {kept(file).name}")


def kept(file: Path) -> Path:
    """Where a file that is replaced is kept: the daemon reads no such name."""
    return file.with_name(f"{file.name}~")


def _keep(file: Path) -> None:
    if not file.is_symlink() and file.exists():
        kept(file).unlink(missing_ok=True)
        os.link(file, kept(file))
