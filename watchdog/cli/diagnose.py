"""`epoll-watchdog diagnose`: one look at a service or a process, and what it means."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import click

from watchdog.cli.findings import Findings, Result
from watchdog.config import DEFAULT_FILE, Config, ConfigInvalid, Service, load
from watchdog.target import Refusal


@click.command(name="diagnose")
@click.argument("name", metavar="[SERVICE]", required=False)
@click.option("--pid", type=click.IntRange(min=1), help="Look at this process and its descendants, without a config.")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="The config that names SERVICE; conf.d/*.toml beside it is read too.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON: all that was read, and what follows from it.")
def command(name: str | None, pid: int | None, path: Path, as_json: bool) -> None:
    """Look once at a service, and explain what is found.

    SERVICE is one of the config's. Its probes are asked and its processes are read as the daemon does it, and the
    daemon's own rules judge: the verdict, the reasons for it, what spoke against other verdicts, and the ladder that
    the daemon would climb. No daemon needs to run. Nothing is nudged, restarted or alerted.

    With --pid no config is needed and nothing is asked: the process and its descendants are read with your own rights.
    That can prove a lost wake-up, where connections wait or events are ready; an idle process shows nothing. To read
    what threads do takes the rights of root, or of the process' own user (see kernel.yama.ptrace_scope).

    \b
    Exit status:
      0  healthy; with --pid: nothing was found
      1  not healthy: the verdict says how
      2  wrong usage, or the config names no such service
      3  it could not be looked at: no such process, no rights, a bad config

    \b
    Examples:
      epoll-watchdog diagnose nginx
      epoll-watchdog diagnose --pid "$(systemctl show -P MainPID nginx)"
      epoll-watchdog diagnose nginx --json | jq .diagnosis.verdict
    """
    findings = _look(name, pid, path)
    if as_json:
        click.echo(findings.as_json())
    else:
        from watchdog.cli.shown import show

        show(findings)
    sys.exit(findings.result.status)


def _look(name: str | None, pid: int | None, path: Path) -> Findings:
    from watchdog.cli.one_look import look_at_process, look_at_service

    try:
        if pid is not None and name is None:
            return look_at_process(pid)
        if name is not None and pid is None:
            return look_at_service(path, _named(name, load(path)))
    except ConfigInvalid as invalid:
        raise CouldNotLook(str(invalid)) from None
    except Refusal as refusal:
        raise CouldNotLook(f"{refusal}; {refusal.hint}") from None
    raise click.UsageError("Give the name of a service, or --pid PID.")


def _named(name: str, config: Config) -> Service:
    """Raises `UsageError`."""
    if name in config.services:
        return config.services[name]
    close = difflib.get_close_matches(name, config.services, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"It names: {', '.join(config.services) or 'none'}."
    raise click.UsageError(f"{config.files[0]} names no service {name!r}; {hint}")


class CouldNotLook(click.ClickException):
    """There is nothing to explain; the text says why, and what would help."""

    exit_code = Result.UNSEEN.status
