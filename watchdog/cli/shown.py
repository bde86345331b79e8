"""The findings of `epoll-watchdog diagnose` for people: tables for 80 columns, the verdict and its ladder last.

Rules of this file. It shows and decides nothing. In a table comes first what a verdict rests on, and what is long is
cut, with a word on what was left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from rich.table import Table
from rich.text import Text

from watchdog.cli.findings import Findings, Result, waiting
from watchdog.cli.terminal import bullets, console, plain, table
from watchdog.model import Case, Certainty, Mode, Plane, Road, Rung, Verdict
from watchdog.reading import Epoll, Pressure, Reading, Thread
from watchdog.settings import format_duration
from watchdog.sight import told
from watchdog.symptoms import Symptoms, Trace
from watchdog.verdicts import VERDICTS, Stance, stance

MOST = 12  # rows of a table
STYLES = {Result.HEALTHY: "green", Result.NOTHING_FOUND: "green", Result.SICK: "bold red", Result.UNSEEN: "yellow"}


def show(findings: Findings) -> None:
    """Print it all."""
    screen = console()
    screen.print(plain(_subject(findings)))
    if findings.service is not None:
        screen.print(_probes(findings.case))
    if findings.case.reading is not None:
        for part in _evidence(findings.case.reading, findings.symptoms):
            screen.print(part)
    if findings.case.pressure is not None:
        screen.print()
        screen.print(plain(_pressure(findings.case.pressure)))
    screen.print()
    screen.print(Text.assemble(("Verdict: ", "bold"), (_verdict(findings), STYLES[findings.result])))
    for heading, lines in _sections(findings):
        if lines:
            screen.print(Text(f"{heading}:", style="bold"))
            screen.print(bullets(map(plain, lines)))


def _subject(findings: Findings) -> str:
    case = findings.case
    parts = ["no process" if case.epoch is None else f"process {case.epoch.pid}, {format_duration(case.age)} old"]
    if case.unit is not None:
        parts.append(f"{findings.unit} ({case.unit.active_state}, {case.unit.sub_state})")
    elif findings.unit:
        parts.append(f"the main process of {findings.unit}")
    return ": ".join([*([findings.service] if findings.service else []), ", ".join(parts)])


# --- what was found ---------------------------------------------------------------------------------------------------


def _probes(case: Case) -> Table:
    made = table("PROBE", "ROAD", "FOUND", "AFTER", "WHY")
    for name, seen in case.round.observations.items():
        after = format_duration(seen.latency)
        made.add_row(plain(name), _road(case.roads[name]), seen.kind, after, plain(seen.reason))
    for name in case.roads.keys() - case.round.observations.keys():
        made.add_row(plain(name), _road(case.roads[name]), "not asked", "", "")
    return made


def _road(road: Road) -> str:
    if road.plane is Plane.SOCKET:
        return str(road.transport or road.plane)
    return f"{road.strength} witness"


def _evidence(reading: Reading, symptoms: Symptoms) -> Iterator[Table | Text]:
    if reading.samples:
        first, last = reading.samples[0], reading.samples[-1]
        copies = ", then copies of its epolls" if reading.touched else ""
        yield Text()
        yield Text(f"Read {len(reading.samples)} times in {format_duration(last.ended - first.began)}{copies}:")
        yield from _threads(reading, symptoms)
    yield from _queues(reading, symptoms)
    if reading.samples:
        yield from _epolls(reading)


def _threads(reading: Reading, symptoms: Symptoms) -> Iterator[Table | Text]:
    """First those that wait in epoll or serve the sockets, then those that do anything but sleep."""
    before = {thread.key: thread for thread in reading.samples[0].threads}
    traces = [(before.get(thread.key, thread), thread) for thread in reading.samples[-1].threads]
    loops = {trace[-1].key for trace in (*symptoms.in_epoll(), *symptoms.loops)}
    traces.sort(key=lambda trace: (trace[-1].key not in loops, trace[-1].state == "S", trace[-1].pid, trace[-1].tid))
    made = table("PID", "THREAD", "NAME", "STATE", "IS IN", "SWITCHES", "CPU")
    for trace in traces[:MOST]:
        made.add_row(*_thread(trace, symptoms.cpu_share(trace)))
    yield made
    yield from _others("thread", Counter(f"{trace[-1].state} in {trace[-1].call or '?'}" for trace in traces[MOST:]))


def _thread(trace: Trace, share: float) -> Iterator[str | Text]:
    first, last = trace[0], trace[-1]
    yield from (str(last.pid), str(last.tid), plain(last.name), last.state, _call(last))
    yield from (f"+{last.switches - first.switches}", f"{share:.0%}")


def _call(thread: Thread) -> str:
    if thread.waits_in_epoll:
        epfd = "" if thread.epfd is None else f" ({thread.epfd})"
        return f"{thread.call}{epfd}{', timed' if thread.finite else ''}"
    return thread.call or ("-" if thread.state == "R" else thread.wchan or "?")


def _others(what: str, kinds: Counter[str]) -> Iterator[Text]:
    if kinds:
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
        yield plain(f"  and {kinds.total()} more {what}s: {listed}{', …' if len(kinds) > 4 else ''}")


def _queues(reading: Reading, symptoms: Symptoms) -> Iterator[Table | Text]:
    """The accept queues: what waited when it was first and last read."""
    queues = sorted(symptoms.listeners(), key=lambda queue: not any(waiting(reading, queue)))
    if queues:
        made = table("LISTENER", "WAITING", "LIMIT", "")
        for queue in queues[:MOST]:
            lengths = waiting(reading, queue)
            limit = "not told" if queue.limit is None else str(queue.limit)
            made.add_row(plain(queue.address), f"{lengths[0]} → {lengths[-1]}", limit, "full" if queue.full else "")
        yield Text()
        yield made
        yield from _others("listener", Counter(queue.family.value for queue in queues[MOST:]))
    taken = [stream for stream in reading.streams_after if stream.inode]
    unread = [stream.unread for stream in taken if stream.unread]
    if taken:
        yield Text(f"Connections: {len(taken)} taken, {len(unread)} of them with {sum(unread)} unread bytes")


def _epolls(reading: Reading) -> Iterator[Table | Text]:
    """First those that somebody waits on, or that have something ready."""
    sample = (reading.touched or reading.samples)[-1]
    waits: dict[tuple[int, int | None], list[int]] = {}
    for thread in sample.threads:
        waits.setdefault((thread.pid, thread.epfd), []).append(thread.tid)
    epolls = sorted(sample.epolls, key=lambda epoll: (epoll.key not in waits, not epoll.readable, epoll.key))
    if not epolls:
        return
    made = table("PID", "EPOLL", "ENTRIES", "READY", "WAITED ON BY")
    for epoll in epolls[:MOST]:
        entries = len(epoll.watches) + epoll.omitted
        made.add_row(str(epoll.pid), str(epoll.fd), str(entries), _ready(epoll), _tids(waits.get(epoll.key, [])))
    yield Text()
    yield made
    yield from _others("epoll", Counter("that nobody waits on" for _ in epolls[MOST:]))


def _ready(epoll: Epoll) -> str:
    return {None: "not asked", True: "yes", False: "no"}[epoll.readable]


def _tids(tids: list[int]) -> str:
    if not tids:
        return "nobody"
    return ", ".join(map(str, tids[:4])) + (f" and {len(tids) - 4} more" if len(tids) > 4 else "")


def _pressure(pressure: Pressure) -> str:
    shares = {
        "CPU": pressure.cpu_some,
        "memory": pressure.memory_full,
        "I/O": pressure.io_full,
        "CPU of the unit": pressure.unit_cpu_some,
        "memory of the unit": pressure.unit_memory_full,
        "I/O of the unit": pressure.unit_io_full,
        "stolen": pressure.steal,
    }
    known = [f"{name} {share:.0%}" for name, share in shares.items() if share is not None]
    if pressure.own_wait is not None:
        known.append(f"own wait {format_duration(pressure.own_wait)}")
    return f"Pressure over {format_duration(pressure.window)}: {', '.join(known) or 'not told'}"


# --- what follows -----------------------------------------------------------------------------------------------------


def _verdict(findings: Findings) -> str:
    diagnosis = findings.diagnosis
    if findings.result is Result.NOTHING_FOUND:
        return "nothing found"
    if findings.result is Result.UNSEEN and diagnosis.verdict is Verdict.UNSETTLED:
        return "none, for it could not be looked at"
    certainty = f", {diagnosis.certainty}" if stance(diagnosis.verdict) is Stance.SICK else ""
    return f"{diagnosis.verdict}{certainty}: {VERDICTS[diagnosis.verdict].text}"


def _sections(findings: Findings) -> Iterator[tuple[str, Iterable[str]]]:
    """Under its heading each: what the tables don't show already, and nothing twice."""
    diagnosis, case = findings.diagnosis, findings.case
    tabled = set(told(case.round.observations))
    yield "Because", [reason for reason in diagnosis.reasons if reason not in tabled]
    unproven, lacks = _grouped(case.unproven), _grouped(_lacks(case))
    yield "No lost wake-up is proven", [] if case.proofs or findings.result is Result.HEALTHY else unproven
    hidden = "epoll_stall: not proven: " if unproven or lacks else "\0"
    yield "Against other verdicts", [text for text in diagnosis.against if not text.startswith(hidden)]
    yield "Not read", lacks
    yield "This kernel", [f"{x.text} ({x.id}, mended in {x.fixed_in}; {x.source})" for x in case.advisories]
    yield "What one look can't tell", findings.notes
    yield "What the daemon would do", list(_ladder(findings))


def _lacks(case: Case) -> Iterator[str]:
    reading = case.reading or Reading()
    samples = (*reading.samples, *reading.touched)
    for lack in (*reading.lacks, *(lack for sample in samples for lack in sample.lacks)):
        yield f"{lack.what}: {lack.reason}"


def _grouped(texts: Iterable[str]) -> list[str]:
    """Texts such as "epoll 7 of process 4: REASON", one for each reason."""
    subjects: dict[str, list[str]] = {}
    for text in dict.fromkeys(texts):
        subject, _, reason = text.partition(": ")
        subjects.setdefault(reason, []).append(subject)
    return [f"{_some(names)}: {reason}" if reason else _some(names) for reason, names in subjects.items()]


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:2])} and {len(names) - 2} more" if len(names) > 2 else ", ".join(names)


def _ladder(findings: Findings) -> Iterator[str]:
    """The ladder, and what of it is not for one look to say."""
    policy, rungs, sick = findings.case.policy, findings.ladder, stance(findings.diagnosis.verdict) is Stance.SICK
    if not sick and (rungs or findings.result is Result.SICK):
        yield "wait, and alert if it lasts" if rungs else "nothing: its operator wants it so"
    if not sick:
        return
    whose = "" if findings.service is not None else "by default: "
    when = "at once" if findings.diagnosis.certainty is Certainty.CONFIRMED else f"after {policy.fall} bad rounds"
    yield f"{whose}{', '.join(rungs)}; {when}" if rungs else "nothing: its ladder is empty"
    if findings.service is not None and policy.mode is not Mode.FULL:
        yield f"mode {policy.mode}: what goes further is only told"
    yield "budgets, pauses and holds are the daemon's to know: epoll-watchdog status"
    if findings.case.epoch is not None and rungs and rungs[0] is Rung.NUDGE:
        asleep = {trace[-1].pid for trace in findings.symptoms.asleep()} or {findings.case.epoch.pid}
        commands = (f"epoll-watchdog nudge {what}" for what in ([findings.unit] if findings.unit else sorted(asleep)))
        yield f"by hand, without the daemon: {'; '.join(commands)}"
