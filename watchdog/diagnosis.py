"""Why a service gives no answer. Pure: a `Case` in, a `Diagnosis` out; no clock, no I/O.

Rules of this file: the rules are tried in order and the first that matches decides; none matching is `unsettled`.
A probe that ended in *error* could not run, so no verdict rests on it: it is left out and told. Each rule's docstring
is its row in the manual.

Theory of operation. Two planes are asked at once: the sockets go through the service's event loop, the witnesses do
not. Sockets dark while a witness answers is the divergence of a lost wake-up; everything that can look the same without
evidence from the kernel (a closed listener, a network that drops packets, a service that is merely slow) stands before
it and must be ruled out. Without evidence nothing is *confirmed* but what systemd or the kernel told us outright.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from watchdog.model import Case, Certainty, Diagnosis, Kind, Observation, Plane, Transport, Verdict
from watchdog.settings import format_duration

LATE_FOR = 35.0  # s that a late answer speaks for a slow service: a connection is waited on for 30 s, and a round
LAG_LIMIT = 0.25  # of the probes' time-out: a loop that lags more turns its own delay into the service's

Found = Mapping[str, Observation]


@dataclass(frozen=True, slots=True)
class Reading:
    """A case with its newest round sorted by plane; probes in error stand apart."""

    case: Case
    sockets: Found
    witnesses: Found
    erring: Found

    @property
    def dark(self) -> bool:
        """Every socket is dark."""
        return bool(self.sockets) and all(seen.kind.dark for seen in self.sockets.values())

    @property
    def lit(self) -> bool:
        """Every socket answered as expected."""
        return bool(self.sockets) and all(seen.kind is Kind.ALIVE for seen in self.sockets.values())

    @property
    def witnessed(self) -> Found:
        """The witnesses that answered as expected."""
        return {name: seen for name, seen in self.witnesses.items() if seen.kind is Kind.ALIVE}


def read(case: Case) -> Reading:
    """Sort the newest round."""
    found = case.round.observations

    def on(plane: Plane) -> Found:
        return {
            name: seen
            for name, seen in found.items()
            if case.roads[name].plane is plane and seen.kind is not Kind.ERROR
        }

    erring = {name: seen for name, seen in found.items() if seen.kind is Kind.ERROR}
    return Reading(case, on(Plane.SOCKET), on(Plane.WITNESS), erring)


def told(found: Found) -> Iterable[str]:
    """Each observation as a reason: the probe's name and what it found."""
    return (f"{name}: {seen.kind}, {seen.reason}" for name, seen in found.items())


Rule = Callable[[Reading], Diagnosis | None]


def _suspect(verdict: Verdict, reading: Reading, *reasons: str, found: Found | None = None) -> Diagnosis:
    shown = {**reading.sockets, **reading.witnesses} if found is None else found
    return Diagnosis(verdict, Certainty.SUSPECTED, (*reasons, *told(shown), *told(reading.erring)))


def _confirm(verdict: Verdict, *reasons: str) -> Diagnosis:
    return Diagnosis(verdict, Certainty.CONFIRMED, reasons)


def stopped(reading: Reading) -> Diagnosis | None:
    """The unit is inactive, or its stop is queued, by its operator."""
    unit = reading.case.unit
    if unit is None:
        return None
    if unit.load_state == "not-found" and unit.active_state == "inactive":
        return _confirm(Verdict.STOPPED, "systemd knows no such unit")
    if unit.job == "stop":
        return _confirm(Verdict.STOPPED, "a stop job is queued for the unit")
    if unit.active_state == "inactive":
        return _confirm(Verdict.STOPPED, f"the unit is inactive ({unit.sub_state})")
    return None


def starting(reading: Reading) -> Diagnosis | None:
    """The unit is activating, deactivating or reloading; or its process is new and was not healthy yet."""
    case = reading.case
    if case.unit is not None and case.unit.active_state in ("activating", "deactivating", "reloading"):
        return _confirm(Verdict.STARTING, f"the unit is {case.unit.active_state} ({case.unit.sub_state})")
    if case.epoch is None or case.seen_healthy or case.age >= case.policy.start_timeout or _well(reading):
        return None
    age, limit = format_duration(case.age), format_duration(case.policy.start_timeout)
    return _suspect(
        Verdict.STARTING, reading, f"the process is {age} old and was not healthy yet; it has {limit} (start_timeout)"
    )


def blind(reading: Reading) -> Diagnosis | None:
    """The watchdog's own loop lags, the host was paused, its process is unknown, or a whole plane ends in *error*."""
    case = reading.case
    if case.host.loop_lag > LAG_LIMIT * case.policy.timeout:
        return _suspect(
            Verdict.BLIND, reading, f"the watchdog's own loop lags by {format_duration(case.host.loop_lag)}"
        )
    if case.host.tick_gap > 2 * case.policy.interval:
        gap = format_duration(case.host.tick_gap)
        return _suspect(Verdict.BLIND, reading, f"this round came {gap} late: the host was paused, the round is void")
    if case.process_error:
        return _suspect(Verdict.BLIND, reading, f"the service's process can't be known: {case.process_error}")
    for plane, found in ((Plane.SOCKET, reading.sockets), (Plane.WITNESS, reading.witnesses)):
        if not found and any(case.roads[name].plane is plane for name in reading.erring):
            return _suspect(Verdict.BLIND, reading, f"no {plane} probe could run")
    return None


def dead(reading: Reading) -> Diagnosis | None:
    """There is no process, or the unit has failed. systemd's own Restart= comes first."""
    case = reading.case
    if case.unit is not None and case.unit.active_state == "failed":
        return _confirm(Verdict.DEAD, f"the unit has failed ({case.unit.sub_state})")
    if case.epoch is None:
        return _confirm(Verdict.DEAD, "there is no process")
    return None


def _well(reading: Reading) -> bool:
    return reading.lit and len(reading.witnessed) == len(reading.witnesses)


def healthy(reading: Reading) -> Diagnosis | None:
    """Every probe is alive."""
    return _suspect(Verdict.HEALTHY, reading) if _well(reading) else None


def network(reading: Reading) -> Diagnosis | None:
    """TCP is dark or refused while a Unix socket answers: nothing is wrong with the service."""
    roads = reading.case.roads
    tcp = {name: seen for name, seen in reading.sockets.items() if roads[name].transport is Transport.TCP}
    unix = {name: seen for name, seen in reading.sockets.items() if roads[name].transport is Transport.UNIX}
    if tcp and all(seen.kind.dark for seen in tcp.values()) and any(seen.kind is Kind.ALIVE for seen in unix.values()):
        return _suspect(Verdict.NETWORK, reading, "TCP is dark, the Unix socket answers")
    return None


def overloaded(reading: Reading) -> Diagnosis | None:
    """Late answers come: it lives, and is slow. An answer within `settle` of a remedy is its cure, no sign of load."""
    case = reading.case
    if case.late_answer is None or case.now - case.late_answer > LATE_FOR or cured(case):
        return None
    ago = format_duration(case.now - case.late_answer)
    return _suspect(Verdict.OVERLOADED, reading, f"a late answer came {ago} ago")


def cured(case: Case) -> bool:
    """Whether the last late answer came with a remedy: it says that the remedy helped, not that it is slow."""
    if case.late_answer is None or case.acted is None:
        return False
    return case.acted - ACTING_FOR <= case.late_answer <= case.acted + case.policy.settle


ACTING_FOR = 1.0  # s a nudge may take: the answer can come before the helper's reply does


def listener_lost(reading: Reading) -> Diagnosis | None:
    """Every socket refuses while a witness answers: nothing listens any more."""
    refused = [seen.kind is Kind.REFUSED for seen in reading.sockets.values()]
    if refused and all(refused) and reading.witnessed:
        return _suspect(Verdict.LISTENER_LOST, reading, "every socket refuses connections, a witness answers")
    return None


def epoll_stall(reading: Reading) -> Diagnosis | None:
    """The divergence: every socket is dark, a witness is alive, and nothing above explains it."""
    if not reading.dark or not reading.witnessed:
        return None
    words = [f"{name} ({reading.case.roads[name].strength})" for name in reading.witnessed]
    return _suspect(Verdict.EPOLL_STALL, reading, f"every socket is dark while {', '.join(words)} answers")


def hung(reading: Reading) -> Diagnosis | None:
    """Sockets and witnesses are dark, and the process is there."""
    if not reading.dark or reading.witnessed:
        return None
    first = (
        "every socket and every witness is dark" if reading.witnesses else "every socket is dark, and no witness is set"
    )
    return _suspect(Verdict.HUNG, reading, first)


def wrong_answers(reading: Reading) -> Diagnosis | None:
    """The sockets answer, but wrongly (status, TLS, certificate, content)."""
    wrong = {name: seen for name, seen in reading.sockets.items() if seen.kind is Kind.WRONG}
    if wrong and not any(seen.kind.dark for seen in reading.sockets.values()):
        return _suspect(Verdict.WRONG_ANSWERS, reading, f"{', '.join(wrong)} answered wrongly")
    return None


def partly_dark(reading: Reading) -> Diagnosis | None:
    """Some sockets are dark, others answer, and no cause was found."""
    dark = [name for name, seen in reading.sockets.items() if seen.kind.dark]
    if dark and len(dark) < len(reading.sockets):
        return _suspect(Verdict.PARTLY_DARK, reading, f"{', '.join(dark)} of {len(reading.sockets)} sockets dark")
    return None


def witness_lost(reading: Reading) -> Diagnosis | None:
    """The sockets are alive, a witness is dark or says that the process is not well."""
    lost = [name for name in reading.witnesses if name not in reading.witnessed]
    if reading.lit and lost:
        return _suspect(Verdict.WITNESS_LOST, reading, f"the sockets answer, {', '.join(lost)} does not")
    return None


RULES: tuple[Rule, ...] = (
    stopped,
    starting,
    blind,
    dead,
    healthy,
    network,
    overloaded,
    listener_lost,
    epoll_stall,
    hung,
    wrong_answers,
    partly_dark,
    witness_lost,
)


def diagnose(case: Case) -> Diagnosis:
    """The verdict on a case: the first rule that matches."""
    reading = read(case)
    for rule in RULES:
        diagnosis = rule(reading)
        if diagnosis is not None:
            return diagnosis
    return _suspect(Verdict.UNSETTLED, reading, "no rule decides")
