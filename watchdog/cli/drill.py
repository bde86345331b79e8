"""`epoll-watchdog drill`: the failure on purpose, on a service of one's own, to see the daemon heal it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from watchdog.cli.api import UNREACHABLE, Daemon, daemon_options
from watchdog.cli.duration import Duration
from watchdog.cli.rehearsal import ASK, ENDING, HelperLost, Rehearsal, asked
from watchdog.cli.story import Teller
from watchdog.config import DEFAULT_FILE, ConfigInvalid
from watchdog.helper import trust
from watchdog.helper.protocol import Reply, Request
from watchdog.link import LEDGER, Child, Link, Socket, helper_command
from watchdog.model import Epoch, Outcome
from watchdog.target import Gone, start_time

HELPER = Path("/run/epoll-watchdog/helper.sock")
NOT_HEALED, REFUSED = 1, 4  # exit codes
BLIND_FOR = 10.0  # s
SHORTEST, LONGEST = 1.0, 60.0  # s; the helper's own (`helper.drill`)


class HelperUnanswering(click.ClickException):
    """The helper can't be asked, or does not answer as it should."""

    exit_code = UNREACHABLE


class Refused(click.ClickException):
    """There is no drill, and nothing was done."""

    exit_code = REFUSED


@click.command()
@click.argument("service")
@click.option(
    "--at-most",
    type=Duration(SHORTEST, LONGEST),
    default="10s",
    show_default=True,
    help="Undone then, where nobody has healed it.",
)
@click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="The daemon's; read where the helper's socket is not there.",
)
@click.option(
    "--helper",
    "helper",
    type=click.Path(path_type=Path),
    default=HELPER,
    show_default=True,
    help="Its socket. Where there is none, a helper is started for the drill.",
)
@daemon_options
@click.option("--json", "as_json", is_flag=True, help="The whole story as JSON, when it is over.")
def command(service: str, at_most: float, config: Path, helper: Path, daemon: Daemon, as_json: bool) -> None:
    """Put a healthy service into the stall, and watch the daemon heal it.

    Every thread of SERVICE that waits in epoll_wait is sent to wait on an empty epoll instead, as if its wake-up had
    been lost: the service is dark, though it runs. The daemon must find that out and nudge it. Clients wait meanwhile;
    no connection is lost. Whoever is told of incidents is told of this one.

    The config must allow it: drill = true in the table of the service. It is refused where the daemon would not heal it
    (mode "observe", no nudge left, a hold), and where the service is not healthy. When its time is over the helper
    undoes it by a nudge, also when this command, or the helper itself, was killed. Only root may do it, on x86-64.

    \b
    Exit status:
      0  the daemon healed it
      1  it did not, and the drill was undone
      2  wrong usage
      3  the daemon or the helper can't be asked
      4  refused; nothing was done

    \b
    Examples:
      epoll-watchdog drill nginx
      epoll-watchdog drill redis --at-most 5s --json | jq .woken_seconds
    """
    if os.geteuid() != 0:
        raise Refused("only root may do this; try sudo")
    view = _healable(service, daemon)
    earlier = frozenset(incident["id"] for incident in daemon.get(f"/api/v1/incidents?service={service}")["incidents"])
    epoch = _epoch(service, view["pid"])
    request = Request(1, "drill", service, epoch.pid, epoch.start_time, at_most=round(at_most * 1000))
    story = Teller(as_json)
    story.begin(view, at_most)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with asked(_link(helper, config), request) as reply:
            rehearsal = _begun(service, at_most, earlier, reply)
            _follow(rehearsal, reply, daemon, story)
    except HelperLost as lost:
        raise HelperUnanswering(str(lost)) from None
    story.end(rehearsal)
    raise SystemExit(0 if rehearsal.healed and rehearsal.resolved is not None else NOT_HEALED)


def _healable(service: str, daemon: Daemon) -> Mapping[str, Any]:
    """What the daemon sees of the service. Raises `Refused` where it would not heal it."""
    view = _seen(service, daemon)
    if view["mode"] == "observe":
        raise Refused(f'{service} is in mode "observe": the daemon would not heal it')
    if view["paused"]:
        raise Refused(f"{service} is paused: the daemon would not heal it")
    if view["window"]:
        raise Refused(f"{service} is in a {view['window']}: the daemon would not heal it")
    if view["incident"] is not None:
        raise Refused(f"{service} has an open incident ({view['incident'][:8]})")
    if not view["healthy"] or view["pid"] is None:
        raise Refused(f"{service} is not healthy but {view['verdict']}: {'; '.join(view['reasons'])}")
    if not view["budgets"]["nudge"]:
        raise Refused(f"no nudge of {service} is left in its budget: the daemon would not heal it")
    return view


def _seen(service: str, daemon: Daemon) -> Mapping[str, Any]:
    """As the daemon sees it; one that is blind for a moment, on a busy host, is asked again."""
    until = time.monotonic() + BLIND_FOR
    while True:
        views: dict[str, Mapping[str, Any]] = {
            view["name"]: view for view in daemon.get("/api/v1/services")["services"]
        }
        view = views.get(service)
        if view is None:
            raise Refused(f"the daemon guards no {service!r}; it guards {', '.join(sorted(views)) or 'nothing'}")
        if view["verdict"] != "blind" or view["incident"] is not None or time.monotonic() > until:
            return view
        time.sleep(ASK)


def _epoch(service: str, pid: int) -> Epoch:
    try:
        return Epoch(pid, start_time(pid))
    except Gone as gone:
        raise Refused(f"{service}: {gone}") from None


def _link(helper: Path, config: Path) -> Link:
    """The helper of systemd's, or one of our own that keeps account where the daemon's own child does."""
    if helper.exists() or helper != HELPER:
        return Socket(helper)
    from watchdog.config.check import check
    from watchdog.config.secrets import Secrets

    try:
        ledger = check(config, Secrets.SKIP).state_directory / LEDGER
        trust.check(str(ledger.parent.absolute()))
    except ConfigInvalid as invalid:
        raise Refused(str(invalid)) from None
    except trust.Untrusted as untrusted:
        hint = "where the daemon runs under systemd: systemctl start epoll-watchdog-helper.socket"
        raise Refused(f"{helper} is not there, and no helper is started: {untrusted}\n    {hint}") from None
    return Child(helper_command(config, ledger))


def _begun(service: str, at_most: float, earlier: frozenset[str], reply: Reply) -> Rehearsal:
    if reply.outcome in (Outcome.FAILED, Outcome.TIMED_OUT) and "lives" not in reply.detail:
        raise HelperLost(f"the helper failed: {reply.reason}; what it may have begun, it undoes when the time is over")
    if reply.outcome is not Outcome.DONE:
        hint = reply.detail.get("hint") or next((each["hint"] for each in reply.detail.get("skipped", ())), "")
        raise Refused(f"the helper refused it: {reply.reason}" + (f"\n    {hint}" if hint else ""))
    lives = tuple(Epoch(pid, began) for pid, began in reply.detail["lives"])
    return Rehearsal(service, at_most, earlier, lives, begun=reply.detail["seconds"])


def _follow(rehearsal: Rehearsal, reply: Reply, daemon: Daemon, story: Teller) -> None:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        story.stalled(reply)
        rehearsal.follow(daemon, lambda record: story.record(rehearsal, record), lambda: story.woken(rehearsal))
    except BaseException:
        undone = rehearsal.undo()
        told = "and undone by a nudge" if undone else "and the helper undoes it when its time is over"
        click.echo(f"The drill was called off, {told}.", err=True)
        raise
