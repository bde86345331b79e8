"""The helper's loop: it takes requests from its peers and has each done by a worker.

Rules: what root does is the table of `verbs.py`, and nothing else. The loop itself waits for nothing but its poll: what
may hang (the config's child, the ledger's fsync, every verb) happens in a worker with a deadline, so that several
services are served at once; for one service there is never a second action beside the first, nor a second reading,
whoever asks for it. What a peer asked for that has gone is done to its end. A request goes this way, and is answered
where it ends: config fresh, service known, no hold, process the one that was meant, budget spent (the service's mode
may leave none), ledger on the disk, verb done. A drill spends nothing, and there is none where no nudge is left. A
reading changes nothing and spends nothing, goes on beside an action, and while a hold is on.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from watchdog.helper.account import Account
from watchdog.helper.crew import Crew
from watchdog.helper.ledger import LedgerUnreadable, Use
from watchdog.helper.limits import LOAD_TIMEOUT
from watchdog.helper.peers import Peer, Peers
from watchdog.helper.protocol import Nonsense, Reply, Request, encode_reply, parse_request
from watchdog.helper.services import ConfigBad, Guarded, Load, Services
from watchdog.helper.upkeep import Upkeep
from watchdog.helper.verbs import VERBS, Done, Verb, refused
from watchdog.helper.worker import Ending
from watchdog.model import Outcome, Rung
from watchdog.target import Refusal, Target, check_alive, check_allowed

HOLD_FILE = "/etc/epoll-watchdog/hold"  # while root has put it there, nobody acts (the brain's is board.HOLD_FILE)
MAX_JOBS = 256
MAX_JOBS_OF_ONE = 192  # of one peer, so that it can't take all
MAX_OWED = 4 << 20  # bytes; a peer that has left so much unread gets no readings

_libc = ctypes.CDLL(None)
NOTHING = Target()


@dataclass(slots=True)
class Job:
    """One request on its way."""

    peer: Peer
    request: Request
    verb: Verb
    target: Target = NOTHING

    @property
    def key(self) -> Hashable:
        """Of which there is one at a time: the service's action, or its reading; what is of no service, for a peer."""
        if self.verb.rung is None and not self.verb.reads:
            return self.peer, self.request.verb
        if self.verb.root:  # a drill is no remedy: the one that it calls for is done beside it
            return self.request.service, self.request.verb
        return self.request.service, self.verb.reads


class Server:
    """Serves its peers.

    `load` reads the config, in a worker (`services.load_with_child`). While the file `hold` exists, there is no act.
    """

    def __init__(
        self,
        peers: Peers,
        config: str,
        ledger: str,
        load: Load,
        verbs: Mapping[str, Verb] = VERBS,
        hold: str = HOLD_FILE,
    ) -> None:
        self._peers = peers
        self._load = load
        self._verbs = verbs
        self._hold = hold
        self._never = frozenset({1, os.getpid(), os.getppid()})
        self._crew = Crew()
        self._account = Account(ledger, self._crew)
        self._services = Services(config)
        self._upkeep: Upkeep | None = None
        self._loading = False
        self._waiting: list[Job] = []  # for the config
        self._jobs: dict[Hashable, Job] = {}

    def serve(self) -> None:
        """Until nobody needs it any more, and what it keeps needs nothing; all other workers end with it."""
        self._refresh()
        while (left := self._peers.left(self._busy())) != 0 or not self._may_forget():
            poll = select.poll()
            ready = self._wait(poll, left, self._peers.register(poll))
            for peer, line in self._peers.exchange(ready):
                self._take(peer, line)
        while self._keeps():
            self._wait(select.poll())
        self._crew.dismiss()

    def _wait(self, poll: select.poll, *seconds: float | None) -> Mapping[int, int]:
        """Wait for what `poll` has, for the workers, and for the first of these times; what is ready."""
        for pipe in self._crew.pipes():
            poll.register(pipe, select.POLLIN)
        due = min((each for each in (*seconds, self._crew.due()) if each is not None), default=None)
        ready = dict(poll.poll(None if due is None else due * 1000 + 1))
        self._crew.attend(set(ready))
        return ready

    def see_to(self, work: Callable[[], Any], timeout: float) -> None:
        """Have this done in a worker meanwhile, for at most so many seconds; it tells of itself what is to be told."""

        def told(ending: Ending) -> None:
            if ending.error:
                print(f"epoll-watchdog helper: {ending.error}", file=sys.stderr, flush=True)

        self._crew.start(work, timeout, told)

    def keep(self, work: Callable[[], Any], timeout: float) -> None:
        """Have this seen to, now and whenever a verb was done that leaves something (`Upkeep`)."""
        self._upkeep = Upkeep(self._crew, work, timeout)
        self._upkeep.look()

    def _keeps(self) -> bool:
        """Whether there is anything that must not be left as it is."""
        return any(job.verb.root for job in self._jobs.values()) or (self._upkeep is not None and self._upkeep.at_work)

    def _busy(self) -> bool:
        return bool(self._jobs) or self._crew.busy

    def _may_forget(self) -> bool:
        """Whether the next helper will know what this one did. Else it stays: to forget a use is to grant another."""
        if not self._peers.come_and_go or not self._account.behind:
            return True
        self._peers.stay()
        self._account.catch_up()
        return False

    # --- the way of a request -----------------------------------------------------------------------------------------

    def _take(self, peer: Peer, line: bytes | None) -> None:
        try:
            request = parse_request(line)
            verb = self._verbs.get(request.verb)
            if verb is None:
                raise Nonsense(f"unknown verb {request.verb[:40]!r}; known: {', '.join(self._verbs)}", request.id)
        except Nonsense as nonsense:
            peer.owe(encode_reply(Reply(nonsense.id, Outcome.REFUSED, f"not understood: {nonsense}")))
            return
        job = Job(peer, request, verb)
        if verb.root and peer.uid != 0:
            self._refuse(job, f"only root may ask for a {request.verb}, not uid {peer.uid}")
        elif other := self._jobs.get(job.key):
            article = "an" if other.verb.reads else "a"
            of = f" of {request.service[:100]!r}" if request.service else ""
            self._refuse(job, f"{article} {other.request.verb}{of} is under way")
        elif len(self._jobs) >= MAX_JOBS:
            self._refuse(job, f"{MAX_JOBS} requests are under way")
        elif peer.under_way >= MAX_JOBS_OF_ONE:
            self._refuse(job, f"{MAX_JOBS_OF_ONE} requests of yours are under way")
        else:
            self._jobs[job.key] = job
            peer.under_way += 1
            self._admit(job)

    def _refuse(self, job: Job, reason: str) -> None:
        job.peer.owe(encode_reply(Reply(job.request.id, Outcome.REFUSED, reason)))

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
        if job.verb.rung is not None and os.path.exists(self._hold):
            self._answer(job, Done(Outcome.REFUSED, f"{self._hold} exists: no remedy until it is removed", {}))
            return
        job.target = guarded.target
        try:
            check_allowed(job.target)
            if epoch is not None:
                check_alive(epoch)
            if job.verb.rung is None:
                self._act(job)
            else:
                self._spend(job, job.verb.rung, guarded)
        except Refusal as refusal:
            self._answer(job, refused(refusal))

    def _spend(self, job: Job, rung: Rung, guarded: Guarded) -> None:
        budget = guarded.budgets[rung]
        try:
            if not job.verb.spends:
                self._if_left(job, rung, guarded)
                return
            use = self._account.spend(job.request.service, rung, budget, lambda error: self._stored(job, use, error))
        except LedgerUnreadable as error:
            self._answer(job, Done(Outcome.REFUSED, str(error), {}))
            return
        if use is None:
            self._answer(job, Done(Outcome.REFUSED, guarded.why_spent(rung), {}))
        self._account.store()

    def _if_left(self, job: Job, rung: Rung, guarded: Guarded) -> None:
        if self._account.left(job.request.service, rung, guarded.budgets[rung]):
            self._act(job)
        else:
            self._answer(job, Done(Outcome.REFUSED, guarded.why_spent(rung), {}))

    def _stored(self, job: Job, use: Use | None, error: str) -> None:
        if error and job.verb.stored and job.verb.rung is not None and use is not None:
            self._account.refund(job.request.service, job.verb.rung, use)
            reason = f"the helper's ledger can't be written, so there is no {job.verb.rung}: {error}"
            self._answer(job, Done(Outcome.REFUSED, reason, {}))
        else:
            self._act(job)

    def _act(self, job: Job) -> None:
        act, target, request = job.verb.act, job.target, job.request
        never = self._never | self._peers.pids()

        def work() -> str:
            try:
                done = act(target, request, never)
            except Refusal as refusal:
                done = refused(refusal)
            return encode_reply(_reply(request, done)).decode()

        self._crew.start(work, job.verb.timeout, lambda ending: self._acted(job, ending))

    def _acted(self, job: Job, ending: Ending) -> None:
        if self._upkeep is not None and job.verb.root:
            self._upkeep.look()
        if ending.error:
            outcome = Outcome.TIMED_OUT if ending.overran else Outcome.FAILED
            self._answer(job, Done(outcome, ending.error, {}))
        elif job.verb.reads and job.peer.owed > MAX_OWED:
            reason = f"{job.peer.owed} bytes of earlier replies are unread, so there is no room for this one"
            self._answer(job, Done(Outcome.FAILED, reason, {}))
        else:  # as the worker wrote it: values made of it would cost us their memory
            self._end(job, ending.value.encode())

    def _answer(self, job: Job, done: Done) -> None:
        self._end(job, encode_reply(_reply(job.request, done)))

    def _end(self, job: Job, line: bytes) -> None:
        del self._jobs[job.key]
        job.peer.under_way -= 1
        job.peer.owe(line)


def _reply(request: Request, done: Done) -> Reply:
    return Reply(request.id, done.outcome, done.reason, done.detail)
