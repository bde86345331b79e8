"""`epoll-watchdog explain`: why an incident was taken for what it was, and why that was done about it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from watchdog.cli.api import Daemon, Denied, daemon_options
from watchdog.cli.asked import incident_ids
from watchdog.cli.explained import Explanation, Tried, explained
from watchdog.cli.orders import SOCKET
from watchdog.cli.stored import DATABASE, Incident, one
from watchdog.cli.terminal import bullets, console, lasting, offset, plain, table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from watchdog.cli.judged import Judged, Slept

STATES = {"S": "slept", "R": "ran", "D": "stuck (D)", "T": "stopped", "t": "traced", "Z": "ended", "I": "idle"}
STYLES = {"done": "green", "told": "yellow", "waited": "", "passed over": "", "not done": "", "again": ""}


@click.command()
@click.argument("incident", metavar="ID", shell_complete=incident_ids)
@daemon_options
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(incident: str, daemon: Daemon, as_json: bool) -> None:
    """Explain an incident: why this verdict, and why that was done.

    ID is an incident's, or as many of its first letters as no other has; epoll-watchdog incidents lists them. It is
    told what spoke for the verdict and what against the others, how the verdict changed, and of each rung of the ladder
    whether it was taken, waited or was passed over, with the rule that it followed.

    Where the daemon hands out the evidence, the incident is judged anew by the rules of this version, as
    epoll-watchdog replay does it, and it is shown which thread slept where. Evidence goes out only over a private Unix
    socket (listen in the table http of the config names it), or to a client that is known by a password or a
    certificate; where it does not, that is said, with what would help.

    \b
    Exit status:
      0  it was explained, with the evidence or without
      2  wrong usage; no such incident, or an ID that may mean several
      3  the daemon can't be asked

    \b
    Examples:
      epoll-watchdog explain 0a1b2c3d
      epoll-watchdog explain 0a1b2c3d --url unix:/run/epoll-watchdog/web.sock
      epoll-watchdog explain 0a1b2c3d --json | jq '.evidence.threads[] | select(.of_loop)'
    """
    found = one(daemon, incident)
    why = explained(found)
    evidence, missing = _evidence(daemon, found["id"])
    if as_json:
        click.echo(json.dumps(_as_json(found, why, evidence, missing), indent=2))
        return
    screen = console()
    for part in (*_why(found, why), *_rungs(why)):
        screen.print(part)
    for part in _of_evidence(evidence, why) if evidence is not None else _without(found, missing):
        screen.print(part)


def _evidence(daemon: Daemon, incident: str) -> tuple[Judged | None, str]:
    """What it says; else why there is none."""
    try:
        text = daemon.fetch(f"/api/v1/incidents/{incident}/evidence")
    except Denied as denied:
        return None, denied.said or str(denied)
    from watchdog.cli.judged import judged
    from watchdog.recording import NotRecorded, load

    try:
        recording = load(text)
    except NotRecorded as error:
        return None, str(error)
    return (judged(recording), "") if recording.entries else (None, "it was given up for want of room")


def _as_json(incident: Incident, why: Explanation, evidence: Judged | None, missing: str) -> dict[str, Any]:
    return {
        "incident": incident["id"],
        "service": incident["service"],
        "opened": incident["opened"],
        "closed": incident["closed"],
        **dataclasses.asdict(why),
        "evidence": dataclasses.asdict(evidence) if evidence is not None else None,
        "evidence_missing": missing,
    }


# --- for people -------------------------------------------------------------------------------------------------------


def _section(heading: str, lines: Iterable[str]) -> Iterator[RenderableType]:
    if told := list(lines):
        yield ""
        yield plain(heading, "bold")
        yield bullets(map(plain, told))


def _why(incident: Incident, why: Explanation) -> Iterator[RenderableType]:
    from watchdog.cli.timeline import heading

    yield from heading(incident)
    yield from _section(f"Why {why.verdict} ({why.certainty}): {why.means}", why.reasons or ["no reason was recorded"])
    yield from _section("Why nothing else", why.against)
    yield from _section(
        "What it was taken for", [f"{offset(x.at_s)} {x.verdict}: {x.reason or 'no reason told'}" for x in why.changes]
    )


def _rungs(why: Explanation) -> Iterator[RenderableType]:
    yield ""
    yield plain("What was done about it", "bold")
    if why.rungs:
        made = table("AT", "RUNG", "CAME", "WHY", whole=("AT", "RUNG"))
        for tried in why.rungs:
            style = STYLES.get(tried.came, "bold red")
            made.add_row(offset(tried.at_s), plain(tried.rung), plain(tried.came, style), _reason(tried))
        yield made
    else:
        yield bullets([plain("nothing: no rung was due")])
    yield from _section("How it ended", [why.ending] if why.ending else [])


def _reason(tried: Tried) -> RenderableType:
    from rich.console import Group

    return Group(plain(tried.why), plain(f"Rule: {tried.rule}", "dim")) if tried.rule else plain(tried.why)


def _of_evidence(evidence: Judged, why: Explanation) -> Iterator[RenderableType]:
    if evidence.at_s is not None:
        yield ""
        yield plain(f"What the threads did, {offset(evidence.at_s)}, for {lasting(evidence.looked_s)}", "bold")
        yield _threads(evidence.threads)
        if evidence.more_threads:
            yield plain(f"and {evidence.more_threads} more")
    yield from _section("What proves it", [x for x in evidence.proofs if not any(x in told for told in why.reasons)])
    yield from _section("Why no lost wake-up is proven", evidence.unproven)
    yield from _section("Left of its ladder", [", ".join(evidence.left)] if evidence.left else [])
    yield from _section("Judged anew, by the rules of this version", _judgement(evidence))


def _threads(threads: Iterable[Slept]) -> Table:
    made = table("THREAD", "NAME", "DID", "IN", "AT", "WOKE", whole=("THREAD",))
    for thread in threads:
        style = "bold" if thread.of_loop else ""
        did = STATES.get(thread.state, thread.state)
        name, within, where = plain(thread.name, style), plain(thread.within or "-"), plain(thread.where or "-")
        made.add_row(str(thread.tid), name, did, within, where, f"{thread.woke} times" if thread.woke else "never")
    return made


def _judgement(evidence: Judged) -> Iterator[str]:
    if not evidence.differing:
        yield f"{evidence.decisions} decisions, all as they were"
    for differs in evidence.differing:
        reason = f", for {differs.reason}" if differs.reason else ""
        yield f"{offset(differs.at_s)} then: {differs.then}; now: {differs.now}{reason}"
    if bare := evidence.rounds - evidence.rejudged:
        yield f"of {bare} of {evidence.rounds} rounds the evidence was not kept: their diagnosis is that of then"


def _without(incident: Incident, missing: str) -> Iterator[RenderableType]:
    yield from _section(
        "Which thread slept where is in the evidence, which the daemon did not hand out",
        [
            missing,
            f"over the daemon's own Unix socket, as root or one of its group: --url unix:{SOCKET}",
            "as a user of web_config's: --user NAME --password-file FILE",
            f"on the host itself, as root: epoll-watchdog replay {DATABASE} --incident {incident['id'][:8]}",
        ],
    )
