"""All that root does here: the table of `verbs`, and nothing else.

Each verb is done in a worker (`worker.py`), so what it imports inside its function the resident helper does not carry.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import watchdog
from watchdog.evidence.epollfd import with_copies
from watchdog.evidence.procfs import sample
from watchdog.evidence.rights import may_ptrace, yama_scope
from watchdog.helper.limits import TIMEOUTS
from watchdog.helper.methods import nudge_by_methods
from watchdog.helper.protocol import Request, plain
from watchdog.model import Outcome, Performed, Rung
from watchdog.target import Gone, NeverATarget, Refusal, Target, find, processes

if TYPE_CHECKING:
    from watchdog.helper.command import Runner


@dataclass(frozen=True, slots=True)
class Done:
    """What a verb came to."""

    outcome: Outcome
    reason: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verb:
    """What a verb does, in a worker, and for how many seconds at most.

    With a `rung` it acts on a service of the config, within the budget; `stored`: never without its use on the disk.
    With `reads` it reads of one. With neither it is about no service. One that does not `spend` is done only where a
    use is left, and leaves it. `root`: nobody else may ask for it.
    """

    act: Callable[[Target, Request, frozenset[int]], Done]
    timeout: float
    rung: Rung | None = None
    stored: bool = False
    reads: bool = False
    spends: bool = True
    root: bool = False


def _hello(_target: Target, _request: Request, _never: frozenset[int]) -> Done:
    detail = {
        "version": watchdog.__version__,
        "uid": os.geteuid(),
        "cap_sys_ptrace": may_ptrace(),
        "yama_ptrace_scope": yama_scope(),
    }
    return Done(Outcome.DONE, "", detail)


def _find(target: Target, _request: Request, never: frozenset[int]) -> Done:
    """What the brain can't see: whose executable is a process'."""
    epoch = find(target, never)
    if epoch is None:
        raise Gone(f"{target} names no living process")
    return Done(Outcome.DONE, "", {"pid": epoch.pid, "start_time": epoch.start_time})


def _examine(target: Target, request: Request, never: frozenset[int]) -> Done:
    if request.epoch is None:
        raise Gone("there is no process to examine")
    if request.pid in never:
        raise NeverATarget("it is never touched")
    found = sample([epoch for epoch in processes(target, request.epoch) if epoch.pid not in never])
    if not found.processes:
        raise Gone(f"process {request.pid} has ended")
    return Done(Outcome.DONE, "", plain(with_copies(found) if request.copy else found))


def _nudge(frozen: str, target: Target, request: Request, never: frozenset[int]) -> Done:
    if request.epoch is None:
        raise Gone("there is no process to nudge")
    return _told(nudge_by_methods(target, request.epoch, never, frozen))


def _drill(drilling: str, target: Target, request: Request, never: frozenset[int]) -> Done:
    from watchdog.helper.drill import drill  # in the worker only

    if request.epoch is None:
        raise Gone("there is no process to stall")
    return _told(drill(target, request.service, request.epoch, never, drilling, request.at_most / 1000))


def _capture(transient: bool, capturing: str, target: Target, request: Request, never: frozenset[int]) -> Done:
    from watchdog.helper.capture import capture  # in the worker only, as below

    if request.epoch is None:
        raise Gone("there is no process to capture")
    if request.pid in never:
        raise NeverATarget("it is never touched")
    runner = _runner(transient, request.service)
    return _told(capture(target, request.epoch, runner=runner, service=request.service, directory=capturing))


def _restart(transient: bool, restarting: str, target: Target, request: Request, _never: frozenset[int]) -> Done:
    from watchdog.helper.restart import restart  # in the worker only: it brings D-Bus with it

    runner = _runner(transient, request.service)
    return _told(restart(target, request.epoch, runner=runner, directory=restarting))


def _runner(transient: bool, service: str) -> Runner:
    if transient:
        from watchdog.helper.transient import Transient

        return Transient(service)
    from watchdog.helper.command import Child

    return Child()


def _told(performed: Performed) -> Done:
    return Done(performed.outcome, performed.reason, performed.detail)


def verbs(
    *, transient: bool, frozen: str = "", restarting: str = "", capturing: str = "", drilling: str = ""
) -> Mapping[str, Verb]:
    """The table. With `transient`, for a helper under systemd, the config's commands are run by systemd, not by us.

    `frozen` and `drilling` are where a freeze and a drill are recorded; without them there is none. `restarting` and
    `capturing` are where a restart and a capture under way are recorded.
    """
    return {
        "hello": Verb(_hello, timeout=TIMEOUTS["hello"]),
        "find": Verb(_find, timeout=TIMEOUTS["find"], reads=True),
        "examine": Verb(_examine, timeout=TIMEOUTS["examine"], reads=True),
        "nudge": Verb(partial(_nudge, frozen), timeout=TIMEOUTS["nudge"], rung=Rung.NUDGE),
        "drill": Verb(partial(_drill, drilling), timeout=TIMEOUTS["drill"], rung=Rung.NUDGE, spends=False, root=True),
        "capture": Verb(
            partial(_capture, transient, capturing), timeout=TIMEOUTS["capture"], rung=Rung.CAPTURE, stored=True
        ),
        "restart": Verb(
            partial(_restart, transient, restarting), timeout=TIMEOUTS["restart"], rung=Rung.RESTART, stored=True
        ),
    }


VERBS = verbs(transient=False)


def refused(refusal: Refusal) -> Done:
    outcome = Outcome.GONE if isinstance(refusal, Gone) else Outcome.REFUSED
    return Done(outcome, str(refusal), {"refusal": type(refusal).__name__, "hint": refusal.hint})
