"""`epoll-watchdog check`: one round of all probes, with timings, as a table or as a plugin of Nagios'."""

from __future__ import annotations

import difflib
import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from watchdog.cli.asked import service_names
from watchdog.config import DEFAULT_FILE, Config, ConfigInvalid, Service, load

if TYPE_CHECKING:
    from rich.table import Table

    from watchdog.cli.one_round import Checked

UNKNOWN = 3  # exit code, of wrong usage too: 2 would say that a service is dark
STYLES = {"OK": "green", "WARNING": "yellow", "CRITICAL": "bold red", "UNKNOWN": "magenta"}


class Misused(click.UsageError):
    """Wrong usage of a plugin."""

    exit_code = UNKNOWN


class NotChecked(click.ClickException):
    """Nothing could be asked; the text says why."""

    exit_code = UNKNOWN


class Plugin(click.Command):
    """A command that ends with what Nagios calls unknown where it could not do its work, and never with 1 or 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Wrong usage is `Misused`."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise Misused(error.format_message(), ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """A fault of ours says nothing of a service."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception:
            traceback.print_exc()
            raise SystemExit(UNKNOWN) from None


@click.command(cls=Plugin)
@click.argument("names", metavar="[SERVICE]...", nargs=-1, shell_complete=service_names)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="The config that names them; conf.d/*.toml beside it is read too.",
)
@click.option("--nagios", is_flag=True, help="One line, as a plugin of Nagios' prints it, with performance data.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(names: tuple[str, ...], path: Path, nagios: bool, as_json: bool) -> None:
    """Ask every probe once, and tell what answered and how fast.

    SERVICE is one of the config's; without any, all are asked, side by side. No daemon needs to run, and none is asked.
    The daemon's own rules judge what is found, but what a service's threads do is not read: epoll-watchdog diagnose
    tells more of one that is dark. Nothing is nudged, restarted or alerted. It takes the rights to read the config and
    its secrets; a service that is named by its process is found by root only.

    The exit status is that of a plugin of Nagios'. With several services it is the gravest: critical before warning
    before unknown.

    \b
    Exit status:
      0  OK: every probe is alive, or has nothing to tell yet
      1  WARNING: a witness is lost, answers come too late, or the service is starting or stopped
      2  CRITICAL: it is dark, answers wrongly, or is dead
      3  UNKNOWN: a probe can't run, the process can't be known, a bad config, wrong usage

    \b
    Examples:
      epoll-watchdog check
      epoll-watchdog check nginx redis
      epoll-watchdog check --nagios
      epoll-watchdog check nginx --json | jq '.services[0].probes[].latency_s'
    """
    if nagios and as_json:
        raise Misused("Give --nagios or --json.")
    from watchdog.cli.one_round import check
    from watchdog.cli.plugin import State, gravest, headline, line, state_of

    try:
        services = _chosen(_loaded(path), names)
    except (Misused, NotChecked) as error:
        if nagios:  # which reads no other output
            click.echo(headline(State.UNKNOWN, error.message))
            raise SystemExit(UNKNOWN) from None
        raise
    checks = check(path, services)
    if nagios:
        click.echo(line(checks))
    elif as_json:
        click.echo(json.dumps(_as_json(checks), indent=2))
    else:
        _show(checks)
    raise SystemExit(gravest([state_of(checked) for checked in checks]))


def _loaded(path: Path) -> Config:
    try:
        return load(path)
    except ConfigInvalid as invalid:
        raise NotChecked(str(invalid)) from None


def _chosen(config: Config, names: Sequence[str]) -> list[Service]:
    for name in names:
        if name not in config.services:
            close = difflib.get_close_matches(name, config.services, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"It names: {', '.join(config.services) or 'none'}."
            raise Misused(f"{config.files[0]} names no service {name!r}; {hint}")
    if not config.services:
        raise NotChecked(f"{config.files[0]} names no service: there is nothing to check")
    return [config.services[name] for name in (dict.fromkeys(names) or config.services)]


def _as_json(checks: Sequence[Checked]) -> dict[str, Any]:
    from watchdog.cli.plugin import gravest, state_of

    return {
        "state": gravest([state_of(checked) for checked in checks]).name,
        "services": [
            {
                "name": checked.service.name,
                "state": state_of(checked).name,
                "verdict": checked.diagnosis.verdict,
                "certainty": checked.diagnosis.certainty,
                "reasons": checked.diagnosis.reasons,
                "took_s": checked.took,
                "probes": {name: _probe(checked, name) for name in checked.service.probes},
            }
            for checked in checks
        ],
    }


def _probe(checked: Checked, name: str) -> dict[str, Any]:
    seen = checked.found.get(name)
    told: dict[str, Any] = {"type": checked.service.probes[name].type, "kind": None, "latency_s": None, "reason": ""}
    if seen is None:
        return told
    return told | {"kind": seen.kind, "latency_s": seen.latency, "reason": seen.reason}


# --- for people -------------------------------------------------------------------------------------------------------


def _show(checks: Sequence[Checked]) -> None:
    from watchdog.cli.plugin import State, gravest, said, state_of
    from watchdog.cli.terminal import bullets, console, lasting, plain

    screen = console()
    screen.print(_table(checks))
    states = [state_of(checked) for checked in checks]
    if wrong := [said(checked) for checked, state in zip(checks, states, strict=True) if state is not State.OK]:
        screen.print()
        screen.print(bullets(map(plain, wrong)))
    worst, longest = gravest(states), max(checked.took for checked in checks)
    text = f"{worst.name}: {states.count(State.OK)} of {len(checks)} services well; the longest round took "
    screen.print()
    screen.print(plain(text + lasting(longest), STYLES[worst.name]))


def _table(checks: Sequence[Checked]) -> Table:
    from watchdog.cli.plugin import state_of
    from watchdog.cli.terminal import lasting, plain, table

    made = table("SERVICE", "STATE", "PROBE", "FOUND", "AFTER", "WHY", whole=("STATE", "FOUND", "AFTER"))
    for checked in checks:
        state = state_of(checked).name
        head = (plain(checked.service.name), plain(state, STYLES[state]))
        for name in checked.service.probes:
            seen = checked.found.get(name)
            found = ("not asked", "", "") if seen is None else (seen.kind.value, lasting(seen.latency), seen.reason)
            made.add_row(*head, plain(name), *map(plain, found))
            head = (plain(""), plain(""))
    return made
