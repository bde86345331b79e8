"""Why a service gives no answer. Pure: a `Case` in, a `Diagnosis` out; no clock, no I/O.

Rules of this file: the rules are tried in order and the first that matches decides; none matching is `unsettled`. A
rule that does not match says why where an operator may have expected it: the hypotheses that lost are told, too. A
probe that ended in *error* could not run, so no verdict rests on it: it is left out and told. Each rule's docstring is
its row in the manual.

Theory of operation. Two planes are asked at once: the sockets go through the service's event loop, the witnesses do
not. Sockets dark while a witness answers is the divergence of a lost wake-up, and of much else. The kernel's evidence
(`symptoms.py`) tells them apart, and only a proof (`proof.py`) confirms: it stands before `healthy`, because one of
several loops may sleep while the others answer. Without evidence the divergence is *suspected*. What evidence shows may
pass by itself (a long collection of garbage, a lock that is held), so it is *suspected* too and must last for `fall`
rounds; *confirmed* are the proof, and what systemd or the kernel say outright.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from watchdog.model import Case, Certainty, Diagnosis, Kind, Plane, Transport, Verdict
from watchdog.reading import Family
from watchdog.scarcity import scarcity
from watchdog.settings import format_duration
from watchdog.sight import Found, Sight, look_at, told
from watchdog.verdicts import Stance, stance

LATE_FOR = 35.0  # s that a late answer speaks for a slow service: a connection is waited on for 30 s, and a round
LAG_LIMIT = 0.25  # of the probes' time-out: a loop that lags more turns its own delay into the service's
ACTING_FOR = 1.0  # s a nudge may take: the answer can come before the helper's reply does

Rule = Callable[[Sight], "Diagnosis | str | None"]  # a text: why it is not this one


def _suspect(verdict: Verdict, sight: Sight, *reasons: str, found: Found | None = None) -> Diagnosis:
    shown = {**sight.sockets, **sight.witnesses} if found is None else found
    return Diagnosis(verdict, Certainty.SUSPECTED, (*reasons, *told(shown), *told(sight.erring)))


def _confirm(verdict: Verdict, *reasons: str) -> Diagnosis:
    return Diagnosis(verdict, Certainty.CONFIRMED, reasons)


# --- the unit, its process, and the watchdog itself -------------------------------------------------------------------


def stopped(sight: Sight) -> Diagnosis | str | None:
    """The unit is inactive, or its stop is queued, by its operator."""
    unit = sight.case.unit
    if unit is None:
        return None
    if unit.load_state == "not-found" and unit.active_state == "inactive":
        return _confirm(Verdict.STOPPED, "systemd knows no such unit")
    if unit.job == "stop":
        return _confirm(Verdict.STOPPED, "a stop job is queued for the unit")
    if unit.active_state == "inactive":
        return _confirm(Verdict.STOPPED, f"the unit is inactive ({unit.sub_state})")
    return None


def starting(sight: Sight) -> Diagnosis | str | None:
    """The unit is activating, deactivating or reloading; or its process is new and was not healthy yet."""
    case = sight.case
    if case.unit is not None and case.unit.active_state in ("activating", "deactivating", "reloading"):
        return _confirm(Verdict.STARTING, f"the unit is {case.unit.active_state} ({case.unit.sub_state})")
    if case.epoch is None or case.seen_healthy or case.age >= case.policy.start_timeout or sight.well:
        return None
    age, limit = format_duration(case.age), format_duration(case.policy.start_timeout)
    return _suspect(
        Verdict.STARTING, sight, f"the process is {age} old and was not healthy yet; it has {limit} (start_timeout)"
    )


def blind(sight: Sight) -> Diagnosis | str | None:
    """The watchdog's own loop lags, the host was paused or starves, or the service's process can't be known."""
    case = sight.case
    if case.host.loop_lag > LAG_LIMIT * case.policy.timeout:
        return _suspect(Verdict.BLIND, sight, f"the watchdog's own loop lags by {format_duration(case.host.loop_lag)}")
    if case.host.tick_gap > 2 * case.policy.interval:
        gap = format_duration(case.host.tick_gap)
        return _suspect(Verdict.BLIND, sight, f"this round came {gap} late: the host was paused, the round is void")
    # What is answered in time is no guess, whatever the host does.
    if case.pressure is not None and not sight.well and (scarce := scarcity(case.pressure, case.host)) is not None:
        return _suspect(Verdict.BLIND, sight, scarce)
    if case.process_error:
        return _suspect(Verdict.BLIND, sight, f"the service's process can't be known: {case.process_error}")
    return None


def dead(sight: Sight) -> Diagnosis | str | None:
    """There is no process, or the unit has failed. systemd's own Restart= comes first."""
    case = sight.case
    if case.unit is not None and case.unit.active_state == "failed":
        why = f", {case.unit.result}" if case.unit.result not in ("", "success") else ""
        return _confirm(Verdict.DEAD, f"the unit has failed ({case.unit.sub_state}{why})")
    if case.epoch is None:
        return _confirm(Verdict.DEAD, "there is no process")
    return None


def paused_process(sight: Sight) -> Diagnosis | str | None:
    """A signal stopped the process, its cgroup is frozen, or a debugger holds it, and it does not answer."""
    paused = None if sight.well or sight.symptoms is None else sight.symptoms.paused()
    if paused is None:
        return None
    return Diagnosis(Verdict.PAUSED_PROCESS, Certainty.CONFIRMED, (paused, *told(sight.sockets)))


def io_stuck(sight: Sight) -> Diagnosis | str | None:
    """The loop's thread sleeps uninterruptibly (D) all the time: not even SIGKILL reaches it."""
    stuck = None if sight.well or sight.symptoms is None else sight.symptoms.stuck()
    if stuck is None:
        return None
    where = f" in {stuck.wchan}" if stuck.wchan else ""
    return _suspect(
        Verdict.IO_STUCK, sight, f"thread {stuck.tid} ({stuck.name}) sleeps uninterruptibly{where} (state D)"
    )


# --- the proof, and health --------------------------------------------------------------------------------------------


def epoll_stall_proven(sight: Sight) -> Diagnosis | str | None:
    """A lost wake-up is proven, be it that only some sockets are dark: one loop of several."""
    case = sight.case
    if not case.proofs:
        if case.unproven:
            return f"not proven: {'; '.join(case.unproven)}"
        return f"not proven: {sight.unread}" if sight.symptoms is None or not sight.symptoms.informed else None
    proofs = [f"{proof.text} ({proof.form})" for proof in case.proofs]
    words = [f"{name} ({case.roads[name].strength}) answers" for name in sight.witnessed]
    return _confirm(Verdict.EPOLL_STALL, *proofs, *words, *told({**sight.sockets, **sight.erring}), *_kernel(case))


def blind_on_a_plane(sight: Sight) -> Diagnosis | str | None:
    """Every probe of a plane ends in *error*, and neither systemd nor the kernel has told what is wrong."""
    for plane, found in ((Plane.SOCKET, sight.sockets), (Plane.WITNESS, sight.witnesses)):
        if not found and any(sight.case.roads[name].plane is plane for name in sight.erring):
            return _suspect(Verdict.BLIND, sight, f"no {plane} probe could run")
    return None


def healthy(sight: Sight) -> Diagnosis | str | None:
    """Every probe is alive."""
    return _suspect(Verdict.HEALTHY, sight) if sight.well else None


# --- what evidence tells apart ----------------------------------------------------------------------------------------


def fd_exhausted(sight: Sight) -> Diagnosis | str | None:
    """The sockets are dark, and a process has no file descriptor left."""
    process = sight.symptoms.at_fd_limit() if sight.symptoms is not None and sight.dark else None
    if process is None:
        return None
    return _suspect(
        Verdict.FD_EXHAUSTED, sight, f"process {process.pid} has {process.fds} of {process.fd_limit} descriptors open"
    )


def listener_lost(sight: Sight) -> Diagnosis | str | None:
    """Every socket refuses while a witness answers: nothing listens any more."""
    refused = [seen.kind is Kind.REFUSED for seen in sight.sockets.values()]
    if not (refused and all(refused) and sight.witnessed):
        return None
    if sight.symptoms is None:
        return _suspect(Verdict.LISTENER_LOST, sight, "every socket refuses connections, a witness answers")
    if not sight.symptoms.listed:
        return f"its listeners are not known: {sight.unread}"
    if asked := sight.symptoms.asked_listeners() or sight.symptoms.at_asked_ports():
        return f"it still listens on {asked[0].address}"
    left = ", ".join(queue.address for queue in sight.symptoms.all_listeners())
    and_so = f"it still listens on {left}" if left else "it has no listening socket"
    return _suspect(Verdict.LISTENER_LOST, sight, f"every socket refuses connections, and {and_so}")


def network(sight: Sight) -> Diagnosis | str | None:
    """TCP is dark while a Unix socket answers, or no connection arrives though its listeners have room for it."""
    tcp, unix = sight.by(Transport.TCP), sight.by(Transport.UNIX)
    if not tcp or not all(seen.kind.dark for seen in tcp.values()):
        return None
    symptoms = sight.symptoms
    listeners = [] if symptoms is None else [queue for queue in symptoms.listeners() if queue.family is Family.TCP]
    if arrived := [queue for queue in listeners if queue.length]:
        return f"connections arrive at {arrived[0].address}"
    if any(seen.kind is Kind.ALIVE for seen in unix.values()):
        if listeners and all(seen.kind is Kind.SILENT for seen in tcp.values()):
            return f"connections are made at {listeners[0].address}, so packets arrive"
        return _suspect(Verdict.NETWORK, sight, "TCP is dark, the Unix socket answers")
    kinds = {seen.kind for seen in tcp.values()}
    if symptoms is None or unix or not kinds <= {Kind.UNREACHABLE, Kind.REFUSED}:
        return None
    if Kind.REFUSED in kinds:
        listeners = [*symptoms.asked_listeners()] or [*symptoms.at_asked_ports()]
    if not listeners:
        return "its listeners are not known"
    return _suspect(Verdict.NETWORK, sight, f"no connection arrives at {listeners[0].address}, which has room for it")


def overloaded(sight: Sight) -> Diagnosis | str | None:
    """It lives, and is slow: late answers come, its accept queue drains, or its threads get no CPU."""
    case = sight.case
    ago = float("inf") if case.late_answer is None or cured(case) else case.now - case.late_answer
    if ago <= LATE_FOR and not sight.lit:
        return _suspect(Verdict.OVERLOADED, sight, f"a late answer came {format_duration(ago)} ago")
    if sight.symptoms is None or not any(
        seen.kind.dark for seen in (*sight.sockets.values(), *sight.witnesses.values())
    ):
        return None
    if (starved := sight.symptoms.starved()) is not None:
        return _suspect(Verdict.OVERLOADED, sight, f"thread {starved.tid} ({starved.name}) could run, and gets no CPU")
    if not sight.dark:
        return None
    if (queue := sight.symptoms.drained()) is not None:
        return _suspect(
            Verdict.OVERLOADED, sight, f"the accept queue of {queue.address} drains: somebody takes connections"
        )
    if sight.symptoms.filled() and sight.symptoms.accepted():
        return _suspect(Verdict.OVERLOADED, sight, "connections that waited were taken meanwhile")
    return "no late answer came, and no accept queue drains" if sight.symptoms.listeners() else None


def cured(case: Case) -> bool:
    """Whether the last late answer came with a remedy: it says that the remedy helped, not that it is slow."""
    if case.late_answer is None or case.acted is None:
        return False
    return case.acted - ACTING_FOR <= case.late_answer <= case.acted + case.policy.settle


def loop_busy(sight: Sight) -> Diagnosis | str | None:
    """The sockets are dark, and the loop's thread burns CPU: it lives, whatever the witnesses say."""
    if sight.symptoms is None or not sight.dark or not sight.symptoms.informed:
        return None
    thread = sight.symptoms.busy()
    if thread is None:
        return "no thread of a loop burns CPU"
    return _suspect(Verdict.LOOP_BUSY, sight, f"thread {thread.tid} ({thread.name}) burns CPU and serves nobody")


def loop_blocked(sight: Sight) -> Diagnosis | str | None:
    """The sockets are dark, a witness is alive, connections wait, and no thread of a loop waits in epoll."""
    if sight.symptoms is None or not sight.diverges or not sight.symptoms.informed:
        return None
    blocked = sight.symptoms.blocked()
    if not blocked:
        return "a loop's thread waits in epoll" if sight.symptoms.in_epoll() else None
    if not sight.symptoms.filled():
        return "no connection waits to be accepted"
    thread = blocked[0][-1]
    where = f" ({thread.wchan})" if thread.wchan else ""
    call = thread.call or "a system call that is not told"
    return _suspect(
        Verdict.LOOP_BLOCKED, sight, f"thread {thread.tid} ({thread.name}) is in {call}{where}, not in epoll"
    )


def lost_edge(sight: Sight) -> Diagnosis | str | None:
    """The sockets are dark, a witness is alive, connections wait, and no epoll tells its waiters of them."""
    if sight.symptoms is None or not sight.diverges or not sight.symptoms.in_epoll():
        return None
    for queue in sight.symptoms.filled():
        if (why := sight.symptoms.overlooked(queue)) is not None:
            return _suspect(Verdict.LOST_EDGE, sight, f"{why}; a nudge would not help")
    return "the sockets with work are watched, and ready as far as that could be read"


def pool_starved(sight: Sight) -> Diagnosis | str | None:
    """The sockets are dark, a witness is alive, connections are accepted, and answers never come."""
    if sight.symptoms is None or not sight.diverges:
        return None
    silent = [seen.kind is Kind.SILENT for seen in sight.sockets.values()]
    listeners = sight.symptoms.listeners()
    if not all(silent) or not listeners:
        return "its listeners are not known" if not listeners else "not every connection was made"
    if waiting := [queue for queue in listeners if queue.length]:
        return f"{waiting[0].length} connections wait at {waiting[0].address}"
    return _suspect(Verdict.POOL_STARVED, sight, "connections are accepted, for no queue holds any; answers never come")


# --- what probes alone suggest ----------------------------------------------------------------------------------------


def epoll_stall(sight: Sight) -> Diagnosis | str | None:
    """Every socket is dark, a witness is alive, and no evidence speaks for anything above."""
    if not sight.dark or not sight.witnessed:
        return None
    refused = all(seen.kind is Kind.REFUSED for seen in sight.sockets.values())
    if refused and sight.symptoms is not None and not sight.symptoms.filled():
        return "every socket refuses connections: no sleeping loop does that"
    words = ", ".join(f"{name} ({sight.case.roads[name].strength})" for name in sight.witnessed)
    first = f"every socket is dark while {words} answers"
    symptoms = sight.symptoms
    if symptoms is None or not symptoms.informed:
        lack = () if sight.case.reading is None else (f"without evidence: {sight.unread}",)
        return _suspect(Verdict.EPOLL_STALL, sight, first, *lack, *_kernel(sight.case))
    asleep, filled = symptoms.asleep(), symptoms.filled()
    if not asleep or not filled:
        return "no thread sleeps in epoll all the time" if not asleep else "no connection waits to be accepted"
    thread = asleep[0][-1]
    slept = (
        f"thread {thread.tid} ({thread.name}) slept in {thread.call} while connections waited at {filled[0].address}"
    )
    return _suspect(Verdict.EPOLL_STALL, sight, first, slept, *_kernel(sight.case))


def hung(sight: Sight) -> Diagnosis | str | None:
    """Sockets and witnesses are dark, and the process is there."""
    if not sight.dark or sight.witnessed:
        return None
    if unsaid := [name for name in sight.witnesses if name not in sight.spoken]:
        return f"{', '.join(unsaid)} has not said anything yet"
    first = (
        "every socket and every witness is dark" if sight.witnesses else "every socket is dark, and no witness is set"
    )
    return _suspect(Verdict.HUNG, sight, first)


def wrong_answers(sight: Sight) -> Diagnosis | str | None:
    """The sockets answer, but wrongly (status, TLS, certificate, content)."""
    wrong = {name: seen for name, seen in sight.sockets.items() if seen.kind is Kind.WRONG}
    if wrong and not any(seen.kind.dark for seen in sight.sockets.values()):
        return _suspect(Verdict.WRONG_ANSWERS, sight, f"{', '.join(wrong)} answered wrongly")
    return None


def partly_dark(sight: Sight) -> Diagnosis | str | None:
    """Some sockets are dark, others answer, and no cause was found."""
    dark = [name for name, seen in sight.sockets.items() if seen.kind.dark]
    if dark and len(dark) < len(sight.sockets):
        return _suspect(Verdict.PARTLY_DARK, sight, f"{', '.join(dark)} of {len(sight.sockets)} sockets dark")
    return None


def witness_lost(sight: Sight) -> Diagnosis | str | None:
    """The sockets are alive, a witness is dark or says that the process is not well."""
    lost = [name for name in sight.spoken if name not in sight.witnessed]
    if sight.lit and lost:
        return _suspect(Verdict.WITNESS_LOST, sight, f"the sockets answer, {', '.join(lost)} does not")
    return None


RULES: tuple[Rule, ...] = (
    stopped,
    starting,
    blind,
    dead,
    paused_process,
    io_stuck,
    epoll_stall_proven,
    blind_on_a_plane,
    healthy,
    fd_exhausted,
    listener_lost,
    network,
    overloaded,
    loop_busy,
    loop_blocked,
    lost_edge,
    pool_starved,
    epoll_stall,
    hung,
    wrong_answers,
    partly_dark,
    witness_lost,
)


def diagnose(case: Case) -> Diagnosis:
    """The verdict on a case: the first rule that matches; of the others, what spoke against them."""
    sight = look_at(case)
    against: list[str] = []
    for rule in RULES:
        said = rule(sight)
        if isinstance(said, Diagnosis):
            lost = tuple(against) if stance(said.verdict) in (Stance.SICK, Stance.WAIT) else ()
            return replace(said, against=lost)
        if said is not None:
            against.append(f"{rule.__name__.removesuffix('_proven')}: {said}")
    first = "no rule decides" if sight.symptoms is not None or not sight.dark else f"no rule decides: {sight.unread}"
    return replace(_suspect(Verdict.UNSETTLED, sight, first), against=tuple(against))


def _kernel(case: Case) -> tuple[str, ...]:
    return tuple(f"this kernel is known to lose wake-ups: {advisory.text}" for advisory in case.advisories)
