"""Drives `step` through a story: events in, and all that it led to kept for the assertions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.core.make import EPOCH, seen
from watchdog.ladder import step
from watchdog.model import (
    Action,
    Certainty,
    Epoch,
    Event,
    Host,
    Incident,
    Order,
    Outcome,
    Performed,
    Policy,
    Record,
    RecordKind,
    RestartOutlook,
    Resumed,
    Rung,
    State,
    Told,
    Verdict,
)


@dataclass
class Story:
    """One service's life, told round by round. A remedy is answered by `outcomes`, by default *done*."""

    policy: Policy = field(default_factory=Policy)
    now: float = 1000.0
    state: State = field(default_factory=State)
    records: list[Record] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    epoch: Epoch = EPOCH
    host: Host = field(default_factory=Host)
    outlook: RestartOutlook | None = None
    outcomes: dict[Rung, Outcome] = field(default_factory=dict)

    def event(self, event: Event) -> Action | None:
        """One step, without performing what it asks for."""
        made = step(self.policy, self.state, event, self.now)
        self.state = made.state
        self.records += made.records
        if made.action is not None:
            self.actions.append(made.action)
        return made.action

    def perform(self, rung: Rung) -> None:
        """The outcome of a remedy. A restart that is done begins a new epoch."""
        outcome = self.outcomes.get(rung, Outcome.DONE)
        self.event(Performed(rung, outcome, "as the story has it"))
        if rung is Rung.RESTART and outcome is Outcome.DONE:
            self.epoch = replace(self.epoch, pid=self.epoch.pid + 1)

    def look(
        self,
        verdict: Verdict,
        *,
        certainty: Certainty = Certainty.SUSPECTED,
        times: int = 1,
        every: float = 0.5,
        late: bool = False,
        dark: bool = True,
        parked: bool = False,
        answered: float | None = None,
        for_: float | None = None,
    ) -> Story:
        """Rounds with this verdict, `every` seconds; remedies are performed as they are asked for."""
        for _ in range(times if for_ is None else round(for_ / every)):
            round_id = f"round-{self.now}"
            looked = seen(
                verdict,
                certainty=certainty,
                epoch=self.epoch,
                late=late,
                host=self.host,
                round_id=round_id,
                dark=dark,
                outlook=self.outlook,
                parked=parked,
                answered=answered,
            )
            action = self.event(looked)
            if action is not None:
                self.perform(action.rung)
            self.now += every
        return self

    def healthy(self, times: int = 2) -> Story:
        """Good rounds."""
        return self.look(Verdict.HEALTHY, times=times)

    def pause(self, until: float | None = None) -> None:
        """An operator pauses it."""
        self.event(Told(Order.PAUSE, "root", "maintenance", until))

    def resume_daemon(self, epoch: Epoch | None = None) -> None:
        """The daemon was killed, and starts."""
        self.event(Resumed(epoch or self.epoch))

    @property
    def rungs(self) -> list[Rung]:
        """The remedies that were asked for."""
        return [action.rung for action in self.actions]

    @property
    def kinds(self) -> list[RecordKind]:
        """The kinds of all records."""
        return [record.kind for record in self.records]

    @property
    def incident(self) -> Incident:
        """The open one."""
        assert self.state.incident is not None
        return self.state.incident

    def last(self, kind: RecordKind) -> Record:
        """The newest record of a kind."""
        return next(record for record in reversed(self.records) if record.kind is kind)
