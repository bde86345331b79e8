"""The brain's end of the helper, with the real helper and the real config, and with helpers that misbehave."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.evidence.watcher import watcher
from tests.helper.victims import Victim, build, running, until
from watchdog import hands as hands_module
from watchdog.evidence.procfs import sample
from watchdog.hands import Hands
from watchdog.messages import MESSAGES, Event
from watchdog.model import Action, Epoch, Outcome, Performed, Rung
from watchdog.reading import Lack, Sample, Watch

SERVICE = """
[service.{name}]
pidfile = "{pidfile}"
restart_command = ["{restart}"]
budget.nudge = {{ burst = 1000, interval = "1h" }}
[service.{name}.probe.tcp]
type = "tcp"
address = "127.0.0.1:9"
send = "x"
expect = "x"
"""
SPAWN = Callable[..., Awaitable[Hands]]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The victim."""
    return build(tmp_path_factory.mktemp("victim"))


@pytest_asyncio.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[SPAWN]:
    """`await spawn(a=PID, b=PID)`: hands over a helper whose config names these services."""
    made: list[Hands] = []

    async def make(command: tuple[str, ...] | None = None, restart: str = "/bin/true", **pids: int) -> Hands:
        text = ""
        for name, pid in pids.items():
            (tmp_path / f"{name}.pid").write_text(str(pid))
            text += SERVICE.format(name=name, pidfile=tmp_path / f"{name}.pid", restart=restart)
        (tmp_path / "config.toml").write_text(text)
        where = (tmp_path / "config.toml", tmp_path / "ledger.json")
        made.append(await (Hands.spawn(*where, command) if command else Hands.spawn(*where)))
        return made[-1]

    yield make
    for hands in made:
        await hands.close()


def action(victim: Victim | None, rung: Rung = Rung.NUDGE) -> Action:
    """A remedy for that process."""
    return Action(rung, "incident", victim.epoch if victim else None, 0.0)


def misbehaving(code: str) -> tuple[str, ...]:
    """A helper of another kind: `code` finds its socket in `peer` and what was asked in `asked`."""
    given = "import os, socket, sys, time; peer = socket.socket(fileno=int(sys.argv[sys.argv.index('--fd') + 1]))"
    return (sys.executable, "-c", f"{given}\nwhile asked := peer.recv(4096):\n {code}")


# --- with the real helper ---------------------------------------------------------------------------------------------


async def test_a_nudge_is_performed_and_told(spawn: SPAWN, program: Path) -> None:
    with running(program, "wait:2") as victim:
        hands = await spawn(a=victim.pid)
        performed = await hands.perform("a", action(victim))
        until(lambda: victim.counts().eintrs == 2, "each thread returned")
    assert (performed.rung, performed.outcome, performed.detail["nudged"]) == (Rung.NUDGE, Outcome.DONE, 2)


async def test_a_restart_is_performed_and_told(spawn: SPAWN, program: Path) -> None:
    with running(program, "wait:1") as victim:
        hands = await spawn(a=victim.pid)
        performed = await hands.perform("a", action(victim, Rung.RESTART))
        failing = await spawn(a=victim.pid, restart="/bin/false")
        failed = await failing.perform("a", action(victim, Rung.RESTART))
    assert (performed.rung, performed.outcome) == (Rung.RESTART, Outcome.DONE)
    assert failed.outcome is Outcome.FAILED


async def test_a_helper_that_is_ready_answers_at_once(
    spawn: SPAWN, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(program, "wait:1") as victim, monkeypatch.context() as impatient:
        hands = await spawn(a=victim.pid, b=victim.pid)
        impatient.setattr(hands_module, "PATIENCE", {"examine": 0.01})
        assert isinstance(await hands.examine("b", victim.epoch), Lack)  # it still reads the config
        await hands.ready()
        impatient.undo()
        assert isinstance(await hands.examine("a", victim.epoch), Sample)


async def test_an_alert_is_nothing_that_the_helper_does(spawn: SPAWN) -> None:
    hands = await spawn()
    assert (await hands.perform("a", action(None, Rung.ALERT))).outcome is Outcome.REFUSED


async def test_several_services_are_nudged_at_once(spawn: SPAWN, program: Path) -> None:
    with running(program, "wait:1") as one, running(program, "wait:2") as two, running(program, "wait:3") as three:
        hands = await spawn(one=one.pid, two=two.pid, three=three.pid)
        victims = {"one": one, "two": two, "three": three}
        performed = await asyncio.gather(*(hands.perform(name, action(of)) for name, of in victims.items()))
    assert [each.detail["nudged"] for each in performed] == [1, 2, 3]


async def test_the_process_of_a_service_is_found(spawn: SPAWN, program: Path, tmp_path: Path) -> None:
    with running(program, "wait:1") as victim:
        hands = await spawn(a=victim.pid)
        assert await hands.find("a") == victim.epoch
    assert await hands.find("a") is None
    (tmp_path / "a.pid").write_text("1")
    reason = "process 1 is never touched; the watchdog does not touch PID 1, itself, the bus, or systemd's own daemons"
    assert await hands.find("a") == Lack(hands_module.PROCESSES, reason)
    assert await hands.find("b") == Lack(hands_module.PROCESSES, "the config names no service 'b'")


async def test_a_process_that_makes_no_sense_is_not_believed(spawn: SPAWN) -> None:
    reply = '{"id": 1, "outcome": "done", "reason": "", "detail": {"pid": "one"}}'
    hands = await spawn(misbehaving(f"peer.sendall({(reply + chr(10)).encode()!r})"))
    found = await hands.find("a")
    assert isinstance(found, Lack)
    assert found.reason.startswith("the helper talks nonsense: ")


async def test_an_examination_is_a_sample(spawn: SPAWN, program: Path) -> None:
    with running(program, "wait:2", "timed:1") as victim:
        hands = await spawn(a=victim.pid)
        await hands.ready()  # its start and the reading of the config may take longer than evidence is waited for
        read = await hands.examine("a", victim.epoch)
        touched = await hands.examine("a", victim.epoch, copy=True)
        ours = sample([victim.epoch])
    assert isinstance(read, Sample)
    assert isinstance(touched, Sample)
    assert [len(read.lacks), len(touched.lacks)] == [0, 0]
    assert [(thread.tid, thread.call, thread.epfd, thread.finite, thread.switches) for thread in read.threads] == [
        (thread.tid, thread.call, thread.epfd, thread.finite, thread.switches) for thread in ours.threads
    ]
    assert (read.processes, read.epolls, read.sockets) == (ours.processes, ours.epolls, ours.sockets)
    assert ours.began - 10 < read.began < read.ended < touched.began < ours.began
    assert [epoll.readable for epoll in touched.epolls] == [False] * 3


async def test_what_an_epoll_watches_comes_whole(spawn: SPAWN) -> None:
    with watcher() as watching:
        hands = await spawn(a=watching.epoch.pid)
        await hands.ready()
        read = await hands.examine("a", watching.epoch)
        ours = sample([watching.epoch])
    assert isinstance(read, Sample)
    assert read.epolls == ours.epolls
    assert {type(watch) for epoll in read.epolls for watch in epoll.watches} == {Watch}


async def test_services_are_examined_at_once_and_beside_a_remedy(spawn: SPAWN, program: Path) -> None:
    with running(program, "wait:1") as one, running(program, "wait:2") as two:
        hands = await spawn(one=one.pid, two=two.pid)
        await hands.ready()
        nudging = asyncio.create_task(hands.perform("one", action(one)))
        reads = await asyncio.gather(hands.examine("one", one.epoch), hands.examine("two", two.epoch))
        assert (await nudging).outcome is Outcome.DONE
    assert [len(read.threads) for read in reads if isinstance(read, Sample)] == [2, 3]


async def test_more_requests_than_the_kernel_holds_are_all_answered(spawn: SPAWN, program: Path) -> None:
    with running(program, "wait:1") as victim:
        hands = await spawn(a=victim.pid)
        await hands.ready()
        assert hands.pid is not None
        os.kill(hands.pid, signal.SIGSTOP)  # so that it surely reads nothing meanwhile
        asking = [asyncio.create_task(hands.hello()) for _ in range(1500)]
        await asyncio.sleep(0)  # each has sent
        os.kill(hands.pid, signal.SIGCONT)
        outcomes = {(reply.outcome, reply.reason) for reply in await asyncio.gather(*asking)}
    assert {outcome for outcome, _ in outcomes} <= {Outcome.DONE, Outcome.REFUSED}, outcomes  # "one is under way"


async def test_a_helper_that_reads_nothing_is_parted_with(spawn: SPAWN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands_module, "MOST_UNSENT", 10_000)
    hands = await spawn(misbehaving("time.sleep(60)"))
    replies = await asyncio.gather(*(hands.hello() for _ in range(1500)))
    assert "does not read its requests" in replies[0].reason


async def test_what_can_t_be_examined_is_told(spawn: SPAWN, program: Path) -> None:
    with running(program, "wait:1") as victim:
        hands = await spawn(a=victim.pid)
        await hands.ready()
        unknown = await hands.examine("b", victim.epoch)
        other_life = await hands.examine("a", Epoch(victim.pid, 1))
    assert unknown == Lack("the service's processes", "the config names no service 'b'")
    assert isinstance(other_life, Lack)
    assert "is another process' by now" in other_life.reason


async def test_an_examination_of_100_threads_and_1000_descriptors_costs_less_than_50_ms(
    spawn: SPAWN, program: Path
) -> None:
    """CPU time of the helper and its workers: the host's other work does not count."""
    times = 20
    with running(program, "wait:50", "open:900", "read:49") as victim:
        hands = await spawn(a=victim.pid)
        await hands.ready()
        first = await hands.examine("a", victim.epoch)
        before = cpu_seconds(hands.pid)
        reads = [await hands.examine("a", victim.epoch, copy=True) for _ in range(times)]
        spent = cpu_seconds(hands.pid) - before
    assert isinstance(first, Sample)
    assert len(first.threads) == 100
    assert (first.processes[0].fds or 0) > 1000
    assert {type(read) for read in reads} == {Sample}
    assert spent / times < 0.05


def cpu_seconds(pid: int | None) -> float:
    """Of a process and its children that have ended (proc_pid_stat(5), fields 14 to 17)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


async def test_hello_tells_the_helper_s_rights(spawn: SPAWN) -> None:
    hands = await spawn()
    assert (await hands.hello()).detail["cap_sys_ptrace"] is True


async def test_a_helper_that_was_killed_at_its_work_is_replaced_at_once(spawn: SPAWN, program: Path) -> None:
    with running(program, "wait:1") as victim:
        hands = await spawn(a=victim.pid)
        await hands.hello()
        first = hands.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(lambda: ") Z " in Path(f"/proc/{first}/stat").read_text(), "killed")
        outcomes = {(await hands.perform("a", action(victim))).outcome for _ in range(2)}
        assert outcomes == {Outcome.DONE}
        assert hands.pid != first


async def test_a_helper_killed_at_any_moment_leaves_every_thread_running(
    spawn: SPAWN, program: Path, tmp_path: Path
) -> None:
    dice = random.Random(3)
    with running(program, "wait:200") as victim:
        hands = await spawn(a=victim.pid)
        killings = [await kill_midway(hands, victim, tmp_path, dice.uniform(0.0, 0.015)) for _ in range(10)]
        until(lambda: victim.states() == {"S"}, f"all threads run, but {victim.states()}")
        assert not victim.traced()
        assert killings.count(Outcome.FAILED) >= 3
        assert (await hands.perform("a", action(victim))).detail["nudged"] == 200


async def kill_midway(hands: Hands, victim: Victim, directory: Path, after_s: float) -> Outcome:
    """Kill the helper soon after it has written its ledger, which is when it begins to nudge."""
    await hands.hello()
    asking = asyncio.create_task(hands.perform("a", action(victim)))
    ledger = directory / "ledger.json"
    before = ledger.read_text() if ledger.exists() else ""
    await come_true(lambda: ledger.exists() and ledger.read_text() != before)
    await asyncio.sleep(after_s)
    os.kill(hands.pid or 0, signal.SIGKILL)
    return (await asking).outcome


async def come_true(true: Callable[[], object]) -> None:
    """Wait for a state that nothing tells of, and let the loop run meanwhile."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def test_close_ends_the_helper(spawn: SPAWN) -> None:
    hands = await spawn()
    pid = hands.pid
    assert (await hands.hello()).outcome is Outcome.DONE
    began = time.monotonic()
    await hands.close()
    assert time.monotonic() - began < 1
    assert not Path(f"/proc/{pid}").exists()
    assert (await hands.perform("a", action(None))).outcome is Outcome.FAILED
    await hands.close()


async def test_a_helper_at_rest_takes_no_more_than_16_mib(tmp_path: Path, spawn: SPAWN, program: Path) -> None:
    """The bar of ten services. An earlier one has compiled the modules by then, as an installation does."""
    with running(program, "wait:1") as victim:
        await (await spawn(s0=victim.pid)).hello()
        hands = await spawn(**{f"s{number}": victim.pid for number in range(10)})
        performed = [await hands.perform(f"s{number}", action(victim)) for number in range(10)]
        reads = [await hands.examine(f"s{number}", victim.epoch, copy=True) for number in range(10)]
        # One that comes at the heels of another may find the thread awake.
        told = [each.reason for each in performed if each.outcome is not Outcome.DONE]
        assert len(told) < len(performed)
        assert all("there is nothing to nudge" in reason for reason in told)
        assert {type(read) for read in reads} == {Sample}
        lines = Path(f"/proc/{hands.pid}/status").read_text().splitlines()
    assert next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) <= 16 * 1024


# --- with helpers that misbehave --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("peer.send(b'nonsense\\n')", "the helper talks nonsense: the line is no JSON"),
        ("peer.send(b'{}\\n')", "the helper talks nonsense: no reply"),
        ("peer.send(b'x' * 1_200_000 + b'\\n')", "the helper talks nonsense: the line is longer"),
        ("os._exit(3)", "the helper ended (status 3)"),
        ("os.kill(os.getpid(), 11)", "the helper ended (signal 11)"),
    ],
)
async def test_a_helper_that_misbehaves_is_an_outcome(spawn: SPAWN, code: str, reason: str) -> None:
    hands = await spawn(misbehaving(code))
    performed = await hands.perform("a", action(None))
    assert (performed.rung, performed.outcome) == (Rung.NUDGE, Outcome.FAILED)
    assert performed.reason.startswith(reason)
    assert performed.reason.endswith("whether it was done is not known")


@pytest.mark.parametrize(
    ("detail", "reason"),
    [
        ("{}", "the helper talks nonsense: Object missing required field `began`"),
        ('{"began": "x", "ended": 0}', "the helper talks nonsense: Expected `float`, got `str` - at `$.began`"),
        ('{"began": 0, "ended": 0, "threads": [{}]}', "the helper talks nonsense: Object missing required field `pid`"),
        (
            '{"began": 0, "ended": 0, "epolls": [{"pid": 1, "fd": 2, "watches": [[1, 2]]}]}',
            "the helper talks nonsense: Expected `array` of length 3",
        ),
        ('{"omitted_bytes": 2000000}', "the helper talks nonsense: Object missing required field `began`"),
    ],
)
async def test_a_sample_that_is_none_is_told(spawn: SPAWN, detail: str, reason: str) -> None:
    code = f"""import json; number = json.loads(asked)["id"]
 peer.send(b'{{"id": %d, "outcome": "done", "reason": "", "detail": {detail}}}\\n' % number)"""
    hands = await spawn(misbehaving(code))
    read = await hands.examine("a", Epoch(1, 1))
    assert isinstance(read, Lack)
    assert read.reason.startswith(reason)


async def test_a_helper_that_ends_in_the_middle_of_an_examination_is_told(spawn: SPAWN) -> None:
    hands = await spawn(misbehaving("os._exit(3)"))
    read = await hands.examine("a", Epoch(1, 1))
    assert read == Lack("the service's processes", "the helper ended (status 3); whether it was done is not known")


async def test_a_helper_that_never_answers_is_timed_out_and_killed(
    spawn: SPAWN, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands_module, "PATIENCE", {"nudge": 0.2})
    hands = await spawn(misbehaving("pass"))
    pid = hands.pid
    performed = await hands.perform("a", action(None))
    assert (performed.outcome, performed.reason) == (Outcome.TIMED_OUT, "the helper did not answer within 0.2 s")
    assert not Path(f"/proc/{pid}").exists()


async def test_an_answer_to_somebody_else_s_question_is_not_taken(spawn: SPAWN) -> None:
    code = """import json; number = json.loads(asked)["id"]
 for id in (number + 1000, number):
  peer.send(json.dumps({"id": id, "outcome": "done", "reason": str(id == number), "detail": {}}).encode() + b"\\n")"""
    hands = await spawn(misbehaving(code))
    assert await hands.perform("a", action(None)) == Performed(Rung.NUDGE, Outcome.DONE, "True")


async def test_a_helper_that_can_t_be_started_is_an_outcome(spawn: SPAWN) -> None:
    hands = await spawn(("/nonexistent/helper",))
    performed = await hands.perform("a", action(None))
    assert performed.outcome is Outcome.FAILED
    assert "there is no helper: it can't be started" in performed.reason


@dataclass
class StillClock:
    """The time of day, as the hands read it."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StillClock:
    """Time that stands still until the test lets it pass."""
    made = StillClock()
    monkeypatch.setattr(hands_module, "time", made)
    return made


async def again_in(hands: Hands, clock: StillClock) -> float:
    """The pause after a helper that has just ended: a request within it starts none, the first after it does."""
    refused = await hands.perform("a", action(None))
    assert refused.reason.startswith("there is no helper: ")
    pause = float(refused.reason.rpartition("it is started again in ")[2].removesuffix(" s"))
    clock.now += pause - 0.001
    assert (await hands.perform("a", action(None))).reason.endswith("; it is started again in 1 s")
    clock.now += 0.001
    assert (await hands.perform("a", action(None))).reason.endswith("whether it was done is not known")
    return pause


async def test_a_helper_that_dies_at_once_is_started_again_after_longer_and_longer_pauses(
    spawn: SPAWN, tmp_path: Path, clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    hands = await spawn(("sh", "-c", f"echo started >>{tmp_path}/starts; exit 3"))
    assert "(status 3)" in (await hands.perform("a", action(None))).reason
    pauses = [await again_in(hands, clock) for _ in range(7)]
    assert pauses == [2, 4, 8, 16, 32, 60, 60]
    assert (tmp_path / "starts").read_text().count("started") == 8
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the helper ended (status 3); it is started again in 2 s" in caplog.text


@pytest.mark.parametrize(
    ("code", "lifetime", "pause"),
    [
        ("os._exit(3)", 1.9, 2.0),
        ("os._exit(3)", 2.0, 0.0),
        ("peer.send(b'nonsense\\n')", 0.0, 2.0),  # one that must be killed at once is no better
    ],
)
async def test_one_that_has_lived_is_replaced_at_once(
    spawn: SPAWN, clock: StillClock, code: str, lifetime: float, pause: float
) -> None:
    hands = await spawn(misbehaving(code))
    clock.now += lifetime
    await hands.perform("a", action(None))
    then = await hands.perform("a", action(None))
    assert ("it is started again in 2 s" in then.reason) == bool(pause)


async def test_a_helper_that_has_lived_ends_the_streak(
    spawn: SPAWN, clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    hands = await spawn(misbehaving("os._exit(3)"))
    await hands.perform("a", action(None))
    pauses = [await again_in(hands, clock)]
    clock.now += 4
    hands._open()
    clock.now += 2
    await hands.perform("a", action(None))  # this one had lived; the next has not
    await hands.perform("a", action(None))
    pauses.append(await again_in(hands, clock))
    assert pauses == [2, 2]
    assert len(caplog.records) == 2


async def test_that_the_helper_is_lost_and_that_it_is_back_are_told_once_each(
    spawn: SPAWN, tmp_path: Path, clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    code = f"""import json; os.path.exists({str(tmp_path / "sound")!r}) or os._exit(3)
 reply = {{"id": json.loads(asked)["id"], "outcome": "done", "reason": "", "detail": {{}}}}
 peer.send(json.dumps(reply).encode() + b"\\n")"""
    hands = await spawn(misbehaving(code))
    await hands.hello()
    (tmp_path / "sound").touch()
    clock.now += 2.0
    told = []
    for _ in range(3):  # as it is started again, young; when it has lived; and later
        await hands.hello()
        told.append([vars(record)["MESSAGE_ID"] for record in caplog.records])
        clock.now += 2.0
    lost, back = MESSAGES[Event.HELPER_LOST], MESSAGES[Event.HELPER_BACK]
    assert told == [[lost], [lost, back], [lost, back]]


async def test_a_guard_that_is_cancelled_leaves_the_connection_usable(spawn: SPAWN, program: Path) -> None:
    with running(program, "wait:1") as victim:
        hands = await spawn(a=victim.pid)
        asking = asyncio.create_task(hands.perform("a", action(victim)))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await hands.hello()).outcome is Outcome.DONE


async def test_the_helper_s_end_is_not_a_shell_s_or_a_terminal_s(spawn: SPAWN) -> None:
    """Ctrl-C in a terminal goes to the daemon's group alone."""
    hands = await spawn()
    assert os.getsid(hands.pid or 0) == hands.pid
    assert os.getsid(0) != hands.pid


def test_the_helper_says_how_it_is_called() -> None:
    done = subprocess.run([sys.executable, "-m", "watchdog.helper"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--ledger" in done.stderr
