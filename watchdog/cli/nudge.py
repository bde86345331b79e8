"""`epoll-watchdog nudge`: the remedy by hand, with the caller's own rights and without the daemon."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from watchdog.helper import worker
from watchdog.helper.nudge import Nudge, nudge
from watchdog.model import Epoch
from watchdog.target import Refusal, Target, check_process, processes, start_time

TIMEOUT = 2.0  # seconds; the nudge gives itself less


@click.command(name="nudge")
@click.argument("what", metavar="PID|UNIT")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(what: str, as_json: bool) -> None:
    """Wake the threads of a service that sleep in epoll_wait.

    Each of them is stopped and let go again at once by ptrace, one after the other, for some 0.1 ms. Its epoll_wait
    then returns EINTR, and the program looks at its sockets anew: that heals a lost wake-up. It loses nothing, and a
    healthy program does not notice. Threads that do anything else are left alone.

    PID is one process, UNIT a systemd unit with all its processes. Tracing takes the rights of root, or of the
    process' own user (see kernel.yama.ptrace_scope).

    \b
    Exit status:
      0  at least one thread was nudged
      1  none was: there was nothing to nudge, or it was refused; the reason is told
      2  wrong usage

    \b
    Examples:
      epoll-watchdog nudge 4711
      epoll-watchdog nudge nginx.service
      epoll-watchdog nudge --json redis-server.service | jq .longest_stop_seconds
    """
    if not what or what.startswith("-") or "/" in what or (what.isdecimal() and int(what) == 0):
        raise click.BadParameter(f"{what!r} is neither a PID, 1 or more, nor a unit's name", param_hint="PID|UNIT")
    began = time.perf_counter()
    told = _ask(what)
    told["took_seconds"] = time.perf_counter() - began
    click.echo(json.dumps(told, indent=2) if as_json else _text(told), err=not as_json and not told["nudged"])
    raise SystemExit(0 if told["nudged"] else 1)


def _ask(what: str) -> dict[str, Any]:
    """The nudge in a child of its own: `Nudge.told`, or the refusal in the same shape."""
    try:
        epochs = _processes(what)
        ending = worker.run(lambda: _told(nudge(epochs)), TIMEOUT)
    except Refusal as refusal:
        return _nothing(str(refusal), type(refusal).__name__, refusal.hint)
    return _nothing(ending.error) if ending.error else ending.value


def _processes(what: str) -> tuple[Epoch, ...]:
    if what.isdecimal():
        epoch = _epoch(int(what))
        check_process(epoch.pid)
        return (epoch,)
    from watchdog.systemd import BusUnavailable, CallError, NoSuchUnit, NotRunning, unit_main_pid

    unit = what if "." in what else f"{what}.service"
    try:
        main = unit_main_pid(unit)
    except (BusUnavailable, CallError, NoSuchUnit, NotRunning) as error:
        raise UnitUnknown(str(error)) from None
    return processes(Target(unit=unit), _epoch(main))


def _epoch(pid: int) -> Epoch:
    return Epoch(pid, start_time(pid))


class UnitUnknown(Refusal):
    """systemd could not name the unit's main process."""

    hint = "look at `systemctl status UNIT`, or give a PID"


def _told(done: Nudge) -> dict[str, Any]:
    return {"outcome": done.outcome(), "reason": done.reason(), **done.detail()}


def _nothing(reason: str, refusal: str = "", hint: str = "") -> dict[str, Any]:
    told = _told(Nudge())
    skipped = [{"pid": 0, "tid": 0, "refusal": refusal, "reason": reason, "hint": hint}] if refusal else []
    return {**told, "outcome": "failed", "reason": reason, "skipped": skipped}


def _text(told: dict[str, Any]) -> str:
    lines = []
    if told["threads"]:
        lines.append(f"{'PID':>8} {'THREAD':>8}  {'NAME':15}  {'WAITED IN':18}  STOPPED FOR")
    for thread in told["threads"]:
        call = thread["call"] if thread["epoll_fd"] is None else f"{thread['call']} ({thread['epoll_fd']})"
        stopped = f"{thread['stopped_seconds'] * 1000:.2f} ms"
        lines.append(f"{thread['pid']:>8} {thread['tid']:>8}  {thread['name']:15}  {call:18}  {stopped}")
    if told["nudged"] > len(told["threads"]):
        lines.append(f"{'':>8} and {told['nudged'] - len(told['threads'])} more")
    for skipped in told["skipped"]:
        who = f"thread {skipped['tid']} of {skipped['pid']}" if skipped["tid"] else f"process {skipped['pid']}"
        lines.append(f"{who if skipped['pid'] else 'refused'}: {skipped['refusal']}: {skipped['reason']}")
        if skipped["hint"]:
            lines.append(f"    {skipped['hint']}")
    if told["nudged"] or not told["skipped"]:
        lines.append(told["reason"])
    return "\n".join(lines)
