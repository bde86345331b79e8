"""Whatever a reading holds: a proof has what it takes, and holds as long as nothing of it moves."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.readings import (
    EDGE,
    EXCLUSIVE,
    LEVEL,
    NOTHING,
    ONESHOT,
    PID,
    PIPE,
    WEB,
    E,
    Trace,
    asleep,
    but,
    epoll,
    healthy,
    nothing,
    reading,
    touched,
)
from watchdog.proof import holds, prove
from watchdog.reading import Epoll, Form, Proof

CHANGES: st.SearchStrategy[dict[str, object]] = st.sampled_from(
    [
        *({"state": state} for state in "RDTZ"),
        *({"epfd": epfd} for epfd in (E, 8, None)),
        *({"finite": True}, {"tracer": 1}, {"wchan": "get_signal"}, {"cpu": 2.0}, {"switches": 9}, {"started": 1}),
    ]
)


@st.composite
def traces(draw: st.DrawFn, tid: int) -> Trace:
    """A thread that mostly sleeps on one of three epolls, and sometimes not."""
    steady = asleep(tid, epfd=draw(st.sampled_from([E, E, 8, NOTHING, None])), switches=draw(st.integers(0, 2)))
    changes = draw(st.lists(st.tuples(st.integers(0, 3), CHANGES), max_size=2))
    for at, fields in changes:
        steady = but(steady, at, **fields)
    return steady


Lengths = st.lists(st.sampled_from([None, 0, 1, 2, 3, 4]), min_size=3, max_size=3) | st.just([1, 2, 3])
EpollsDrawn = st.tuples(
    st.builds(epoll, st.just(E), st.sampled_from([LEVEL, EDGE, EXCLUSIVE, ONESHOT, 0x18])),
    st.builds(epoll, st.just(8), st.sampled_from([LEVEL, EXCLUSIVE]), inode=st.sampled_from([WEB, PIPE])),
    st.just(nothing()),
)
Crowds = st.integers(1, 4).flatmap(lambda size: st.tuples(*(traces(100 + number) for number in range(size))))


@settings(max_examples=600, deadline=None)
@given(
    Crowds, Crowds, EpollsDrawn, Lengths, st.booleans(), st.booleans(), st.lists(st.booleans(), min_size=4, max_size=4)
)
def test_a_proof_has_sleepers_that_never_ran_and_something_that_should_have_woken_them(
    now: tuple[Trace, ...],
    before: tuple[Trace, ...],
    epolls: tuple[Epoll, ...],
    lengths: list[int | None],
    known: bool,
    was: bool,
    readable: list[bool],
) -> None:
    found = touched(reading(*now, epolls=epolls, lengths=lengths), *readable)
    baseline = healthy(*before, epolls=epolls) if known else None
    earlier = (reading(*now, epolls=epolls, lengths=lengths, at=998.0),) if was else ()
    proofs = prove(found, baseline, earlier).proofs
    grew = None not in lengths and len(set(lengths)) == 3 and lengths == sorted(lengths, key=str)
    shown = grew or (was and all(lengths))
    copied = (Form.COPY, Form.PARKED)
    assert all(shown or (proof.form in copied and all(readable)) for proof in proofs)
    assert all(is_sound(proof, now) and holds(proof, found.samples[-1]) for proof in proofs)
    assert known or not proofs or all(thread.state not in "RDT" for trace in now for thread in trace)


def is_sound(proof: Proof, traces: tuple[Trace, ...]) -> bool:
    """Whether its threads slept in one endless epoll wait from the first sample to the last."""
    sleepers = [trace for trace in traces if f"{trace[0].tid}:{trace[0].started}" in proof.threads]
    return bool(sleepers) and all(
        len({(x.switches, x.epfd, x.started) for x in trace}) == 1
        and all(x.state == "S" and x.wchan == "ep_poll" and not x.finite and not x.tracer for x in trace)
        and (trace[0].epfd == proof.epfd or proof.form is Form.PARKED)
        for trace in sleepers
    )


@given(st.tuples(traces(100), traces(101)), st.integers(0, 3))
def test_a_proof_holds_exactly_while_every_thread_sleeps_and_was_not_switched(
    found: tuple[Trace, ...], number: int
) -> None:
    proof = Proof(Form.COPY, PID, E, {"100:1000": 1, "101:1010": 1}, "", 0.0)
    now = [trace[number] for trace in found]
    still = all(x.state == "S" and x.switches == 1 and x.started == x.tid * 10 for x in now)
    assert holds(proof, reading(*found).samples[number]) == still
