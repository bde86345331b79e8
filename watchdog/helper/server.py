"""The helper's loop: it takes requests from its one peer and has each done by a worker.

Rules: what root does is the table of `verbs.py`, and nothing else. The loop itself waits for nothing but its poll: what
may hang (the config's child, the ledger's fsync, every verb) happens in a worker with a deadline, so that several
services are served at once; for one service there is never a second action beside the first, nor a second reading. A
request goes this way, and is answered where it ends: config fresh, service known, process the one that was meant,
budget spent, ledger on the disk, verb done. A reading changes nothing and spends nothing, and may go on beside an
action.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from watchdog.helper.account import Account
from watchdog.helper.crew import Crew
from watchdog.helper.ledger import LedgerUnreadable, Use
from watchdog.helper.protocol import MAX_REQUEST, Lines, Nonsense, Reply, Request, encode_reply, parse_request
from watchdog.helper.services import LOAD_TIMEOUT, ConfigBad, Load, Services
from watchdog.helper.verbs import VERBS, Done, Verb, refused
from watchdog.helper.worker import Ending
from watchdog.model import Budget, Outcome, Rung
from watchdog.target import Refusal, Target, check_alive, check_allowed

CHUNK = 4096  # bytes read at once: no more replies than they ask for can be owed to a peer that does not read
MAX_JOBS = 256

_libc = ctypes.CDLL(None)
NOTHING = Target()


@dataclass(slots=True)
class Job:
    """One request on its way."""

    request: Request
    verb: Verb
    target: Target = NOTHING

    @property
    def key(self) -> tuple[str, bool]:
        """Of which there is one at a time: the service's action, or its reading."""
        return self.request.service, self.verb.reads


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
        self._jobs: dict[tuple[str, bool], Job] = {}
        self._lines = Lines(MAX_REQUEST)
        self._owed = bytearray()

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
                del self._owed[: self._peer.send(self._owed)]
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
        job = Job(request, verb)
        if other := self._jobs.get(job.key):
            article = "an" if other.verb.reads else "a"
            reason = f"{article} {other.request.verb} of {request.service[:100]!r} is under way"
            self._owe(Reply(request.id, Outcome.REFUSED, reason))
        elif len(self._jobs) >= MAX_JOBS:
            self._owe(Reply(request.id, Outcome.REFUSED, f"{MAX_JOBS} requests are under way"))
        else:
            self._jobs[job.key] = job
            self._admit(job)

    def _admit(self, job: Job) -> None:
        if job.verb.rung is None and not job.verb.reads:
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
        service, epoch = job.request.service, job.request.epoch
        guarded = self._services.get(service)
        if guarded is None:
            reason = f"the config names no service {service[:100]!r}"
            if self._services.error:
                reason += f", but it is bad, and the old one stays in force: {self._services.error}"
            self._answer(job, Done(Outcome.REFUSED, reason, {}))
            return
        job.target = guarded.target
        try:
            check_allowed(job.target)
            if epoch is not None:
                check_alive(epoch)
            if job.verb.rung is None:
                self._act(job)
            else:
                self._spend(job, job.verb.rung, guarded.budgets[job.verb.rung])
        except Refusal as refusal:
            self._answer(job, refused(refusal))

    def _spend(self, job: Job, rung: Rung, budget: Budget) -> None:
        try:
            use = self._account.spend(job.request.service, rung, budget, lambda error: self._stored(job, use, error))
        except LedgerUnreadable as error:
            self._answer(job, Done(Outcome.REFUSED, str(error), {}))
            return
        if use is None:
            reason = f"the helper's own budget is spent: {budget.burst} in {budget.interval:g} s"
            self._answer(job, Done(Outcome.REFUSED, reason, {}))
        self._account.store()

    def _stored(self, job: Job, use: Use | None, error: str) -> None:
        if error and job.verb.stored and job.verb.rung is not None and use is not None:
            self._account.refund(job.request.service, job.verb.rung, use)
            reason = f"the helper's ledger can't be written, so there is no {job.verb.rung}: {error}"
            self._answer(job, Done(Outcome.REFUSED, reason, {}))
        else:
            self._act(job)

    def _act(self, job: Job) -> None:
        act, target, request, never = job.verb.act, job.target, job.request, self._never

        def work() -> str:
            try:
                done = act(target, request, never)
            except Refusal as refusal:
                done = refused(refusal)
            return encode_reply(_reply(request, done)).decode()

        self._crew.start(work, job.verb.timeout, lambda ending: self._acted(job, ending))

    def _acted(self, job: Job, ending: Ending) -> None:
        if ending.error:
            outcome = Outcome.TIMED_OUT if ending.overran else Outcome.FAILED
            self._answer(job, Done(outcome, ending.error, {}))
        else:
            del self._jobs[job.key]
            self._owed += ending.value.encode()  # as the worker wrote it: values made of it would cost us their memory

    def _answer(self, job: Job, done: Done) -> None:
        del self._jobs[job.key]
        self._owe(_reply(job.request, done))

    def _owe(self, reply: Reply) -> None:
        self._owed += encode_reply(reply)


def _reply(request: Request, done: Done) -> Reply:
    return Reply(request.id, done.outcome, done.reason, done.detail)
