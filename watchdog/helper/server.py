"""The helper's loop: it takes requests from its one peer and has each done by a worker.

Rules: what root does is the table `VERBS`, and nothing else. The loop itself waits for nothing but its poll: what may
hang (the config's child, the ledger's fsync, every verb) happens in a worker with a deadline, so that several services
are served at once; for one service there is never a second action beside the first. A request goes this way, and is
answered where it ends: config fresh, service known, process the one that was meant, budget spent, ledger on the disk,
verb done.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import watchdog
from watchdog.evidence.rights import may_ptrace, yama_scope
from watchdog.helper.account import Account
from watchdog.helper.crew import Crew
from watchdog.helper.ledger import LedgerUnreadable, Use
from watchdog.helper.nudge import nudge
from watchdog.helper.protocol import MAX_REQUEST, Lines, Nonsense, Reply, Request, encode_reply, parse_request
from watchdog.helper.services import LOAD_TIMEOUT, ConfigBad, Load, Services
from watchdog.helper.worker import Ending
from watchdog.model import Epoch, Outcome, Performed, Rung
from watchdog.target import Gone, Refusal, Target, check_alive, check_allowed, processes

CHUNK = 4096  # bytes read at once: no more replies than they ask for can be owed to a peer that does not read
MAX_JOBS = 256

_libc = ctypes.CDLL(None)
NOTHING = Target()


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
    """

    act: Callable[[Target, Epoch | None, frozenset[int]], Done]
    timeout: float
    rung: Rung | None = None
    stored: bool = False


def _hello(_target: Target, _epoch: Epoch | None, _never: frozenset[int]) -> Done:
    detail = {
        "version": watchdog.__version__,
        "uid": os.geteuid(),
        "cap_sys_ptrace": may_ptrace(),
        "yama_ptrace_scope": yama_scope(),
    }
    return Done(Outcome.DONE, "", detail)


def _nudge(target: Target, epoch: Epoch | None, never: frozenset[int]) -> Done:
    if epoch is None:
        raise Gone("there is no process to nudge")
    return _told(nudge(processes(target, epoch), never).performed())


def _restart(target: Target, epoch: Epoch | None, _never: frozenset[int]) -> Done:
    from watchdog.helper.restart import restart  # in the worker only: it brings D-Bus with it

    return _told(restart(target, epoch))


def _told(performed: Performed) -> Done:
    return Done(performed.outcome, performed.reason, performed.detail)


VERBS: Mapping[str, Verb] = {
    "hello": Verb(_hello, timeout=1.0),
    "nudge": Verb(_nudge, timeout=1.0, rung=Rung.NUDGE),
    # It bounds itself by the unit's own TimeoutStopSec= and TimeoutStartSec=; this is for one that does not.
    "restart": Verb(_restart, timeout=3600.0, rung=Rung.RESTART, stored=True),
}


@dataclass(slots=True)
class Job:
    """One request on its way."""

    request: Request
    verb: Verb
    target: Target = NOTHING


class Server:
    """Serves one peer until it goes away. `load` reads the config, in a worker (`services.load_with_child`)."""

    def __init__(
        self, peer: socket.socket, config: str, ledger: str, load: Load, verbs: Mapping[str, Verb] = VERBS
    ) -> None:
        self._peer = peer
        self._load = load
        self._verbs = verbs
        self._never = frozenset({1, os.getpid(), os.getppid()})
        self._crew = Crew()
        self._account = Account(ledger, self._crew)
        self._services = Services(config)
        self._loading = False
        self._waiting: list[Job] = []  # for the config
        self._jobs: dict[str, Job] = {}  # by service: one each
        self._lines = Lines(MAX_REQUEST)
        self._owed = b""

    def serve(self) -> None:
        """Until the peer closes; the workers end with it."""
        self._peer.setblocking(False)
        self._refresh()
        while True:
            poll = select.poll()
            poll.register(self._peer, select.POLLOUT if self._owed else select.POLLIN)
            for pipe in self._crew.pipes():
                poll.register(pipe, select.POLLIN)
            due = self._crew.due()
            ready = {file for file, _ in poll.poll(None if due is None else due * 1000 + 1)}
            self._crew.attend(ready)
            if self._peer.fileno() in ready and not self._exchange():
                break
        self._crew.dismiss()

    def _exchange(self) -> bool:
        """Write what is owed, or read what is asked; a peer that reads no replies is not read from. False: it left."""
        try:
            if self._owed:
                self._owed = self._owed[self._peer.send(self._owed) :]
                return True
            data = self._peer.recv(CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        for line in self._lines.feed(data):
            self._take(line)
        return bool(data)

    # --- the way of a request -----------------------------------------------------------------------------------------

    def _take(self, line: bytes | None) -> None:
        try:
            request = parse_request(line)
            verb = self._verbs.get(request.verb)
            if verb is None:
                raise Nonsense(f"unknown verb {request.verb[:40]!r}; known: {', '.join(self._verbs)}", request.id)
        except Nonsense as nonsense:
            self._owe(Reply(nonsense.id, Outcome.REFUSED, f"not understood: {nonsense}"))
            return
        if other := self._jobs.get(request.service):
            reason = f"a {other.request.verb} of {request.service[:100]!r} is under way"
            self._owe(Reply(request.id, Outcome.REFUSED, reason))
        elif len(self._jobs) >= MAX_JOBS:
            self._owe(Reply(request.id, Outcome.REFUSED, f"{MAX_JOBS} requests are under way"))
        else:
            job = self._jobs[request.service] = Job(request, verb)
            self._admit(job)

    def _admit(self, job: Job) -> None:
        if job.verb.rung is None:
            self._act(job)
        elif self._loading or self._services.stale():
            self._waiting.append(job)
            self._refresh()
        else:
            self._begin(job)

    def _refresh(self) -> None:
        if not self._loading:
            self._loading = True
            began = time.time()
            self._crew.start(self._load, LOAD_TIMEOUT, lambda ending: self._loaded(ending, began))

    def _loaded(self, ending: Ending, began: float) -> None:
        self._loading = False
        try:
            if ending.error:
                raise ConfigBad(ending.error)
            self._services.accept(ending.value, began)
        except ConfigBad as error:
            self._services.reject(str(error))
            print(f"epoll-watchdog helper: bad config, kept the old one: {error}", file=sys.stderr, flush=True)
        _libc.malloc_trim(0)  # what importing and loading took and no longer needs: 0.5 MiB, for ever
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            self._begin(job)

    def _begin(self, job: Job) -> None:
        """Refuse what can be refused before anything is spent; then spend."""
        service, rung, epoch = job.request.service, job.verb.rung, job.request.epoch
        guarded = self._services.get(service)
        if guarded is None or rung is None:
            reason = f"the config names no service {service[:100]!r}"
            if self._services.error:
                reason += f", but it is bad, and the old one stays in force: {self._services.error}"
            self._answer(job, Done(Outcome.REFUSED, reason, {}))
            return
        job.target = guarded.target
        budget = guarded.budgets[rung]
        try:
            check_allowed(job.target)
            if epoch is not None:
                check_alive(epoch)
            use = self._account.spend(service, rung, budget, lambda error: self._stored(job, use, error))
        except Refusal as refusal:
            self._answer(job, _refused(refusal))
        except LedgerUnreadable as error:
            self._answer(job, Done(Outcome.REFUSED, str(error), {}))
        else:
            if use is None:
                reason = f"the helper's own budget is spent: {budget.burst} in {budget.interval:g} s"
                self._answer(job, Done(Outcome.REFUSED, reason, {}))
            self._account.store()

    def _stored(self, job: Job, use: Use | None, error: str) -> None:
        if error and job.verb.stored and job.verb.rung is not None and use is not None:
            self._account.refund(job.request.service, job.verb.rung, use)
            reason = f"the helper's ledger can't be written, so nothing is restarted: {error}"
            self._answer(job, Done(Outcome.REFUSED, reason, {}))
        else:
            self._act(job)

    def _act(self, job: Job) -> None:
        act, target, epoch, never = job.verb.act, job.target, job.request.epoch, self._never

        def work() -> dict[str, Any]:
            try:
                done = act(target, epoch, never)
            except Refusal as refusal:
                done = _refused(refusal)
            return {"outcome": done.outcome, "reason": done.reason, "detail": dict(done.detail)}

        self._crew.start(work, job.verb.timeout, lambda ending: self._acted(job, ending))

    def _acted(self, job: Job, ending: Ending) -> None:
        if ending.error:
            outcome = Outcome.TIMED_OUT if ending.overran else Outcome.FAILED
            self._answer(job, Done(outcome, ending.error, {}))
        else:
            value = ending.value
            self._answer(job, Done(Outcome(value["outcome"]), value["reason"], value["detail"]))

    def _answer(self, job: Job, done: Done) -> None:
        del self._jobs[job.request.service]
        self._owe(Reply(job.request.id, done.outcome, done.reason, done.detail))

    def _owe(self, reply: Reply) -> None:
        self._owed += encode_reply(reply)


def _refused(refusal: Refusal) -> Done:
    outcome = Outcome.GONE if isinstance(refusal, Gone) else Outcome.REFUSED
    return Done(outcome, str(refusal), {"refusal": type(refusal).__name__, "hint": refusal.hint})
