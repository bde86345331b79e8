"""The words of the design, as frozen values. No I/O, no clock, nothing but the standard library.

Rules of this file: a duration is a float of seconds; a time is CLOCK_BOOTTIME in seconds (it counts on while the host
sleeps; `store` carries it over a reboot); wall-clock times stay outside. Kinds are `StrEnum`, so that what is stored,
logged and exported is the word itself.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from watchdog.reading import Advisory, Baseline, Pressure, Proof, Reading
from watchdog.settings import Seconds


class Plane(enum.StrEnum):
    """The two independent kinds of road to a service."""

    SOCKET = "socket"
    WITNESS = "witness"


class Strength(enum.StrEnum):
    """How near a witness stands to the guarded process. A host's word alone never confirms anything."""

    INSIDE = "inside"  # the process itself answers, by another road than its event loop
    PROCESS = "process"  # somebody tells of this very process, as snmpd's hrSWRunStatus does
    HOST = "host"  # somebody tells only that the host is up


class Transport(enum.StrEnum):
    """What carries a socket probe: a firewall stops `tcp` and never `unix`."""

    TCP = "tcp"
    UNIX = "unix"


class Kind(enum.StrEnum):
    """What one probe found."""

    ALIVE = "alive"
    LATE = "late"  # not answered yet, not timed out yet
    SILENT = "silent"  # the kernel took the connection or the datagram, the program never answered
    REFUSED = "refused"
    UNREACHABLE = "unreachable"  # no connection in time, no route, a full Unix backlog
    WRONG = "wrong"  # an answer, not the expected one
    ERROR = "error"  # the probe itself could not run: no verdict rests on it

    @property
    def dark(self) -> bool:
        """Whether the service gave no answer at all."""
        return self in (Kind.SILENT, Kind.REFUSED, Kind.UNREACHABLE)


@dataclass(frozen=True, slots=True)
class Observation:
    """What one probe found, after how long, and why in one line."""

    kind: Kind
    latency: float
    reason: str


@dataclass(frozen=True, slots=True)
class Road:
    """What the diagnosis must know of a probe: its plane, and what makes its word weigh."""

    plane: Plane
    strength: Strength | None = None  # of a witness
    transport: Transport | None = None  # of a socket probe


@dataclass(frozen=True, slots=True)
class Round:
    """The observations of all of a service's probes, taken in parallel."""

    id: str  # unique for ever; an incident takes the id of the round that opened it
    started: float
    ended: float
    observations: Mapping[str, Observation]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One life of the guarded process. `start_time` (field 22 of /proc/PID/stat, in clock ticks) makes it exact."""

    pid: int
    start_time: int
    invocation_id: str = ""  # systemd's; empty for a service that is no unit


@dataclass(frozen=True, slots=True)
class UnitState:
    """What systemd says of the unit, in its own words (org.freedesktop.systemd1(5))."""

    load_state: str
    active_state: str
    sub_state: str
    job: str | None  # the type of the queued job: "stop", "restart", …
    main_pid: int
    invocation_id: str
    result: str = ""  # of the last run: "success", "oom-kill", "start-limit-hit", …
    n_restarts: int = 0  # by Restart=, so far


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartOutlook:
    """What systemd says would come of a restart of the unit, before anybody asks for one."""

    job: str | None = None  # the type of a job that is queued for it
    takes_along: tuple[str, ...] = ()  # active units that would be restarted with it, and that nobody allowed
    starts: int = 0  # that count towards its start limit
    burst: int = 0  # StartLimitBurst=; 0: there is no limit
    interval: float = 0.0  # StartLimitIntervalSec=


class Verdict(enum.StrEnum):
    """The rows of the differential diagnosis; `verdicts.py` tells what each one means and asks for."""

    STOPPED = "stopped"
    STARTING = "starting"
    BLIND = "blind"
    DEAD = "dead"
    PAUSED_PROCESS = "paused_process"
    IO_STUCK = "io_stuck"
    EPOLL_STALL = "epoll_stall"
    HEALTHY = "healthy"
    FD_EXHAUSTED = "fd_exhausted"
    LISTENER_LOST = "listener_lost"
    NETWORK = "network"
    OVERLOADED = "overloaded"
    LOOP_BUSY = "loop_busy"
    LOOP_BLOCKED = "loop_blocked"
    LOST_EDGE = "lost_edge"
    POOL_STARVED = "pool_starved"
    HUNG = "hung"
    WRONG_ANSWERS = "wrong_answers"
    PARTLY_DARK = "partly_dark"
    WITNESS_LOST = "witness_lost"
    UNSETTLED = "unsettled"


class Certainty(enum.StrEnum):
    """How far a diagnosis may be trusted: only evidence confirms."""

    SUSPECTED = "suspected"
    CONFIRMED = "confirmed"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A verdict with its reasons, best first; `against` tells which other verdicts lost, and why."""

    verdict: Verdict
    certainty: Certainty
    reasons: tuple[str, ...]
    against: tuple[str, ...] = ()


class Rung(enum.StrEnum):
    """The steps of a ladder. An alert is a record, never an action; the others are performed.

    A *capture* is the user's command that keeps what a restart would destroy (a core, stacks). It stops the process, so
    it is a nudge itself: the service is looked at again before it is restarted.
    """

    NUDGE = "nudge"
    CAPTURE = "capture"
    RESTART = "restart"
    ALERT = "alert"


class Method(enum.StrEnum):
    """How a nudge makes `epoll_wait` return EINTR."""

    PTRACE = "ptrace"  # each waiting thread is stopped and let go, in turn
    FREEZE = "freeze"  # the unit's cgroup is frozen and thawed: the whole service stands still for a moment


class Mode(enum.StrEnum):
    """How far the daemon may go with a service."""

    OBSERVE = "observe"
    NUDGE = "nudge"
    FULL = "full"

    def forbids(self, rung: Rung) -> bool:
        """Whether it does not go as far as this rung. An alert it always allows."""
        if self is Mode.OBSERVE:
            return rung is not Rung.ALERT
        return self is Mode.NUDGE and rung in (Rung.CAPTURE, Rung.RESTART)


class Severity(enum.StrEnum):
    """Of an alert. Ordered: info < warning < critical."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0, 1, 2: for comparing."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most `burst` uses in any `interval`, as systemd's StartLimitBurst= counts. A burst of 0 forbids the remedy."""

    burst: int
    interval: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """How often each remedy may be used."""

    nudge: Budget = Budget(burst=5, interval=3600.0)
    restart: Budget = Budget(burst=2, interval=3600.0)
    capture: Budget = Budget(burst=2, interval=3600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How one service is guarded. Each field is a key of its `[service.NAME]` table; these are the defaults."""

    mode: Mode = Mode.FULL
    interval: Seconds = 5.0  # between the starts of two rounds
    interval_suspect: Seconds = 0.5  # the same, while something is wrong
    timeout: Seconds = 2.0  # of a probe; a probe may have its own
    fall: int = 3  # bad rounds that open an incident
    rise: int = 2  # good rounds that close it
    settle: Seconds = 2.0  # from a remedy's outcome until it is judged
    dark_for: Seconds = 60.0  # unbroken darkness before a restart on a suspicion
    start_timeout: Seconds = 600.0  # how long a new process may take to become healthy
    cool_off: Seconds = 1800.0  # after the last rung, until one more try
    reminder: Seconds = 14400.0  # between two reminders of an open incident
    budget: Budgets = Budgets()
    ladder: Mapping[Verdict, tuple[Rung, ...]] = field(default_factory=dict)  # instead of a verdict's own
    depends_on: tuple[str, ...] = ()  # services of which the failure explains this one's


@dataclass(frozen=True, slots=True)
class Host:
    """What a decision must know of all that surrounds the service."""

    loop_lag: float = 0.0  # how late the watchdog's own loop last ran
    tick_gap: float = 0.0  # how much later than planned this round began
    sick: int = 0  # services with an open incident, this one included
    max_sick: int = 2
    others_looked: float | None = None  # when the guard that looked longest ago did so; None: there is no other
    restarting: str = ""  # the service that a restart is under way for
    hold_file: bool = False  # /etc/epoll-watchdog/hold exists
    window: str = ""  # the maintenance window of the service that is open, in a clause
    sick_parents: tuple[str, ...] = ()  # services it depends on that are not known to be well

    @property
    def excuses(self) -> bool:
        """Whether the service's failure is another's, or its operator's: nobody is told of it meanwhile."""
        return bool(self.sick_parents or self.window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One service at one moment: all that `diagnose` may rest on."""

    now: float
    policy: Policy
    roads: Mapping[str, Road]
    asked: frozenset[str] = frozenset()  # the listeners that they lead to, as far as their addresses tell
    round: Round
    epoch: Epoch | None = None
    age: float = float("inf")  # of the epoch's process, in seconds
    seen_healthy: bool = False  # in this epoch
    unit: UnitState | None = None
    process_error: str = ""  # why its process can't be known
    late_answer: float | None = None  # when an answer last came on a connection whose probe had timed out
    acted: float | None = None  # when a remedy last had its outcome
    host: Host = Host()
    reading: Reading | None = None  # evidence, read in this very round
    proofs: tuple[Proof, ...] = ()  # lost wake-ups that are proven, and still hold
    unproven: tuple[str, ...] = ()  # why epolls that might have lost one are not proven to
    baseline: Baseline | None = None  # of this epoch
    pressure: Pressure | None = None
    advisories: tuple[Advisory, ...] = ()  # of the running kernel


# --- events: what `step` is called with ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Looked:
    """A round was taken and diagnosed: `late`, an overdue answer came in it; `dark`, every socket was dark in it."""

    round_id: str
    diagnosis: Diagnosis
    epoch: Epoch | None = None
    late: bool = False
    host: Host = Host()
    dark: bool = True
    parked: bool = False  # all that is proven has the form *parked*: a second nudge would do no more than the first
    answered: float | None = None  # when the first good answer came since the last remedy began
    outlook: RestartOutlook | None = None  # asked for while a restart may come


class Outcome(enum.StrEnum):
    """What came of a remedy."""

    DONE = "done"
    REFUSED = "refused"  # not begun: rights, budget of the helper, StartLimit, blast radius
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    GONE = "gone"  # the process had ended, or its PID was another's by now


@dataclass(frozen=True, slots=True)
class Performed:
    """A remedy had its outcome. `detail` is what the helper told, plain values only."""

    rung: Rung
    outcome: Outcome
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)


class Order(enum.StrEnum):
    """What an operator may tell a guard."""

    PAUSE = "pause"
    RESUME = "resume"
    ACK = "ack"


@dataclass(frozen=True, slots=True)
class Told:
    """An operator's word: who, why, and until when (None: until told otherwise)."""

    order: Order
    by: str = ""
    reason: str = ""
    until: float | None = None
    until_wall: int | None = None  # the same, in seconds since 1970


@dataclass(frozen=True, slots=True)
class Resumed:
    """The daemon started and found this state; `epoch` is the service's now."""

    epoch: Epoch | None


Event = Looked | Performed | Told | Resumed


# --- state, and what a step hands out ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Action:
    """A remedy that `step` asks for. It is committed as pending before anybody acts on it."""

    rung: Rung
    incident: str
    epoch: Epoch | None
    at: float


@dataclass(frozen=True, slots=True)
class Pause:
    """An operator stopped every remedy."""

    by: str
    reason: str
    until: float | None
    until_wall: int | None = None  # s since 1970: after a reboot the earlier of the two counts

    @property
    def told(self) -> str:
        """Who, and why: "root: new disk"."""
        return f"{self.by}: {self.reason}" if self.reason else self.by


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """From the diagnosis that opened it to recovery. `tried` holds the rungs that were performed or passed."""

    id: str
    since: float  # the first bad round
    opened: float
    verdict: Verdict
    certainty: Certainty
    tried: tuple[Rung, ...] = ()
    performed: tuple[Rung, ...] = ()  # those that were done, or may have been when the daemon ended in between
    settle_until: float | None = None
    told: float | None = None  # the last alert or reminder
    exhausted: float | None = None
    acked: bool = False
    acked_by: str = ""
    budget_spent: bool = False  # a remedy was passed for want of budget: the service flaps
    held: tuple[str, ...] = ()  # the holds that were already told
    proven: bool = False  # a nudge was performed for a confirmed stall, and no round was good since
    parked: bool = False  # the last proof had the form *parked* alone
    acted: float | None = None  # when the last remedy was decided
    answered: bool = False  # the first good answer after it was told
    passed: tuple[str, ...] = ()  # the rungs that were passed over, with the reason's word: "restart: start_limit"
    powerless: bool = False  # the helper has told that it lacks the rights to nudge
    untold: bool = False  # its opening is held back: what it depends on was sick, or a maintenance window open
    in_window: bool = False  # a maintenance window was open while it was


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What the last rounds came to. Soft: not worth a write, begun anew when the daemon starts."""

    verdict: Verdict = Verdict.UNSETTLED
    bad: int = 0
    good: int = 0
    bad_since: float | None = None  # first of the bad rounds in a row
    good_since: float | None = None
    unbroken_since: float | None = None  # as bad_since, but begun anew by every late answer
    waiting_since: float | None = None  # since when the verdict has been one that only waits
    holds: tuple[str, ...] = ()  # what keeps the due rung waiting, now
    held_for: str = ""  # the same in a clause
    parents_well_since: float | None = None  # of the bad rounds, the first that no parent (and no window) excused


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that the ladder remembers of one service. What differs in more than the tally is worth a write."""

    epoch: Epoch | None = None
    seen_healthy: bool = False  # in this epoch
    pause: Pause | None = None
    incident: Incident | None = None
    pending: Action | None = None
    nudges: tuple[float, ...] = ()  # when budget was spent
    restarts: tuple[float, ...] = ()
    captures: tuple[float, ...] = ()
    tally: Tally = Tally()


class RecordKind(enum.StrEnum):
    """The facts that are told: rows of an incident's timeline, journal lines, perhaps alerts."""

    OPENED = "opened"
    VERDICT = "verdict"
    HELD = "held"
    PASSED = "passed"
    ACTING = "acting"
    NUDGED = "nudged"
    RESTARTED = "restarted"
    CAPTURED = "captured"
    ANSWERED = "answered"  # the first good answer after a remedy
    INTERRUPTED = "interrupted"  # the daemon ended between an act's commit and its outcome
    ESCALATED = "escalated"
    REMINDER = "reminder"
    RETRYING = "retrying"  # cool-off is over: one more climb
    EPOCH = "epoch"
    PAUSED = "paused"
    RESUMED = "resumed"
    ACKNOWLEDGED = "acknowledged"
    BELATED = "belated"  # an opening that was held back is told now
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Record:
    """A fact told once. With a severity it is an alert; without one it is only kept."""

    kind: RecordKind
    at: float
    text: str
    incident: str = ""
    severity: Severity | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What one event led to: the new state, what is to be told of it, and at most one remedy to perform."""

    state: State
    records: tuple[Record, ...] = ()
    action: Action | None = None
