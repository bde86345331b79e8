"""Whether a wake-up was lost, proven for each epoll. Pure: readings in, proofs out; no clock, no I/O.

Rules of this file. "Some epoll is readable and some thread sleeps" proves nothing: it holds on healthy programs with
several loops. So a proof is of one epoll E and of W, the threads that wait on it, and every condition below is one that
healthy programs were seen to break. What is not shown is not assumed: where a thread could not be read, or an entry of
E, nothing is proven.

Common conditions. The samples span 100 ms, and 10 ms of grace before the last. In all of them W is the same and not
empty; each of W sleeps (S) where epoll sleeps, and did not run in between (its context switches stand still); nobody
traces it, its cgroup is not frozen, and its wait has no time-out (one with a time-out heals itself). And nobody else
can be on the way to serve E, for a woken thread may just lack CPU:

- who was ever seen waiting on E, or on what may be woken instead (`_related`), sleeps too;
- so does who is not known to the baseline; without a baseline, each thread there is;
- who is known, and never waited on any epoll, sleeps or was seen to run: it does not lack CPU.

Then one of four forms: the three of `forms.py`; or *parked*: who served E waits on an epoll that watches nothing, E has
no waiter, and connections arrived or stand, as in the first two, at a listener that E watched while healthy, or a copy
of E is readable.

Where the cgroup could not be read `wchan` says that it is not frozen: a frozen thread has left its epoll wait.

Sources: design.md, "The proof of a lost wake-up"; ep_poll(), ep_poll_callback() in fs/eventpoll.c; do_freezer_trap() in
kernel/signal.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from watchdog.baseline import Key, entries
from watchdog.forms import PASSIVE, TOUCHING, Asked, Shows, Waiting, first, names
from watchdog.reading import Baseline, Epoll, Form, Proof, Reading, Sample, Thread, Watch
from watchdog.stretch import ENDED, No, Stretch, Trace, asleep_since

EPOLL_SLEEP = ("ep_poll", "do_epoll_wait")  # where epoll_wait(2) sleeps, by the kernel's age
TOLD = 8  # epolls of which it is told why they are not proven


@dataclass(frozen=True, slots=True)
class Proven:
    """What a reading proves, and for each other epoll that looked like it, what spoke against."""

    proofs: tuple[Proof, ...] = ()
    against: tuple[str, ...] = ()


def prove(reading: Reading, baseline: Baseline | None = None, earlier: Sequence[Reading] = ()) -> Proven:
    """All proofs of the newest reading; `earlier` ones, oldest first, may show for how long connections stood."""
    proofs: dict[Key, Proof] = {}
    against: list[tuple[Key, str]] = []
    for stretch, shows in _stretches(reading, baseline, tuple(earlier)):
        for key in _candidates(stretch):
            try:
                if key not in proofs:
                    proofs[key] = _prove(stretch, key, shows)
            except No as no:
                against.append((key, f"epoll {key[1]} of process {key[0]}: {no}"))
    lost = list(dict.fromkeys(text for key, text in against if key not in proofs))
    more = [f"and so on, for {len(lost) - TOLD} more"] if len(lost) > TOLD else []
    return Proven(tuple(proofs.values()), (*lost[:TOLD], *more))


def holds(proof: Proof, sample: Sample) -> bool:
    """Whether every thread of the proof still sleeps as it did: one look, and no new reading."""
    now = {f"{thread.tid}:{thread.started}": thread for thread in sample.threads if thread.pid == proof.pid}
    return all(key in now and asleep_since(now[key], switches) for key, switches in proof.threads.items())


def _stretches(
    reading: Reading, baseline: Baseline | None, earlier: tuple[Reading, ...]
) -> Iterator[tuple[Stretch, tuple[Shows, ...]]]:
    """The passive part; then what was touched, for which only the copies count."""
    if reading.samples:
        yield Stretch(reading.samples, reading.queues, baseline, earlier), PASSIVE
    if reading.touched:
        yield Stretch(reading.touched, (), baseline, earlier), TOUCHING


def _candidates(stretch: Stretch) -> list[Key]:
    """Every epoll that somebody waits on, and every one that somebody waited on and nobody does."""
    sample = stretch.samples[0]
    waited = {thread.epoll for thread in sample.threads if thread.epoll is not None}
    return sorted(waited | (stretch.known.keys() & stretch.epolls[0].keys()))


# --- the proof of one epoll -------------------------------------------------------------------------------------------


def _prove(stretch: Stretch, key: Key, shows: tuple[Shows, ...]) -> Proof:
    stretch.check()
    waiting: Waiting = stretch.waiters(key)
    parked = not waiting
    if parked:
        waiting = _parked(stretch, key)
    _check_asleep(waiting)
    _check_processes(stretch, {trace[0].pid for trace in waiting.values()})
    epolls = stretch.epoll(key)
    watches = _watched_before(stretch, epolls[-1]) if parked else epolls[-1].watches
    if parked and not watches:
        raise No("it watches no socket that it watched while healthy: its number may be another epoll's")
    shown = first(shows, stretch, Asked(epolls, watches, waiting))
    _check_nobody_on_the_way(stretch, epolls[-1])
    form, text = shown.form, shown.text
    if parked:
        nothing = next(iter(waiting.values()))[-1].epfd
        form = Form.PARKED
        text = f"{names(waiting)} waits on epoll {nothing}, which watches nothing, instead of {key[1]}; {text}"
    return Proof(
        form=form,
        pid=key[0],
        epfd=key[1],
        threads={f"{tid}:{started}": trace[-1].switches for (tid, started), trace in waiting.items()},
        text=text,
        at=stretch.samples[-1].ended,
        listeners=shown.listeners,
    )


def _check_asleep(waiting: Waiting) -> None:
    for trace in waiting.values():
        name = _name(trace[0])
        if any(thread.state != "S" for thread in trace):
            raise No(f"{name} does not sleep all the time")
        if any(thread.switches != trace[0].switches for thread in trace):
            raise No(f"{name} was woken in between")
        if any(thread.tracer for thread in trace):
            raise No(f"{name} is traced")
        if any(thread.finite for thread in trace):
            raise No(f"{name} waits with a time-out: it heals itself")
        for thread in trace:
            if not thread.waits_in_epoll or thread.wchan not in EPOLL_SLEEP:
                raise No(f"{name} does not sleep where epoll_wait sleeps, but in {thread.wchan or 'an unknown place'}")


def _check_processes(stretch: Stretch, pids: set[int]) -> None:
    for sample in stretch.samples:
        for process in sample.processes:
            if process.pid in pids and process.frozen:
                raise No("its cgroup is frozen")


# --- parked elsewhere -------------------------------------------------------------------------------------------------


def _parked(stretch: Stretch, key: Key) -> Waiting:
    """Who is known to serve the epoll, where all of them that live wait, in all samples, on what watches nothing."""
    last = stretch.threads[-1]
    living = sorted(thread for thread in stretch.known[key] & last.keys() if last[thread].state not in ENDED)
    found = {thread: stretch.trace(thread) for thread in living}
    if not found:
        raise No("nobody waits on it: who served it has ended")
    for trace in found.values():
        if not _on_nothing(stretch, trace):
            raise No(f"nobody waits on it: {_name(trace[-1])}, which serves it, does something else")
    return found


def _on_nothing(stretch: Stretch, trace: Trace) -> bool:
    """Whether the thread waits, in every sample, on one epoll without an entry."""
    for thread, epolls in zip(trace, stretch.epolls, strict=True):
        epoll = epolls.get(thread.epoll) if thread.epoll is not None else None
        if epolls and (epoll is None or epoll.watches or epoll.omitted):
            return False
    return len({thread.epfd for thread in trace}) == 1


def _watched_before(stretch: Stretch, epoll: Epoll) -> list[Watch]:
    """The sockets among its entries that it watched while healthy: else its number was given to another epoll since.

    An eventfd or a timer tells nothing: all of them have one inode.
    """
    known = stretch.baseline.epolls if stretch.baseline is not None else ()
    before = next((entries(then) for then in known if then.key == epoll.key), set[tuple[int, int]]())
    sockets = {inode for sample in stretch.samples for inode in sample.sockets}
    return [watch for watch in epoll.watches if watch.inode in sockets and (watch.fd, watch.inode) in before]


# --- who else may serve it --------------------------------------------------------------------------------------------


def _check_nobody_on_the_way(stretch: Stretch, epoll: Epoll) -> None:
    baseline = stretch.baseline
    keys = {epoll.key, *_related(stretch, epoll)}
    serving, others = stretch.serving(keys), stretch.waits_somewhere
    for number, thread in stretch.awake:
        does = f"{_name(thread)} is in state {thread.state}"
        if baseline is None:
            raise No(f"{does}, and there is no baseline to say of what")
        if thread.key in serving:
            raise No(f"{does}, and serves it too")
        if thread.key not in baseline.threads:
            raise No(f"{does}, and the baseline does not know it")
        if thread.key not in others and not stretch.ran_on(thread.key, number):
            raise No(f"{does}, and gets no CPU to say of what")


def _related(stretch: Stretch, epoll: Epoll) -> set[Key]:
    """Epolls whose waiters may be woken instead of this one's.

    One is that of the same socket, where only one of all is woken (EXCLUSIVE). Another is this very epoll by another
    name: a fork has the number of its parent, a dup() the same entries. Entries that were not read may be any.
    """
    exclusive = {watch.inode for watch in epoll.watches if watch.exclusive}
    heard = {queue.inode for moment in stretch.queues for queue in moment.queues}
    listens = {watch for watch in epoll.watches if watch.inode in heard}
    told = next((epolls.values() for epolls in reversed(stretch.epolls) if epolls), ())

    def related(other: Epoll) -> bool:
        forked = other.fd == epoll.fd and not listens.isdisjoint(other.watches)
        doubled = other.watches == epoll.watches
        hidden = bool(epoll.omitted or (other.omitted and exclusive))
        return forked or doubled or hidden or any(watch.inode in exclusive for watch in other.watches)

    return {other.key for other in told if related(other)}


def _name(thread: Thread) -> str:
    return f"thread {thread.tid} ({thread.name})"
