"""`epoll-watchdog replay`: recorded incidents through today's rules and ladder. It reads, and decides nothing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from watchdog.cli.terminal import console, offset, printable, table
from watchdog.model import Looked
from watchdog.recording import Decision, NotRecorded, Recorded, Recording, dump, load
from watchdog.replay import Replayed, replay
from watchdog.store.archive import MAGIC, Archive, Unreadable

DIFFERS = 1


class Wrong(click.ClickException):
    """A file that can't be read or written, or has not what was asked for."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """As the other commands tell it."""
        click.echo(f"epoll-watchdog: {self.message}", err=True, file=file)


@dataclass(frozen=True, slots=True)
class Result:
    """A recording from a file, and what would be decided about it now."""

    file: Path
    recording: Recording
    entries: tuple[Replayed, ...]

    @property
    def differing(self) -> tuple[Replayed, ...]:
        """The entries about which something else would be decided."""
        return tuple(entry for entry in self.entries if entry.differs)


@click.command(name="replay")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--incident", metavar="ID", default="", help="Of a database this incident only; its first letters do.")
@click.option(
    "--extract", metavar="DIR", type=click.Path(path_type=Path, file_okay=False), help="Write incidents as files."
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(files: tuple[Path, ...], incident: str, extract: Path | None, as_json: bool) -> None:
    """Show what would be decided today about recorded incidents.

    FILE is the daemon's database (state.db in its state directory; it is only read, and the daemon may run), or one
    incident that --extract wrote from it: a file of JSON that needs nothing else.

    Each entry of an incident is a decision: the state before it, what happened (a round of probes, the outcome of a
    remedy, an operator's word), and for a round the evidence it was diagnosed from. It is diagnosed anew and taken up
    the ladder with the policy of that time, and what comes of it stands beside what was decided then. Each entry stands
    alone: one that differs does not change those after it. Where the evidence was not kept, the diagnosis of then is
    taken as it was. Nothing is done to any service.

    Of an incident's entries the first and the last are kept, and the oldest incidents give up theirs when the database
    has grown to its size. A file that was extracted has addresses of clients in it, but no secret and no command line.

    \b
    Exit status:
      0  everything would be decided as it was
      1  something would not
      2  wrong usage, or a file that can't be read

    \b
    Examples:
      epoll-watchdog replay /var/lib/epoll-watchdog/state.db
      epoll-watchdog replay /var/lib/epoll-watchdog/state.db --incident 0a1b2c3d
      epoll-watchdog replay /var/lib/epoll-watchdog/state.db --extract ./incidents
      epoll-watchdog replay --json ./incidents/*.json | jq '.incidents[] | select(.differs)'
    """
    recordings = _recordings(files, incident)
    if extract is not None:
        _extract(recordings, extract)
        return
    results = (Result(file, recording, replay(recording)) for file, recording in recordings)
    if as_json:
        shown = [_as_json(result) for result in results]
        click.echo(json.dumps({"differs": any(one["differs"] for one in shown), "incidents": shown}, indent=2))
        differs = any(one["differs"] for one in shown)
    else:
        differs = _show(results)
    raise SystemExit(DIFFERS if differs else 0)


def _recordings(files: tuple[Path, ...], incident: str) -> Iterator[tuple[Path, Recording]]:
    """Every recording of the files, one by one: a database may hold more than memory should."""
    for file in files:
        try:
            with file.open("rb") as opened:
                head = opened.read(len(MAGIC))
                text = b"" if head == MAGIC else head + opened.read()
            if head == MAGIC:
                yield from ((file, recording) for recording in _archived(file, incident))
            elif incident:
                raise Wrong(f"{file}: is one incident; --incident chooses from a database")
            else:
                yield file, load(text)
        except OSError as error:
            raise Wrong(f"{file}: {error.strerror}") from error
        except (NotRecorded, Unreadable) as error:
            raise Wrong(f"{file}: {error}") from error


def _archived(file: Path, prefix: str) -> Iterator[Recording]:
    with Archive(file) as archive:
        found = archive.incidents(prefix)
        if prefix and len(found) != 1:
            ids = ", ".join(one.summary.id for one in found[:5])
            raise Wrong(f"{file}: {f'{prefix} may be {ids}' if found else f'no incident {prefix}'}")
        for one in found:
            yield archive.recording(one)


# --- files ------------------------------------------------------------------------------------------------------------


def _extract(recordings: Iterator[tuple[Path, Recording]], directory: Path) -> None:
    for _, recording in recordings:
        name = re.sub(r"[^\w.@-]", "_", f"{recording.service}-{recording.incident.id}.json")
        if not recording.entries:
            click.echo(f"nothing is kept of {name.removesuffix('.json')} but its timeline", err=True)
            continue
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(directory / name, flags, 0o600), "w", encoding="utf-8") as file:
                file.write(dump(recording))
        except OSError as error:
            raise Wrong(f"{directory / name}: {error.strerror}") from error
        click.echo(directory / name)


# --- JSON -------------------------------------------------------------------------------------------------------------


def _as_json(result: Result) -> dict[str, Any]:
    recording = result.recording
    return {
        "file": str(result.file),
        "service": recording.service,
        "incident": recording.incident.id,
        "opened": recording.incident.opened.isoformat(),
        "policy_known": recording.policy is not None,
        "differs": bool(result.differing),
        "entries": [_entry_as_json(entry) for entry in result.entries],
    }


def _entry_as_json(entry: Replayed) -> dict[str, Any]:
    then = entry.recorded.decided
    return {
        "at": entry.recorded.at.isoformat(),
        "event": type(entry.recorded.entry.event).__name__.lower(),
        "rediagnosed": entry.diagnosis is not None,
        "differs": entry.differs,
        "then": _decision_as_json(then) if then is not None else None,
        "now": _decision_as_json(entry.now),
        "reasons_then": list(_reasons(entry.recorded)),
        "reasons_now": list(entry.diagnosis.reasons if entry.diagnosis is not None else _reasons(entry.recorded)),
    }


def _decision_as_json(decision: Decision) -> dict[str, Any]:
    return {
        "verdict": decision.verdict,
        "certainty": decision.certainty,
        "action": decision.action,
        "records": list(decision.records),
    }


def _reasons(recorded: Recorded) -> tuple[str, ...]:
    event = recorded.entry.event
    return event.diagnosis.reasons if isinstance(event, Looked) else ()


# --- for people -------------------------------------------------------------------------------------------------------


def _show(results: Iterator[Result]) -> bool:
    """A line an incident; its table where something differs, or where it is the only one. Tells whether any differs."""
    count = differing = 0
    last: Result | None = None
    for result in results:
        count += 1
        differing += bool(result.differing)
        last = result
        click.echo(_heading(result))
        if result.differing:
            _table(result)
    if count == 1 and last is not None and not last.differing:
        _table(last)
    if count != 1:
        click.echo(f"{count} incidents, {differing} would be decided differently")
    return bool(differing)


def _heading(result: Result) -> str:
    recording, many = result.recording, len(result.entries)
    incident = recording.incident
    if not many:
        told = "its decisions are no longer kept"
    elif all(entry.recorded.decided is None for entry in result.entries):
        told = f"{many} decisions, recorded without what they were"
    elif result.differing:
        told = f"{len(result.differing)} of {many} decisions differ"
    else:
        told = f"{many} decisions, as they were"
    opened = f"{incident.opened.astimezone():%Y-%m-%d %H:%M:%S}"
    return f"{printable(recording.service)} {printable(incident.id[:8])}, {opened}, {incident.verdict}: {told}"


def _table(result: Result) -> None:
    from rich.padding import Padding
    from rich.text import Text

    if not result.entries:
        return
    made = table("", "AT", "WHAT", "THEN", "NOW")
    began = result.entries[0].recorded.at
    for entry in result.entries:
        then = entry.recorded.decided
        made.add_row(
            Text("≠", style="bold red") if entry.differs else "",
            offset((entry.recorded.at - began).total_seconds()),
            type(entry.recorded.entry.event).__name__.lower(),
            _said(then) if then is not None else "not recorded",
            Text("the same", style="dim") if then == entry.now else Text(_said(entry.now), style="bold"),
        )
    screen = console()
    screen.print(made)
    for line in _notes(result):
        screen.print(Padding(Text(line), (0, 0, 0, 2)))


def _said(decision: Decision) -> str:
    parts = [f"{decision.verdict} ({decision.certainty})"] if decision.verdict is not None else []
    parts += [", ".join(decision.records)] if decision.records else []
    return "; ".join([*parts, *([f"{decision.action} asked for"] if decision.action is not None else [])]) or "nothing"


def _notes(result: Result) -> Iterator[str]:
    """Why they differ, and what the comparison does not rest on."""
    began = result.entries[0].recorded.at
    for entry in result.differing:
        at = offset((entry.recorded.at - began).total_seconds())
        yield from (f"{at} then: {printable(reason)}" for reason in _reasons(entry.recorded)[:1])
        yield from (
            f"{at} now: {printable(reason)}" for reason in (entry.diagnosis.reasons[:1] if entry.diagnosis else ())
        )
    looks = [entry for entry in result.entries if isinstance(entry.recorded.entry.event, Looked)]
    bare = sum(entry.diagnosis is None for entry in looks)
    if bare:
        yield f"the evidence of {bare} of {len(looks)} rounds was not kept: their diagnosis is that of then"
    if result.recording.policy is None:
        yield "its policy was not recorded: it was replayed with the defaults"
