"""A condition, and one run of it: made for real, diagnosed by the real daemon, undone.

A run: the service is healthy for two rounds (the daemon reads its baseline then); the condition is made; every verdict
is kept until the right one is there, what it asks for was done, and `watch_s` are over; then the condition is undone
and the service must be healthy again.
"""

from __future__ import annotations

import enum
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tests import servers
from tests.lookalikes.watched import Watched
from watchdog.demo.child import NoAnswer
from watchdog.model import Certainty, Policy, Rung, Verdict
from watchdog.verdicts import Stance, ladder, stance

HEALTHY_WITHIN_S = 20.0
POLL_S = 0.1
CHANGES = ("opened", "verdict")  # records of an incident that tell its verdict
LAGS = "own loop lags"
PERFORMED = {"nudged": Rung.NUDGE, "restarted": Rung.RESTART}


class Course(enum.StrEnum):
    """How a condition goes on."""

    LASTS = "lasts"  # until it is undone: judged is the verdict at the end, and once it is right it must stay
    PASSES = "passes"  # by a remedy, or by itself: judged is the verdict acted on, else the one that stood longest
    NOTHING = "nothing"  # nothing is wrong: judged is every verdict, and there must be no incident


@dataclass(frozen=True, slots=True)
class Stage:
    """What a condition may use: a directory of its own, and what was built or started for all."""

    directory: Path
    server: Path  # the program of server.c
    shim: Path
    snmpd: servers.Snmpd


@dataclass(frozen=True, slots=True)
class Scene:
    """The program and the daemon run. `undo` is None where the condition ends by itself or by the program's end."""

    watched: Watched
    make: Callable[[], object]
    undo: Callable[[], object] | None = None


Staged = Callable[[Stage], AbstractContextManager[Scene]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A row of the suite. `right` are the verdicts that are right; their ladders say which remedies are allowed."""

    name: str
    staged: Staged
    right: frozenset[Verdict]
    busy_too: frozenset[Verdict] = frozenset()  # right as well, while every core is kept busy
    confirmed: bool = False  # whether nothing less will do
    course: Course = Course.LASTS
    alone: bool = False  # it would disturb others, or they it
    delicate: bool = False  # scarce CPU could make it look like another
    watch_s: float = 4.0
    within_s: float = 12.0

    def kept_busy(self) -> Condition:
        """As it is judged while every core is kept busy."""
        return replace(self, right=self.right | self.busy_too)

    @property
    def allowed(self) -> frozenset[Rung]:
        """The remedies in the ladders of the right verdicts."""
        return frozenset(rung for verdict in self.right for rung in ladder(Policy(), verdict)) - {Rung.ALERT}

    @property
    def due(self) -> Rung | None:
        """The remedy that must come: the first rung, where there is only one right verdict and it asks for one."""
        rungs = ladder(Policy(), next(iter(self.right))) if len(self.right) == 1 else ()
        return rungs[0] if rungs and rungs[0] is not Rung.ALERT else None


@dataclass(frozen=True, slots=True)
class Moment:
    """A verdict, from `at` on (seconds since the condition was made)."""

    at: float
    verdict: Verdict
    certainty: Certainty
    reasons: tuple[str, ...]
    against: tuple[str, ...]  # why others lost


@dataclass(slots=True)
class Row:
    """What one run came to."""

    condition: Condition
    busy: bool
    moments: list[Moment] = field(default_factory=list)
    incidents: list[Any] = field(default_factory=list)
    restarts: int = 0
    complaints: list[str] = field(default_factory=list)
    said: str = ""

    @property
    def ok(self) -> bool:
        """Whether all was as it must be."""
        return not self.complaints

    @property
    def acts(self) -> list[tuple[Rung, str]]:
        """The remedies, each with its outcome."""
        return [
            (PERFORMED[record["kind"]], record["detail"].get("outcome", ""))
            for incident in reversed(self.incidents)
            for record in incident["timeline"]
            if record["kind"] in PERFORMED
        ]

    @property
    def diagnosed(self) -> list[tuple[Verdict, Certainty]]:
        """The verdicts of its incidents, in order."""
        return [
            _told(record)
            for incident in reversed(self.incidents)
            for record in incident["timeline"]
            if record["kind"] in CHANGES
        ]

    def _longest(self) -> list[tuple[Verdict, Certainty]]:
        """The one that stood longest in its incidents, if there was any."""
        stood: Counter[tuple[Verdict, Certainty]] = Counter()
        for incident in self.incidents:
            changes = [record for record in incident["timeline"] if record["kind"] in (*CHANGES, "resolved")]
            for before, after in itertools.pairwise([*changes, incident["timeline"][-1]]):
                if before["kind"] in CHANGES:
                    stood[_told(before)] += _ms(after) - _ms(before)
        return [pair for pair, _ in stood.most_common(1)]

    def _acted_on(self) -> list[tuple[Verdict, Certainty]]:
        """The one that a remedy was used for, if any was: of several, the last."""
        acted: list[tuple[Verdict, Certainty]] = []
        for incident in reversed(self.incidents):
            changes: list[tuple[Verdict, Certainty]] = []
            for record in incident["timeline"]:
                changes += [_told(record)] if record["kind"] in CHANGES else []
                acted += changes[-1:] if record["kind"] == "acting" else []
        return acted

    @property
    def judged(self) -> tuple[Verdict, Certainty]:
        """The one verdict that stands for the run in the matrix."""
        seen = [(moment.verdict, moment.certainty) for moment in self.moments]
        match self.condition.course:
            case Course.LASTS:
                return seen[-1]
            case Course.PASSES:
                bad = [pair for pair in seen if pair[0] is not Verdict.HEALTHY]
                return [*seen, *bad, *self._longest(), *self._acted_on()][-1]
            case Course.NOTHING:
                bad = [pair for pair in [*self.diagnosed, *seen] if pair[0] is not Verdict.HEALTHY]
                wrong = [pair for pair in bad if pair[0] not in self.condition.right]
                return [*wrong, *bad, seen[-1]][0]

    @property
    def strayed(self) -> list[Verdict]:
        """The verdicts, other than those that only wait, that came after a right one."""
        strays: dict[Verdict, None] = {}
        for told in ([moment.verdict for moment in self.moments], [verdict for verdict, _ in self.diagnosed]):
            after = itertools.dropwhile(lambda verdict: verdict not in self.condition.right, told)
            strays |= dict.fromkeys(v for v in after if v not in self.condition.right and stance(v) is not Stance.WAIT)
        return list(strays)

    @property
    def took_s(self) -> float | None:
        """Until the first right verdict."""
        return next((moment.at for moment in self.moments if moment.verdict in self.condition.right), None)

    def story(self) -> str:
        """All of it, for a failure."""
        lines = [
            f"{self.condition.name}{' (busy)' if self.busy else ''}: {'; '.join(self.complaints) or 'as it must be'}"
        ]
        for moment in self.moments:
            lines.append(f"  {moment.at:6.2f} s  {moment.verdict} ({moment.certainty})")
            lines += [f"            {reason}" for reason in moment.reasons]
            lines += [f"            not {reason}" for reason in moment.against]
        for incident in reversed(self.incidents):
            lines.append(f"  incident {incident['id']}")
            lines += [f"    {record['at']} {record['kind']}: {record['text']}" for record in incident["timeline"]]
        return "\n".join([*lines, self.said[-3000:]])


def _told(record: Mapping[str, Any]) -> tuple[Verdict, Certainty]:
    return Verdict(record["detail"]["verdict"]), Certainty(record["detail"]["certainty"])


def _ms(record: Mapping[str, Any]) -> int:
    return round(datetime.fromisoformat(record["at"]).timestamp() * 1000)


def run(condition: Condition, stage: Stage, *, busy: bool = False) -> Row:
    """One run. What went wrong is in the row's complaints; an exception is a fault of the suite."""
    row = Row(condition, busy)
    with condition.staged(stage) as scene:
        _wait_settled(scene.watched)
        made = time.monotonic()
        scene.make()
        _watch(row, scene.watched, made)
        _judge(row)
        if scene.undo is not None:
            scene.undo()
        if scene.undo is not None or condition.course is not Course.LASTS:
            _wait_healed(row, scene.watched)
        _take_incidents(row, scene.watched)
        row.said = scene.watched.said()
    _judge_acts(row)
    return row


def _wait_settled(watched: Watched) -> None:
    """Until two rounds have begun and ended that found the service healthy."""
    rounds: set[str] = set()
    deadline = time.monotonic() + HEALTHY_WITHIN_S
    while len(rounds) < 3:
        view: Any = {}
        with suppress(NoAnswer):
            view = watched.service()
        if view.get("verdict") == Verdict.HEALTHY:
            rounds.add(view["last_round_at"])
        if time.monotonic() > deadline:
            raise TimeoutError(f"it was not healthy before the condition was made: {view}\n{watched.said()}")
        time.sleep(POLL_S)


def _watch(row: Row, watched: Watched, made: float) -> None:
    condition = row.condition
    while True:
        elapsed = time.monotonic() - made
        with suppress(NoAnswer):  # a host may be starved on purpose
            view = watched.service()
            _keep(row, view, elapsed)
            _take_incidents(row, watched)
        if elapsed >= condition.within_s or (elapsed >= condition.watch_s and _came(row)):
            break
        time.sleep(POLL_S)
    if not row.moments:
        raise TimeoutError(f"the daemon told nothing in {condition.within_s:g} s\n{watched.said()}")


def _keep(row: Row, view: Any, elapsed: float) -> None:
    """A verdict that goes on keeps the time when it was first told; its reasons are the newest."""
    now = Moment(
        elapsed,
        Verdict(view["verdict"]),
        Certainty(view["certainty"]),
        tuple(view["reasons"]),
        tuple(view["against"]),
    )
    before = row.moments[-1] if row.moments else None
    if before is not None and (before.verdict, before.certainty) == (now.verdict, now.certainty):
        row.moments[-1] = replace(now, at=before.at)
    else:
        row.moments.append(now)


def _take_incidents(row: Row, watched: Watched) -> None:
    with suppress(NoAnswer):
        row.incidents = watched.incidents()
        row.restarts = watched.restarts()


def _came(row: Row) -> bool:
    """Whether the right verdict is there, and what it asks for was done."""
    verdict, certainty = row.judged
    if row.condition.confirmed and certainty is not Certainty.CONFIRMED:
        return False
    if row.condition.course is Course.PASSES and row.moments[-1].verdict is not Verdict.HEALTHY:
        return False
    due = row.condition.due
    return verdict in row.condition.right and (due is None or due in [rung for rung, _ in row.acts])


def _judge(row: Row) -> None:
    condition = row.condition
    verdict, certainty = row.judged
    if verdict not in condition.right:
        row.complaints.append(f"the verdict is {verdict}, not {_words(condition.right)}")
    elif condition.confirmed and certainty is not Certainty.CONFIRMED:
        row.complaints.append(f"{verdict} is only {certainty}")
    if condition.course is Course.LASTS and row.strayed:
        row.complaints.append(f"once it was {_words(condition.right)}, then {_words(row.strayed)}")
    excused = [moment for moment in row.moments if moment.verdict in condition.busy_too]
    if len(excused) == len(row.moments):
        row.complaints.append(f"it was {_words(condition.busy_too)} all the time")
    if not all(LAGS in reason for moment in excused for reason in moment.reasons[:1]):
        row.complaints.append(f"it was {_words(condition.busy_too)}, and not for a loop that lags")
    if condition.course is Course.NOTHING and row.incidents:
        row.complaints.append("an incident was opened, and nothing is wrong")


def _judge_acts(row: Row) -> None:
    condition = row.condition
    rungs = [rung for rung, _ in row.acts]
    for rung in sorted(set(rungs) - condition.allowed):
        row.complaints.append(f"a wrong remedy: {rung}")
    if condition.due is not None and condition.due not in rungs:
        row.complaints.append(f"no {condition.due} came")
    if row.restarts and Rung.RESTART not in condition.allowed:
        row.complaints.append("it was restarted")


def _wait_healed(row: Row, watched: Watched) -> None:
    """Until the service is healthy and no incident is open."""
    deadline = time.monotonic() + HEALTHY_WITHIN_S
    view: Any = {}
    while view.get("verdict") != Verdict.HEALTHY or view["incident"] is not None:
        if time.monotonic() > deadline:
            row.complaints.append(f"it did not heal within {HEALTHY_WITHIN_S:g} s: {view.get('verdict')}")
            return
        with suppress(NoAnswer):
            view = watched.service()
        time.sleep(POLL_S)


def _words(verdicts: Iterable[Verdict]) -> str:
    return " or ".join(sorted(verdicts))
