"""Whether a wake-up was lost, proven for each epoll. Pure: readings in, proofs out; no clock, no I/O.

Rules of this file. "Some epoll is readable and some thread sleeps" proves nothing: it holds on healthy programs with
several loops. So a proof is of one epoll E and of W, the threads that wait on it, and every condition below is one that
healthy programs were seen to break. What is not shown is not assumed: a reading that lacks something proves nothing.

Common conditions. The samples span 100 ms, and 10 ms of grace before the last. In all of them W is the same and not
empty; each of W sleeps (S) where epoll sleeps, and did not run in between (its context switches stand still); nobody
traces it, its cgroup is not frozen, and its wait has no time-out (one with a time-out heals itself). And nobody else
can be on the way to serve E: each thread that the baseline knows as a waiter of E (or of an epoll with the same socket,
where only one of several is woken) sleeps too, and so does each thread that the baseline does not know; without a
baseline, each thread there is.

Then one of four forms: *arrival*, a listener that E watches got connections in each window; *standing*, connections
stood before a level-triggered entry for a second; *copy*, a copy of E is readable in all samples; *parked*, who served
E waits on an epoll that watches nothing, E has no waiter, and the first or the second form holds for E.

Sources: design.md, "The proof of a lost wake-up"; ep_poll(), ep_poll_callback() in fs/eventpoll.c; epoll_ctl(2).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from watchdog.reading import Baseline, Epoll, Form, Proof, Queue, Queues, Reading, Sample, Thread, Waiter, Watch

SPAN = 0.1  # s from the first to the last but one sample
GRACE = 0.01  # s from the last arrival to the last sample
STOOD = 1.0  # s
WINDOWS = 2
EPOLL_SLEEP = ("ep_poll", "do_epoll_wait")  # where epoll_wait(2) sleeps, by the kernel's age
ENDED = ("Z", "X", "I")

Key = tuple[int, int]  # a thread by `tid` and `started`; an epoll by `pid` and `fd`


@dataclass(frozen=True, slots=True)
class Proven:
    """What a reading proves, and for each other epoll that looked like it, what spoke against."""

    proofs: tuple[Proof, ...] = ()
    against: tuple[str, ...] = ()


class _No(Exception):
    """A condition that does not hold; the text says which."""


def prove(reading: Reading, baseline: Baseline | None = None, earlier: Sequence[Reading] = ()) -> Proven:
    """All proofs of the newest reading; `earlier` ones, oldest first, may show for how long connections stood."""
    proofs: list[Proof] = []
    against: list[str] = []
    for samples, queues, forms in _views(reading):
        view = _View(samples, queues, baseline, tuple(earlier))
        for key in _candidates(view):
            if any((proof.pid, proof.epfd) == key for proof in proofs):
                continue
            try:
                proofs.append(_prove(view, key, forms))
            except _No as no:
                against.append(f"epoll {key[1]} of process {key[0]}: {no}")
    return Proven(tuple(proofs), tuple(dict.fromkeys(against)))


def holds(proof: Proof, sample: Sample) -> bool:
    """Whether every thread of the proof still sleeps as it did: one look, and no new reading."""
    now = {f"{thread.tid}:{thread.started}": thread for thread in sample.threads if thread.pid == proof.pid}
    return all(key in now and _same(now[key], switches) for key, switches in proof.threads.items())


def _same(thread: Thread, switches: int) -> bool:
    return thread.state == "S" and thread.switches == switches


def learn(baseline: Baseline | None, samples: Sequence[Sample]) -> Baseline:
    """The baseline with what these samples of a healthy service add to it; threads that have ended are forgotten."""
    last = samples[-1]
    present = {thread.key for thread in last.threads}
    known = baseline.waiters if baseline is not None else frozenset()
    seen = {
        Waiter(thread.pid, thread.tid, thread.started, thread.epfd)
        for sample in samples
        for thread in sample.threads
        if thread.epfd is not None
    }
    return Baseline(
        at=last.ended,
        samples=len(samples) + (baseline.samples if baseline is not None else 0),
        waiters=frozenset(waiter for waiter in known | seen if (waiter.tid, waiter.started) in present),
        threads=frozenset(present),
        epolls=last.epolls,
    )


# --- a reading, looked at -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _View:
    """Samples with the queues in between, and what is known from before."""

    samples: tuple[Sample, ...]
    queues: tuple[Queues, ...]
    baseline: Baseline | None
    earlier: tuple[Reading, ...]
    threads: tuple[Mapping[Key, Thread], ...] = field(init=False)

    def __post_init__(self) -> None:
        found = tuple({thread.key: thread for thread in sample.threads} for sample in self.samples)
        object.__setattr__(self, "threads", found)

    def waiters(self, key: Key) -> dict[Key, tuple[Thread, ...]]:
        """The threads that wait on the epoll in all samples alike, each with its state in every sample."""
        per_sample = [
            {thread.key for thread in sample.threads if (thread.pid, thread.epfd) == key} for sample in self.samples
        ]
        if any(waiting != per_sample[0] for waiting in per_sample):
            raise _No("its waiters changed in between: they are served")
        return {thread: self.trace(thread) for thread in per_sample[0]}

    def trace(self, thread: Key) -> tuple[Thread, ...]:
        """A thread's state in every sample. Raises `_No` where it is not in all of them."""
        try:
            return tuple(found[thread] for found in self.threads)
        except KeyError:
            raise _No(f"thread {thread[0]} was not there all the time") from None

    def epolls(self, key: Key) -> tuple[Epoll, ...]:
        """The epoll in every sample that tells of epolls (the last one need not)."""
        found = [[epoll for epoll in sample.epolls if epoll.key == key] for sample in self.samples if sample.epolls]
        if not found or not all(found):
            raise _No("what it watches could not be read in every sample")
        return tuple(epolls[0] for epolls in found)

    def known_waiters(self, epolls: Iterable[Key]) -> frozenset[Key]:
        """The threads that the baseline saw waiting on any of these epolls."""
        if self.baseline is None:
            return frozenset()
        wanted = set(epolls)
        return frozenset((w.tid, w.started) for w in self.baseline.waiters if (w.pid, w.epfd) in wanted)


def _views(reading: Reading) -> Iterator[tuple[tuple[Sample, ...], tuple[Queues, ...], tuple[Form, ...]]]:
    """The passive part; then what was touched, for which only the copies count."""
    if reading.samples:
        yield reading.samples, reading.queues, (Form.ARRIVAL, Form.STANDING)
    if reading.touched:
        yield reading.touched, (), (Form.COPY,)


def _candidates(view: _View) -> list[Key]:
    """Every epoll that somebody waits on, and every one that somebody waited on and nobody does."""
    waited = {(thread.pid, thread.epfd) for thread in view.samples[0].threads if thread.epfd is not None}
    before = {(w.pid, w.epfd) for w in view.baseline.waiters} if view.baseline is not None else set[Key]()
    present = {epoll.key for epoll in view.samples[0].epolls}
    return sorted(waited | (before & present))


# --- the proof of one epoll -------------------------------------------------------------------------------------------


def _prove(view: _View, key: Key, forms: tuple[Form, ...]) -> Proof:
    _check_span(view)
    waiting = view.waiters(key)
    parked = not waiting
    if parked:
        if Form.ARRIVAL not in forms:
            raise _No("nobody waits on it")
        waiting = _parked(view, key)
    _check_asleep(waiting)
    _check_processes(view, {thread[0].pid for thread in waiting.values()})
    epolls = view.epolls(key)
    if any(epoll.omitted for epoll in epolls) and not epolls[-1].watches:
        raise _No("what it watches could not be read")
    _check_nobody_on_the_way(view, key, epolls[-1], waiting)
    form, text, listeners = _first_form(view, epolls, waiting, forms)
    if parked:
        elsewhere = sorted({trace[-1].epfd for trace in waiting.values()}, key=str)
        text = f"{_names(waiting)} waits on epoll {elsewhere[0]}, which watches nothing, instead of {key[1]}; {text}"
        form = Form.PARKED
    return Proof(
        form=form,
        pid=key[0],
        epfd=key[1],
        threads={f"{tid}:{started}": trace[-1].switches for (tid, started), trace in waiting.items()},
        text=text,
        at=view.samples[-1].ended,
        listeners=listeners,
    )


def _check_span(view: _View) -> None:
    samples = view.samples
    if len(samples) < WINDOWS + 2 or samples[-2].began - samples[0].began < SPAN:
        raise _No("the reading was too short")
    last = view.queues[-1].at if view.queues else samples[-2].ended
    if samples[-1].began - last < GRACE:
        raise _No("the reading left no grace before its last sample")


def _parked(view: _View, key: Key) -> dict[Key, tuple[Thread, ...]]:
    """Who is known to serve the epoll and waits, in all samples, on one that watches nothing."""
    known = view.known_waiters([key])
    if not known:
        raise _No("nobody waits on it, and nobody is known who did")
    there = [thread for thread in sorted(known) if thread in view.threads[-1]]
    found = {thread: trace for thread in there if _on_nothing(view, trace := view.trace(thread))}
    if not found:
        raise _No("nobody waits on it: who serves it does something else")
    return found


def _on_nothing(view: _View, trace: tuple[Thread, ...]) -> bool:
    """Whether the thread waits, in every sample, on an epoll without an entry."""
    for thread, sample in zip(trace, view.samples, strict=True):
        nothing = {epoll.key for epoll in sample.epolls if not epoll.watches and not epoll.omitted}
        if thread.epfd is None or (sample.epolls and (thread.pid, thread.epfd) not in nothing):
            return False
    return True


def _check_asleep(waiting: Mapping[Key, tuple[Thread, ...]]) -> None:
    for trace in waiting.values():
        name = f"thread {trace[0].tid} ({trace[0].name})"
        if any(thread.state != "S" for thread in trace):
            raise _No(f"{name} does not sleep all the time")
        if any(thread.switches != trace[0].switches for thread in trace):
            raise _No(f"{name} was woken in between")
        if any(thread.tracer for thread in trace):
            raise _No(f"{name} is traced")
        if any(thread.finite for thread in trace):
            raise _No(f"{name} waits with a time-out: it heals itself")
        if not all(thread.waits_in_epoll and thread.wchan in EPOLL_SLEEP for thread in trace):
            raise _No(f"{name} does not sleep where epoll_wait sleeps, but in {trace[-1].wchan or 'an unknown place'}")


def _check_processes(view: _View, pids: set[int]) -> None:
    for sample in view.samples:
        for process in sample.processes:
            if process.pid in pids and process.frozen:
                raise _No("its cgroup is frozen")


def _check_nobody_on_the_way(view: _View, key: Key, epoll: Epoll, waiting: Mapping[Key, tuple[Thread, ...]]) -> None:
    """A woken thread may just lack CPU: it is R, or does what it was woken for."""
    baseline = view.baseline
    servers = view.known_waiters({key, *_related(view, key, epoll)}) if baseline is not None else frozenset()
    for found in view.threads:
        for thread, now in found.items():
            if now.state == "S" or now.state in ENDED or thread in waiting:
                continue
            if baseline is None:
                raise _No(
                    f"thread {now.tid} ({now.name}) is in state {now.state}, and there is no baseline to say of what"
                )
            if thread in servers:
                raise _No(f"thread {now.tid} ({now.name}), which serves it too, is in state {now.state}")
            if thread not in baseline.threads:
                raise _No(f"thread {now.tid} ({now.name}), which the baseline does not know, is in state {now.state}")


def _related(view: _View, key: Key, epoll: Epoll) -> set[Key]:
    """Epolls whose waiters may be woken instead: of the same exclusive socket, or the same epoll in another process."""
    exclusive = {watch.inode for watch in epoll.watches if watch.exclusive}
    last = next(sample for sample in reversed(view.samples) if sample.epolls)
    return {
        other.key
        for other in last.epolls
        if other.key != key
        and (
            any(watch.inode in exclusive for watch in other.watches)
            or (other.fd == key[1] and bool(other.watches) and other.watches == epoll.watches)
        )
    }


# --- the forms --------------------------------------------------------------------------------------------------------

Found = tuple[str, tuple[str, ...]]  # what was seen, and the listeners that it rests on
Waiting = Mapping[Key, tuple[Thread, ...]]


def _arrival(view: _View, epolls: tuple[Epoll, ...], waiting: Waiting) -> Found:
    """A listener that it watches, armed, got connections in each window."""
    grown = [
        queues
        for watch in epolls[-1].watches
        if _armed(epolls, watch) and (queues := _queues(view.queues, watch.inode)) and _grew(queues)
    ]
    if not grown:
        raise _No("no listener that it watches got a connection in each window")
    last = grown[0]
    lengths = ", ".join(str(queue.length) for queue in last)
    text = f"the accept queue of {last[-1].address} grew ({lengths}) while {_names(waiting)} slept on without waking"
    return text, tuple(queues[-1].address for queues in grown)


def _standing(view: _View, epolls: tuple[Epoll, ...], waiting: Waiting) -> Found:
    """Connections stood before a level-triggered entry for a second, and nobody woke."""
    moments = list(_asleep_before(view, waiting)) + list(view.queues)
    for watch in epolls[-1].watches:
        if not (watch.level and _armed(epolls, watch)):
            continue
        since = None
        for moment in moments:
            queue = moment.of(watch.inode)
            since = None if queue is None or not queue.length else (moment.at if since is None else since)
        if since is not None and view.queues and view.queues[-1].at - since >= STOOD:
            queue = view.queues[-1].of(watch.inode)
            address = queue.address if queue is not None else ""
            stood = view.queues[-1].at - since
            text = (
                f"connections stood in the accept queue of {address} for {stood:.1f} s while {_names(waiting)} slept on"
            )
            return text, (address,)
    raise _No("no connection stood before a level-triggered entry for a second")


def _copy(view: _View, epolls: tuple[Epoll, ...], waiting: Waiting) -> Found:
    """A copy of it is readable in all samples: its waiters should have been woken."""
    if any(epoll.readable is None for epoll in epolls):
        raise _No("no copy of it could be polled")
    if not all(epoll.readable for epoll in epolls):
        raise _No("nothing in it is ready")
    return f"epoll {epolls[0].fd} has events ready, and {_names(waiting)} sleeps before it without waking", ()


_FORMS: Mapping[Form, Callable[[_View, tuple[Epoll, ...], Waiting], Found]] = {
    Form.ARRIVAL: _arrival,
    Form.STANDING: _standing,
    Form.COPY: _copy,
}


def _first_form(
    view: _View, epolls: tuple[Epoll, ...], waiting: Waiting, forms: tuple[Form, ...]
) -> tuple[Form, str, tuple[str, ...]]:
    reasons = []
    for form in forms:
        try:
            return form, *_FORMS[form](view, epolls, waiting)
        except _No as no:
            reasons.append(str(no))
    raise _No(", and ".join(reasons))


def _armed(epolls: tuple[Epoll, ...], watch: Watch) -> bool:
    """In every sample the entry is there as it is now, and would tell of input."""
    return watch.armed and all(watch in epoll.watches for epoll in epolls)


def _queues(moments: Sequence[Queues], inode: int) -> tuple[Queue, ...]:
    """The listener's queue at every moment; empty where it is no listener, or was not read each time."""
    found = [moment.of(inode) for moment in moments]
    return tuple(queue for queue in found if queue is not None) if all(found) else ()


def _grew(queues: tuple[Queue, ...]) -> bool:
    windows = list(itertools.pairwise(queues))
    return len(windows) >= WINDOWS and all(after.length > before.length for before, after in windows)


def _asleep_before(view: _View, waiting: Waiting) -> Iterator[Queues]:
    """The queues of earlier readings, as far back as the same threads sleep in the same sleep."""
    switches = {thread: trace[0].switches for thread, trace in waiting.items()}
    kept: list[Queues] = []
    for reading in reversed(view.earlier):
        samples = [{thread.key: thread for thread in sample.threads} for sample in (*reading.samples, *reading.touched)]
        slept = samples and all(
            thread in sample and _same(sample[thread], count)
            for sample in samples
            for thread, count in switches.items()
        )
        if not slept:
            break
        kept = [*reading.queues, *kept]
    return iter(kept)


def _names(waiting: Waiting) -> str:
    traces = sorted(waiting.values(), key=lambda trace: trace[0].tid)
    first = traces[0][0]
    more = f" and {len(traces) - 1} more" if len(traces) > 1 else ""
    return f"thread {first.tid} ({first.name}){more}"
