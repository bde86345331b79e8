"""The verb `drill`: put a healthy service into the stall that the daemon is there for, and be sure that it comes out.

Rules: only where the config says `drill = true`; recorded before anything is done, so that whoever comes after us
undoes it (`drilling`); no thread is stalled that a nudge would not reach.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from watchdog.helper import drilling, ledger
from watchdog.helper.drilling import LONGEST, Drill
from watchdog.helper.stall import stall
from watchdog.model import Epoch, Performed, Rung
from watchdog.target import Refusal, Target, processes

PATIENCE, DEADLINE = 2.0, 4.0  # s that a thread at work is lain in wait for; that all of them may take
SHORTEST = 1.0  # s that a drill may last


class NotAllowed(Refusal):
    """The config does not allow a drill of this service."""

    hint = "add `drill = true` to its [service.NAME] table"


class OutOfRange(Refusal):
    """No drill lasts so long, or so shortly."""

    hint = f"give {SHORTEST:g} to {LONGEST:g} s"


class UnderWay(Refusal):
    """A drill of this process has not come to its end."""

    hint = "wait for it; a nudge ends it at once"


class NoPlace(Refusal):
    """What makes sure of the end of the drill is not there: nothing was done."""

    hint = "see the helper's StateDirectory=, or the daemon's state_directory"


class TooMany(Refusal):
    """More processes than a record has room for."""

    hint = "there is no drill for such a service"


def drill(
    target: Target, service: str, epoch: Epoch, never: frozenset[int], directory: str, seconds: float
) -> Performed:
    """Stall the service that `epoch` is of, for `seconds` at most. `directory` is where drills are recorded.

    Raises a `Refusal`.
    """
    if not target.drill:
        raise NotAllowed(f"the config allows no drill of {service!r}")
    if not SHORTEST <= seconds <= LONGEST:
        raise OutOfRange(f"a drill of {seconds:g} s is none")
    epochs = processes(target, epoch)
    if len(epochs) > drilling.MAX_PROCESSES:
        raise TooMany(f"it has {len(epochs)} processes, and a drill is for {drilling.MAX_PROCESSES} at most")
    before = drilling.recorded(directory).get(drilling.name_of(epoch))
    if before is not None and (not before.begun or drilling.on_detours(before)):
        raise UnderWay(f"a drill of {service!r} is not over yet")
    began = time.monotonic()
    planned = Drill(service, False, ledger.now().boottime + seconds, epochs)
    _record(directory, epoch, planned)
    done = stall(epochs, never, DEADLINE, patience=PATIENCE, filter_allows=target.drill_under_seccomp)
    print(f"epoll-watchdog helper: drill of {service!r}: {done.reason()}", file=sys.stderr, flush=True)
    lives = tuple(each for each in epochs if each.pid in done.sent)
    if lives:
        _record(directory, epoch, replace(planned, begun=True, processes=lives))
    else:
        drilling.forget(directory, drilling.name_of(epoch))
    detail = {
        **done.detail(),
        "lives": [(each.pid, each.start_time) for each in lives],
        "seconds": time.monotonic() - began,
    }
    return Performed(Rung.NUDGE, done.outcome(), done.reason(), detail)


def _record(directory: str, main: Epoch, planned: Drill) -> None:
    if not directory:
        raise NoPlace("there is no place to record a drill")
    try:
        drilling.record(directory, main, planned)
    except OSError as error:
        if not planned.begun:
            raise NoPlace(f"the drill can't be recorded: {error.strerror}") from None
        # The first record stays: it tells of more processes, and is looked at until its time has come.
