"""The loop that guards one service: look, diagnose, step, commit, act. It decides nothing.

What it keeps: a remedy is committed as pending, with its budget spent, before it is performed; one restart at a time
over all guards, claimed in the same breath as it is decided. Where the state can't be written a nudge still runs
(bounded by the helper's own ledger) and a restart is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from watchdog import ladder, messages
from watchdog.clock import Clock
from watchdog.config import Service
from watchdog.diagnosis import diagnose
from watchdog.evidence.sockdiag import Listening
from watchdog.look import Look, Seen
from watchdog.model import (
    Action,
    Case,
    Diagnosis,
    Epoch,
    Event,
    Host,
    Looked,
    Outcome,
    Performed,
    Record,
    RestartOutlook,
    Resumed,
    Road,
    Rung,
    State,
    Step,
    Told,
    Verdict,
)
from watchdog.pace import plan
from watchdog.reading import Advisory, Form, Pressure, Queues
from watchdog.restraint import DRASTIC
from watchdog.sight import look_at
from watchdog.store import Commit, Entry, Letter, Store, StoreUnwritable
from watchdog.verdicts import Stance, stance

LOADS = 3  # tries to read the state at the start; a disk that is busy at boot answers the second or third
log = logging.getLogger(__name__)


class Hands(Protocol):
    """Who performs a remedy: the helper, or in the sweep of kills its stand-in."""

    async def perform(self, service: str, action: Action) -> Performed:
        """Perform it and tell the outcome; never raises."""
        ...


class Surroundings(Protocol):
    """What all guards share. `daemon` is its one owner."""

    def host(self, service: str) -> Host:
        """What a decision must know of the host and of the other services, now."""
        ...

    def pressure(self, service: Service, epoch: Epoch | None) -> Pressure | None:
        """How scarce the host and the service's cgroup are, now."""
        ...

    async def outlook(self, service: Service) -> RestartOutlook | None:
        """What would come of a restart of its unit; None where it has none, or nobody tells."""
        ...

    def advisories(self) -> tuple[Advisory, ...]:
        """What is known of the running kernel."""
        ...

    def restarting(self, service: str) -> contextlib.AbstractContextManager[None]:
        """Claims the one restart until it is left."""
        ...

    def letters(self, service: Service, record: Record) -> Sequence[Letter]:
        """The letters to the alert channels that a record asks for."""
        ...

    def told(self, service: Service, records: Sequence[Record]) -> None:
        """Records were committed (or could not be)."""
        ...

    def looked(self, guard: Guard) -> None:
        """A round was taken and judged."""
        ...

    def store_failed(self, error: StoreUnwritable | None) -> None:
        """The last commit failed; None: it worked."""
        ...


class Guard:
    """Guards one service until it is cancelled. Its attributes are what the API shows."""

    def __init__(
        self,
        service: Service,
        look: Look,
        hands: Hands,
        store: Store,
        clock: Clock,
        around: Surroundings,
        found: State | None = None,
    ) -> None:
        self.service = service
        self.state = State() if found is None else found
        self._found = found
        self.seen: Seen | None = None
        self.diagnosis: Diagnosis | None = None
        self._look = look
        self._hands = hands
        self._store = store
        self._clock = clock
        self._around = around
        self._acted: float | None = None
        self._late_told: float | None = None
        self.next_round = 0.0
        self.began = clock.now()
        self._ending = False
        self._unsaved = False  # the last commit failed: the next turn makes it good
        self._loaded = asyncio.Event()  # the state is the last daemon's, and not the empty one from before
        if found is not None:
            self._loaded.set()

    @property
    def roads(self) -> Mapping[str, Road]:
        """Of its probes."""
        return self._look.roads

    @property
    def sick(self) -> bool:
        """Whether its failure may explain that of a service which depends on it: until it is healthy again.

        So it is with an incident open, and by its last verdict: sick, stopped, starting. Not where only its witness is
        lost, for then it serves; and where the watchdog itself can't see, only the incident tells.
        """
        verdict = None if self.diagnosis is None else self.diagnosis.verdict
        if verdict is Verdict.WITNESS_LOST:
            return False
        if self.state.incident is not None or verdict is Verdict.STARTING:
            return True
        return verdict is not None and stance(verdict) in (Stance.SICK, Stance.REST)

    def queues(self, listening: Listening | None = None) -> Queues:
        """Its accept queues now, out of a dump of all listeners, if there is one."""
        return self._look.examiner.queues(listening)

    @property
    def abroad(self) -> bool:
        """Whether its sockets are in another network namespace: then its queues cost some 3 ms to read [M]."""
        return bool(self._look.examiner.abroad)

    def trip(self) -> None:
        """Take a round now, and read the evidence with it: a queue of the service stays filled."""
        self._look.tripped = True
        self._look.woken.set()

    def end(self) -> None:
        """Let `run` return after the present turn, with nothing left half done."""
        self._ending = True
        self._look.woken.set()

    async def run(self, after: float = 0.0) -> None:
        """Guard, beginning `after` seconds from now: a round whenever one is planned, or sooner when an answer that was
        waited on has come.
        """
        try:
            due = self._clock.now() + after
            await self._wait(after)
            await self.resume()
            self.next_round = min(self.next_round, due)
            while not self._ending:
                try:
                    await self.turn()
                except Exception:  # a fault of ours must not end the guarding, of this service or of others
                    self._tell_fault("the round is void")
                    self.next_round = self._clock.now() + self.service.policy.interval
                await self._wait(max(0.0, self.next_round - self._clock.now()))
        finally:
            self._look.close()

    async def _wait(self, seconds: float) -> None:
        # Not `asyncio.wait_for`: that of Python 3.11 loses a cancellation that comes as the wait ends (gh-86296).
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._look.woken.wait()

    async def resume(self) -> None:
        """Take up what the last daemon left, or, after a reload, the guard before this one."""
        for _ in range(LOADS if self._found is None else 0):
            try:
                self.state = await self._store.load(self.service.name)
                break
            except StoreUnwritable as error:
                self._around.store_failed(error)
        self._loaded.set()
        self.next_round = self._clock.now()
        if self.state.pending is not None:
            await self.apply(Resumed((await self._look.round()).epoch))

    async def turn(self) -> None:
        """One look, and all that follows from it."""
        began = self._clock.now()
        due = self.next_round
        gap = began - due
        seen = await self._look.round()
        case = self._case(seen, gap)
        diagnosis = diagnose(case)
        await self._learn(seen, diagnosis)  # first: who is told that it is healthy may rely on a baseline
        self.seen, self.diagnosis = seen, diagnosis
        late = case.late_answer is not None and case.late_answer != self._late_told
        self._late_told = case.late_answer
        ahead = ladder.restart_ahead(self.service.policy, self.state, self.diagnosis.verdict)
        outlook = await self._around.outlook(self.service) if ahead else None
        looked = Looked(
            round_id=seen.round.id,
            diagnosis=diagnosis,
            epoch=seen.epoch,
            late=late,
            host=self._host(gap),  # as it is now: another guard may have claimed the one restart meanwhile
            dark=look_at(case).gone_dark,
            parked=bool(case.proofs) and all(proof.form is Form.PARKED for proof in case.proofs),
            answered=self._look.answered if self._acted is not None else None,
            outlook=outlook,
        )
        await self.apply(looked, case)
        self.next_round = plan(self.service.policy, self.state, began, self._clock.now(), due)
        self._around.looked(self)

    async def _learn(self, seen: Seen, diagnosis: Diagnosis) -> None:
        """Read the baseline while the service is well."""
        examiner = self._look.examiner
        if diagnosis.verdict is Verdict.HEALTHY and seen.epoch is not None and examiner.must_learn():
            await examiner.learn(seen.epoch)

    def _host(self, gap: float) -> Host:
        return replace(self._around.host(self.service.name), tick_gap=gap)

    def _case(self, seen: Seen, gap: float) -> Case:
        return Case(
            now=self._clock.now(),
            policy=self.service.policy,
            roads=self._look.roads,
            asked=self._look.asked,
            round=seen.round,
            epoch=seen.epoch,
            age=seen.age,
            seen_healthy=self.state.seen_healthy and seen.epoch == self.state.epoch,
            unit=seen.unit,
            process_error=seen.process_error,
            late_answer=self._look.late_answer,
            acted=self._acted,
            host=self._host(gap),
            reading=seen.reading,
            proofs=self._look.examiner.proofs,
            unproven=self._look.examiner.unproven if seen.reading is not None else (),
            baseline=self._look.examiner.baseline,
            pressure=self._around.pressure(self.service, seen.epoch),
            advisories=self._around.advisories(),
        )

    async def apply(self, event: Event, case: Case | None = None) -> None:
        """Step, commit (with the evidence in `case`), act; the outcome of the act is the next event."""
        pending: Event | None = event
        while pending is not None:
            now = self._clock.now()
            step = ladder.step(self.service.policy, self.state, pending, now)
            before, self.state = self.state, step.state
            # Claimed before the first await: no other guard can decide for a restart in between.
            restart = step.action is not None and step.action.rung is Rung.RESTART
            with self._around.restarting(self.service.name) if restart else contextlib.nullcontext():
                fault = await self._commit(step, Entry(now, before, pending), case if pending is event else None)
                pending = await self._act(step.action, fault) if step.action is not None else None

    async def loaded(self) -> None:
        """Wait until its state is the one that was kept."""
        await self._loaded.wait()

    def tell(self, told: Told) -> Commit:
        """An operator's word: it counts at once, whatever is under way; what is to be committed, and then `committed`.

        Not before `loaded`: it would overwrite the state that the last daemon left. And no await may come before the
        commit: a later state must not be overwritten by this one.
        """
        now = self._clock.now()
        step = ladder.step(self.service.policy, self.state, told, now)
        before, self.state = self.state, step.state
        return self._what_to_commit(step, Entry(now, before, told), None)

    async def _commit(self, step: Step, entry: Entry, case: Case | None) -> StoreUnwritable | None:
        if not step.records and not self._unsaved and ladder.durable(step.state) == ladder.durable(entry.state):
            return None
        commit = self._what_to_commit(step, entry, case)
        fault: StoreUnwritable | None = None
        try:
            await self._store.commit(self.service.name, commit.state, commit.records, entry, commit.letters, case)
        except StoreUnwritable as error:
            fault = error
        self.committed(commit, fault)
        return fault

    def _what_to_commit(self, step: Step, entry: Entry, case: Case | None) -> Commit:
        letters = [letter for record in step.records for letter in self._around.letters(self.service, record)]
        return Commit(self.service.name, step.state, step.records, entry, letters, case)

    def committed(self, commit: Commit, fault: StoreUnwritable | None) -> None:
        """It was, or could not be: then the next turn makes it good."""
        self._unsaved = fault is not None
        self._around.store_failed(fault)
        self._around.told(self.service, commit.records)

    async def _act(self, action: Action, fault: StoreUnwritable | None) -> Performed:
        if action.rung in DRASTIC and fault is not None:
            return Performed(action.rung, Outcome.REFUSED, f"the state cannot be written: {fault}")
        self._look.answered = None
        try:
            outcome = await self._hands.perform(self.service.name, action)
        except Exception as error:  # else it would be pending for ever, and nothing else could be done
            self._tell_fault(f"the {action.rung} failed")
            outcome = Performed(action.rung, Outcome.FAILED, f"a fault in the watchdog itself: {error}")
        self._acted = self._clock.now()
        return outcome

    def _tell_fault(self, so: str) -> None:
        name = self.service.name
        fields = messages.of_event(messages.Event.FAULT, SERVICE=name)
        log.exception("service %s: a fault in the watchdog itself; %s", name, so, extra=fields)
