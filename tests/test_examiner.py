from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.readings import PID, Trace, asleep, but, elsewhere, nothing
from tests.evidence.listeners import client, listen
from tests.examining import EPOCH, Logged, Playback, Shifted, inode, lengths, watching
from watchdog.evidence.sockdiag import Listening
from watchdog.examiner import KNOCK_EVERY, LEARN_EVERY, LEARNT_WELL, MOST_OURS, Examiner
from watchdog.model import Epoch
from watchdog.reading import Family, Form, Lack, Queue, Queues, Waiter
from watchdog.stretch import GRACE, SPAN

Listen = Callable[..., socket.socket]
NOBODY = Epoch(1, 1)


def none(_queue: Queue) -> int:
    """No probe of ours waits anywhere."""
    return 0


@pytest.fixture
def time() -> Shifted:
    return Shifted()


@pytest.fixture
def helper(time: Shifted) -> Playback:
    return Playback(time.clock)


@pytest.fixture
def diag(helper: Playback) -> Iterator[Logged]:
    asked = Logged(helper.log)
    yield asked
    asked.close()


@pytest.fixture
def examiner(helper: Playback, diag: Logged, time: Shifted, tmp_path: Path) -> Examiner:
    asked = {str(tmp_path / "unix.sock")}  # a path is connected to only where a probe asks it
    return Examiner("web", asked, helper, diag, time.clock, touch_every=1.0)


@pytest.fixture
def crowd() -> Iterator[contextlib.ExitStack]:
    """Who listens and who waits, until the end of the test."""
    with contextlib.ExitStack() as held:
        yield held


@pytest.fixture
def listening(crowd: contextlib.ExitStack, tmp_path: Path) -> Listen:
    """A listener with so many connections that wait."""

    def make(kind: str = "v4", waiting: int = 1, backlog: int = 16) -> socket.socket:
        made = crowd.enter_context(listen(kind, tmp_path, backlog))
        for _ in range(waiting):
            crowd.enter_context(client(made))
        return made

    return make


def accept_all(listener: socket.socket) -> int:
    """Take what waits, and let go of it; how many there were."""
    listener.setblocking(False)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            taken += 1
    return taken


# --- the order of a reading -------------------------------------------------------------------------------------------


async def test_samples_and_queues_are_read_in_turn(examiner: Examiner, helper: Playback, listening: Listen) -> None:
    helper.serves(listening(waiting=0), readable=False)
    found = await examiner.read(EPOCH, none)
    one = ["sample", "queues"]
    assert helper.log == [*one, "streams", *one, *one, "sample", "streams", *["sample"] * 4]
    assert helper.copied == [False] * 4 + [True] * 4
    moments = [
        at for sample, queues in zip(found.samples, found.queues, strict=False) for at in (sample.ended, queues.at)
    ]
    assert [*moments, found.samples[3].began] == sorted([*moments, found.samples[3].began])


async def test_a_reading_is_as_long_as_a_proof_needs(examiner: Examiner, helper: Playback, listening: Listen) -> None:
    helper.serves(listening())
    found = await examiner.read(EPOCH, none)
    assert found.samples[2].began - found.samples[0].began >= SPAN
    assert found.samples[3].began - found.queues[2].at >= GRACE


# --- connections of ours ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["v4", "v6", "v6only", "dual", "unix", "abstract"])
async def test_two_connections_are_made_where_one_waits_so_that_a_stall_is_proven(
    kind: str, examiner: Examiner, helper: Playback, diag: Logged, listening: Listen
) -> None:
    listener = listening(kind)
    helper.serves(listener)
    found = await examiner.read(EPOCH, none)
    assert [moment.queues[0].length for moment in found.queues] == [1, 2, 3]
    (proof,) = examiner.proofs
    assert (proof.form, proof.epfd, proof.listeners) == (Form.ARRIVAL, 5, (found.queues[0].queues[0].address,))
    assert examiner.unproven == ()


@pytest.mark.parametrize("probes", [0, 1, 2, 3, 9])
async def test_never_more_than_three_connections_of_ours_wait_in_one_queue(
    probes: int, examiner: Examiner, helper: Playback, diag: Logged, listening: Listen
) -> None:
    listener = listening(waiting=5 + probes)
    helper.serves(listener)
    for _ in range(6):
        await examiner.read(EPOCH, lambda _queue: probes, knock=True)
    assert lengths(diag, [listener]) == [5 + max(probes, MOST_OURS)]


async def test_listeners_that_share_an_address_share_them(
    examiner: Examiner, helper: Playback, diag: Logged, crowd: contextlib.ExitStack
) -> None:
    first = crowd.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64, reuse_port=True))
    second = crowd.enter_context(socket.create_server(first.getsockname(), backlog=64, reuse_port=True))
    for _ in range(32):
        crowd.enter_context(client(first))  # the kernel shares them out
    helper.serves(first, second)
    for _ in range(4):
        await examiner.read(EPOCH, none)
    assert sum(lengths(diag, [first, second])) == 32 + MOST_OURS


async def test_a_queue_that_was_emptied_may_have_some_of_ours_again(
    examiner: Examiner, helper: Playback, listening: Listen
) -> None:
    listener = listening()
    helper.serves(listener)
    for _ in range(3):
        await examiner.read(EPOCH, none)
    assert accept_all(listener) == 1 + MOST_OURS
    with client(listener):
        await examiner.read(EPOCH, none)  # what it was before the emptying it does not know
        assert accept_all(listener) == 1
    examiner.queues()  # the tripwire sees it empty
    with client(listener):
        await examiner.read(EPOCH, none)
        assert accept_all(listener) == 3


async def test_no_connection_is_made_where_nobody_waits(
    examiner: Examiner, helper: Playback, diag: Logged, listening: Listen
) -> None:
    idle, busy = listening(waiting=0), listening("unix")
    helper.serves(idle, busy)
    await examiner.read(EPOCH, none)
    assert lengths(diag, [idle, busy]) == [0, 3]


@pytest.mark.parametrize("kind", ["v4", "unix"])
@pytest.mark.parametrize("knock", [False, True])
async def test_no_connection_is_made_where_the_queue_is_full(
    knock: bool, kind: str, examiner: Examiner, helper: Playback, diag: Logged, listening: Listen
) -> None:
    full = listening(kind, waiting=3, backlog=2)
    helper.serves(full)
    found = await examiner.read(EPOCH, none, knock=knock)
    assert {moment.queues[0].length for moment in found.queues} == {3}
    assert found.queues[0].queues[0].full


@pytest.mark.parametrize("kind", ["v4", "v6", "mapped"])
async def test_a_reading_that_knocks_connects_where_nobody_waits_but_not_in_each_reading(
    kind: str, examiner: Examiner, helper: Playback, diag: Logged, listening: Listen, time: Shifted
) -> None:
    idle = listening(kind, waiting=0)
    helper.serves(idle)
    helper.threads = elsewhere(100)[:1]
    await examiner.read(EPOCH, none, knock=True)
    assert accept_all(idle) == 2
    await examiner.read(EPOCH, none, knock=True)
    assert accept_all(idle) == 0
    time.by += KNOCK_EVERY
    await examiner.read(EPOCH, none, knock=True)
    assert accept_all(idle) == 2


async def test_a_knock_that_proved_something_may_be_repeated(
    examiner: Examiner, helper: Playback, listening: Listen
) -> None:
    helper.serves(listening(waiting=0))
    await examiner.read(EPOCH, none, knock=True)
    assert [proof.form for proof in examiner.proofs] == [Form.ARRIVAL]
    assert examiner.may_knock()


async def test_a_listener_that_nobody_can_connect_to_is_left_alone(
    examiner: Examiner, helper: Playback, listening: Listen, tmp_path: Path
) -> None:
    listener = listening("unix")
    helper.serves(listener)
    (tmp_path / "unix.sock").unlink()
    found = await examiner.read(EPOCH, none)
    assert [moment.queues[0].length for moment in found.queues] == [1, 1, 1]


# --- whose queues -----------------------------------------------------------------------------------------------------


async def test_only_the_queues_of_the_service_are_read(examiner: Examiner, helper: Playback, listening: Listen) -> None:
    its, other = listening(), listening()
    helper.serves(its)
    found = await examiner.read(EPOCH, none)
    assert {queue.inode for moment in found.queues for queue in moment.queues} == {inode(its)} != {inode(other)}


async def test_where_no_descriptor_is_told_the_queues_are_known_by_what_the_probes_ask(
    helper: Playback, diag: Logged, time: Shifted, listening: Listen
) -> None:
    its, _other = listening(), listening()
    port = its.getsockname()[1]
    examiner = Examiner("web", (f"127.0.0.1:{port}", f"*:{port}"), helper, diag, time.clock)
    found = await examiner.read(EPOCH, none)
    assert {queue.inode for moment in found.queues for queue in moment.queues} == {inode(its)}


async def test_a_dump_that_is_fresh_enough_is_not_made_again(
    examiner: Examiner, helper: Playback, listening: Listen, time: Shifted
) -> None:
    its = listening()
    helper.serves(its)
    await examiner.learn(EPOCH)
    helper.log.clear()
    queue = Queue(inode(its), Family.TCP, "127.0.0.1:1", 7, 8)
    told = examiner.queues(Listening((queue, replace(queue, inode=1))))
    assert told == Queues(told.at, (queue,))
    assert helper.log == []
    assert abs(told.at - time.clock.now()) < 1


@pytest.mark.parametrize(
    ("address", "asked", "reached"),
    [
        ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", True),
        ("[::ffff:127.0.0.1]:80", "127.0.0.2:80", False),
        ("[::ffff:127.0.0.1]:80", "*:80", False),
        ("[::ffff:0.0.0.0]:80", "*:80", True),
        ("[::1]:80", "[::1]:80", True),
        ("[::]:80", "*:80", True),
    ],
)
def test_a_listener_of_ipv6_at_an_address_of_ipv4_is_reached_by_that(address: str, asked: str, reached: bool) -> None:
    assert Queue(1, Family.TCP, address, 0, 8).reached_by([asked]) is reached


# --- what is lacking --------------------------------------------------------------------------------------------------


async def test_what_the_helper_cannot_tell_is_told(
    helper: Playback, diag: Logged, time: Shifted, listening: Listen
) -> None:
    its = listening()
    examiner = Examiner("web", (f"127.0.0.1:{its.getsockname()[1]}",), helper, diag, time.clock)
    helper.lack_after = 0
    found = await examiner.read(EPOCH, none)
    assert found.lacks == (Lack("the service's processes", "the helper is tired"),)
    assert (found.samples, examiner.proofs) == ((), ())
    assert [queue.inode for queue in found.queues[0].queues] == [inode(its)]
    assert lengths(diag, [its]) == [1]


async def test_a_reading_that_was_cut_short_proves_nothing(
    examiner: Examiner, helper: Playback, listening: Listen
) -> None:
    helper.serves(listening())
    helper.lack_after = 3
    found = await examiner.read(EPOCH, none)
    assert (len(found.samples), examiner.proofs) == (3, ())
    assert set(found.lacks) == {Lack("the service's processes", "the helper is tired")}
    assert "too short" in examiner.unproven[0]


async def test_copies_that_could_not_be_had_are_told(examiner: Examiner, helper: Playback, listening: Listen) -> None:
    helper.serves(listening(waiting=0))
    helper.lack_after = 5
    found = await examiner.read(EPOCH, none)
    assert (len(found.samples), len(found.touched)) == (4, 1)
    assert found.lacks == (Lack("the service's processes", "the helper is tired"),)


async def test_what_a_dump_of_the_queues_lacks_is_told(
    examiner: Examiner, helper: Playback, diag: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    lack = Lack("Unix listeners", "the kernel has no unix_diag")
    monkeypatch.setattr(diag, "listeners", lambda: Listening((), (lack,)))
    assert (await examiner.read(EPOCH, none)).lacks == (lack,)


# --- copies -----------------------------------------------------------------------------------------------------------


async def test_a_copy_that_is_readable_proves_what_no_queue_shows(
    examiner: Examiner, helper: Playback, listening: Listen
) -> None:
    helper.serves(listening(waiting=0), readable=True)
    await examiner.read(EPOCH, none)
    assert [proof.form for proof in examiner.proofs] == [Form.COPY]


@pytest.mark.parametrize("trace", [elsewhere(100), asleep(state="R"), asleep(finite=True)])
async def test_copies_are_polled_only_while_a_thread_sleeps_in_epoll(
    trace: Trace, examiner: Examiner, helper: Playback
) -> None:
    helper.threads = trace[:1]
    await examiner.read(EPOCH, none)
    assert not any(helper.copied)


async def test_copies_are_not_polled_where_the_queues_prove_it(
    examiner: Examiner, helper: Playback, listening: Listen
) -> None:
    helper.serves(listening())
    await examiner.read(EPOCH, none)
    assert not any(helper.copied)


async def test_copies_are_not_polled_in_each_reading(
    examiner: Examiner, helper: Playback, listening: Listen, time: Shifted
) -> None:
    helper.serves(listening(waiting=0), readable=False)
    await examiner.read(EPOCH, none)
    await examiner.read(EPOCH, none)
    assert sum(helper.copied) == 4
    time.by += 1.0
    await examiner.read(EPOCH, none)
    assert sum(helper.copied) == 8


async def test_what_stood_in_earlier_readings_is_remembered(
    examiner: Examiner, helper: Playback, listening: Listen, time: Shifted
) -> None:
    helper.serves(listening(waiting=3, backlog=2), readable=False)
    await examiner.read(EPOCH, none)
    assert not examiner.proofs
    time.by += 1.0
    await examiner.read(EPOCH, none)
    assert [proof.form for proof in examiner.proofs] == [Form.STANDING]


# --- whether a proof holds --------------------------------------------------------------------------------------------


@pytest.fixture
async def proven(examiner: Examiner, helper: Playback, listening: Listen) -> Examiner:
    """An examiner with a proof."""
    helper.serves(listening())
    await examiner.read(EPOCH, none)
    assert examiner.proofs
    helper.log.clear()
    return examiner


async def test_where_nothing_is_proven_nothing_is_looked_at_again(examiner: Examiner, helper: Playback) -> None:
    assert await examiner.recheck(EPOCH) is None
    assert helper.log == []


async def test_a_proof_is_held_by_one_look_at_its_threads(proven: Examiner, helper: Playback) -> None:
    found = await proven.recheck(EPOCH)
    assert found is not None
    assert (len(found.samples), len(found.queues), len(proven.proofs)) == (1, 1, 1)
    assert helper.log == ["sample", "queues"]
    assert not helper.copied[-1]


@pytest.mark.parametrize("trace", [asleep(switches=51), asleep(state="R"), elsewhere(101)])
async def test_a_proof_is_dropped_once_its_thread_has_moved(trace: Trace, proven: Examiner, helper: Playback) -> None:
    helper.threads = trace[:1]
    await proven.recheck(EPOCH)
    assert proven.proofs == ()


async def test_a_proof_that_cannot_be_looked_at_again_is_dropped_and_that_is_told(
    proven: Examiner, helper: Playback
) -> None:
    helper.lack_after = 0
    found = await proven.recheck(EPOCH)
    assert proven.proofs == ()
    assert found is not None
    assert found.lacks == (Lack("the service's processes", "the helper is tired"),)


# --- the baseline, and a new epoch ------------------------------------------------------------------------------------


async def test_the_baseline_is_read_until_it_is_known_well_and_then_now_and_then(
    examiner: Examiner, helper: Playback, listening: Listen, time: Shifted
) -> None:
    helper.serves(listening(waiting=0))
    must = []
    for _ in range(LEARNT_WELL // 4):
        must.append(examiner.must_learn())
        await examiner.learn(EPOCH)
    assert must == [True] * 3
    assert not examiner.must_learn()
    time.by += LEARN_EVERY
    assert examiner.must_learn()
    assert examiner.baseline is not None
    assert examiner.baseline.waiters == {Waiter(PID, 100, 1000, 5)}
    assert not any(helper.copied)


async def test_who_learns_takes_turns(helper: Playback, diag: Logged, listening: Listen, time: Shifted) -> None:
    helper.serves(listening(waiting=0))
    learners = asyncio.Semaphore(1)
    first, second = (Examiner(name, (), helper, diag, time.clock, learners=learners) for name in ("first", "second"))
    await asyncio.gather(first.learn(EPOCH), second.learn(EPOCH))
    assert None not in (first.baseline, second.baseline)
    assert helper.services == ["first"] * 4 + ["second"] * 4


async def test_who_is_known_a_little_does_not_wait_for_its_turn(
    helper: Playback, diag: Logged, listening: Listen, time: Shifted
) -> None:
    helper.serves(listening(waiting=0))
    learners = asyncio.Semaphore(1)
    known, unknown = (Examiner(name, (), helper, diag, time.clock, learners=learners) for name in ("known", "unknown"))
    await known.learn(EPOCH)
    assert known.baseline is not None
    async with learners:
        await known.learn(EPOCH)
        await unknown.learn(EPOCH)
    assert known.baseline.samples == 4
    assert unknown.baseline is None  # its turn did not come within LEARN_WITHIN: in a later round
    await unknown.learn(EPOCH)
    assert unknown.baseline is not None


async def test_a_baseline_that_could_not_be_read_is_none(examiner: Examiner, helper: Playback) -> None:
    helper.lack_after = 0
    await examiner.learn(EPOCH)
    assert examiner.baseline is None


async def test_who_is_parked_is_known_by_the_baseline(examiner: Examiner, helper: Playback, listening: Listen) -> None:
    listener = listening(waiting=0)
    helper.serves(listener)
    await examiner.learn(EPOCH)
    helper.epolls, helper.threads = (watching(listener), nothing()), asleep(epfd=9)[:1]
    with client(listener):
        await examiner.read(EPOCH, none)
    assert [proof.form for proof in examiner.proofs] == [Form.PARKED]


async def test_a_new_epoch_forgets_all(proven: Examiner, helper: Playback, diag: Logged, listening: Listen) -> None:
    await proven.learn(EPOCH)
    proven.enter(EPOCH)
    assert proven.proofs
    proven.enter(replace(EPOCH, start_time=2000))
    assert (proven.baseline, proven.proofs, proven.unproven) == (None, (), ())
    assert proven.queues().queues == ()  # its sockets are not known yet
    assert proven.must_learn()


async def test_nor_does_a_reading_of_another_process_rest_on_what_was_known(
    proven: Examiner, helper: Playback, diag: Logged
) -> None:
    helper.threads = but(asleep(), switches=7)[:1]
    helper.serves()
    await proven.read(NOBODY, none)
    assert proven.proofs == ()


async def test_a_path_that_no_probe_asks_is_not_connected_to_for_it_may_be_another_socket_here(
    helper: Playback, diag: Logged, listening: Listen, time: Shifted
) -> None:
    its = listening("unix")
    helper.serves(its)
    await Examiner("web", (), helper, diag, time.clock).read(EPOCH, none, knock=True)
    assert lengths(diag, [its]) == [1]


async def test_a_proof_that_holds_is_kept_when_no_more_of_us_may_connect(
    examiner: Examiner, helper: Playback, listening: Listen
) -> None:
    helper.serves(listening())
    await examiner.read(EPOCH, none)
    first = examiner.proofs
    await examiner.read(EPOCH, none)
    assert [proof.form for proof in first] == [Form.ARRIVAL]
    assert examiner.proofs == first


async def test_at_rest_earlier_readings_are_forgotten(examiner: Examiner, helper: Playback, listening: Listen) -> None:
    helper.serves(listening(waiting=0))
    await examiner.read(EPOCH, none)
    examiner.rest()
    assert not examiner._earlier
