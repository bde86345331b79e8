"""The exec probe with real commands: those that behave, and those that misbehave in one way each."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.probes.asking import ask, until
from tests.servers import runs
from tests.spared import spared
from watchdog import probes, target
from watchdog.model import Epoch, Kind, Observation, Plane, Strength
from watchdog.probes import command
from watchdog.target.process import children

SERVICE = Epoch(4242, 1)


async def run(*argv: str, within_s: float = 5.0, service: Epoch | None = SERVICE) -> Observation:
    return await ask("exec", command.Settings(command=argv), within_s, service)


async def shell(script: str, *arguments: str, within_s: float = 5.0) -> Observation:
    return await run("/bin/sh", "-c", script, "sh", *arguments, within_s=within_s)


# --- what it says -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [(0, Kind.ALIVE), (1, Kind.ALIVE), (2, Kind.SILENT), (3, Kind.ERROR), (4, Kind.ERROR), (126, Kind.ERROR)],
)
async def test_exit_codes_are_those_of_nagios(code: int, kind: Kind) -> None:
    found = await shell(f"exit {code}")
    assert found.kind is kind
    assert found.reason.startswith(f"exit code {code}")


async def test_the_last_line_of_output_is_told() -> None:
    found = await shell("echo first; echo; echo 'the disk is full' >&2; echo; exit 2")
    assert found.reason == 'exit code 2 ("the disk is full")'


async def test_a_long_line_is_cut_and_a_terminal_obeys_none() -> None:
    found = await shell("printf '\\033[2J\\377%s' $(seq 1 500); exit 2")
    assert found.reason.isprintable()
    assert "\\x1b[2J\\xff1" in found.reason
    assert len(found.reason) <= 120 + len('exit code 2 ("")')


async def test_a_command_that_a_signal_killed_is_our_own_error() -> None:
    found = await shell("echo oops; kill -SEGV $$")
    assert (found.kind, found.reason) == (Kind.ERROR, 'the command was killed: Segmentation fault ("oops")')


async def test_a_program_that_is_not_there_is_our_own_error() -> None:
    found = await run("/nowhere/check")
    assert found.kind is Kind.ERROR
    assert '("/nowhere/check: No such file or directory")' in found.reason


async def test_a_file_that_is_no_program_is_our_own_error(tmp_path: Path) -> None:
    path = tmp_path / "check"
    path.write_text("#!/bin/sh\n")
    found = await run(str(path))
    assert found.kind is Kind.ERROR
    assert "Permission denied" in found.reason


async def test_a_flood_of_output_is_our_own_error_and_is_ended() -> None:
    found = await run("/usr/bin/yes")
    assert (found.kind, found.reason) == (Kind.ERROR, 'the command wrote more than 1 MiB ("y")')
    assert found.latency < 2


async def test_a_command_that_closes_its_output_and_goes_on_is_waited_for() -> None:
    found = await shell("exec >&- 2>&-; sleep 0.1; exit 1")
    assert found.kind is Kind.ALIVE
    assert found.latency >= 0.1


# --- what it is given -------------------------------------------------------------------------------------------------


async def test_the_main_pid_stands_in_its_arguments_and_in_its_environment() -> None:
    found = await shell('echo "$1 $EPOLL_WATCHDOG_PID"; exit 2', "pid={pid}")
    assert found.reason == 'exit code 2 ("pid=4242 4242")'


async def test_a_service_without_a_process_is_our_own_error_where_the_pid_is_needed() -> None:
    found = await run("/bin/echo", "{pid}", service=None)
    assert (found.kind, found.reason) == (Kind.ERROR, "the command has {pid}, and the service has no process")


async def test_nothing_of_our_environment_is_handed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNMP_COMMUNITY", "secret")
    found = await shell("env | grep -cvE '^(PATH|LANG|PWD|SHLVL|OLDPWD|_|EPOLL_WATCHDOG_PID)='; exit 2")
    assert found.reason == 'exit code 2 ("0")'


async def test_it_has_no_input_and_no_descriptor_of_ours() -> None:
    inheritable = os.dup(0)
    os.set_inheritable(inheritable, True)
    listing = "import os, sys; print(sys.stdin.read(), *sorted(os.listdir('/proc/self/fd'))); sys.exit(2)"
    found = await run("/usr/bin/python3", "-I", "-S", "-c", listing)
    os.close(inheritable)
    assert found.reason == 'exit code 2 ("0 1 2 3")'  # 3 is the listing's own


@pytest.mark.parametrize("kind", ["SigBlk", "SigIgn"])
async def test_signals_are_as_a_shell_would_leave_them(kind: str) -> None:
    found = await run("/bin/grep", f"^{kind}:", "/proc/self/status")
    signals = int(re.findall(r"[0-9a-f]{16}", found.reason)[0], 16)
    # 32 and 33 are the C library's own: its posix_spawn() leaves them ignored, as make's children have them.
    assert signals & ~(1 << 31 | 1 << 32) == 0


RUN = """
import asyncio
from watchdog.probes import command
from watchdog.probes.deadline import Deadline

async def main():
    deadline = Deadline(asyncio.get_running_loop().time() + 10)
    argv = ("/bin/sh", "-c", "read score </proc/self/oom_score_adj; echo $score; exit 2")
    print((await command.probe(command.Settings(command=argv), None, deadline)).reason)

asyncio.run(main())
"""


@pytest.mark.parametrize(("ours", "its"), [(-900, 0), (0, 0), (200, 200)])
def test_where_memory_runs_out_it_is_not_spared_as_the_daemon_is(ours: int, its: int) -> None:
    assert spared(ours, RUN) == f'exit code 2 ("{its}")\n'


# --- how it ends ------------------------------------------------------------------------------------------------------


def running(*pids: int) -> list[int]:
    """Those of them that run still."""
    return [pid for pid in pids if runs(pid)]


def pids_in(path: Path, count: int) -> Callable[[], list[int]]:
    """The PIDs that a command wrote to a file; none before there are so many."""

    def read() -> list[int]:
        pids = [int(pid) for pid in path.read_text().split()] if path.exists() else []
        return pids if len(pids) >= count else []

    return read


async def test_a_command_that_hangs_is_silent_at_the_deadline_and_is_ended(tmp_path: Path) -> None:
    pids = pids_in(tmp_path / "pids", 1)
    found = await shell(
        "trap '' TERM INT HUP; echo $$ >>$1; while :; do sleep 1; done", str(tmp_path / "pids"), within_s=1
    )
    assert found.kind is Kind.SILENT
    assert found.reason.startswith("the command runs on, no answer in ")
    assert pids()
    await until(lambda: not running(*pids()))


FAMILY = """
( trap '' TERM; echo $BASHPID; exec sleep 1000 ) &
setsid sh -c 'echo $$; exec sleep 1000' &
setsid sh -c '( sh -c "echo \\$\\$; exec sleep 1000" ) & exit' &
( ( sh -c 'echo $$; exec setsid sleep 1000' & ) & )
"""


async def test_children_that_left_its_session_and_lost_their_parents_end_with_it(tmp_path: Path) -> None:
    pids = pids_in(tmp_path / "pids", 4)
    script = f"exec >>{tmp_path}/pids\n{FAMILY}\nwhile :; do sleep 1; done"
    asked = asyncio.ensure_future(run("/bin/bash", "-c", script, within_s=20))
    await until(pids)
    before = running(*pids())
    asked.cancel()
    await until(lambda: not running(*pids()))
    assert len(before) == 4


async def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    pids = pids_in(tmp_path / "pids", 4)
    script = f"exec >>{tmp_path}/pids\n{FAMILY}\nuntil [ $(wc -l <{tmp_path}/pids) -ge 4 ]; do sleep 0.01; done"
    found = await run("/bin/bash", "-c", script)
    await until(lambda: not running(*pids()))
    assert found.kind is Kind.ALIVE


def keepers() -> list[int]:
    """The children of this process that keep a command, zombies included.

    Theirs do not count: until it is the command, the child of a keeper has the keeper's command line.
    """
    return [pid for pid in children(os.getpid()) if b"keeper.py" in command_line(pid)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() or b"keeper.py"  # of a zombie nothing is known
    except OSError:
        return b""


async def test_no_zombie_stays() -> None:
    before = target.descendants(os.getpid())
    await shell("exit 0")
    await run("/usr/bin/yes")
    await shell("sleep 100", within_s=0.1)
    await until(lambda: set(target.descendants(os.getpid())) <= set(before))


@contextmanager
def watchdog(script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that asks."""
    with subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2]) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_command_ends_with_the_watchdog(tmp_path: Path) -> None:
    pids = pids_in(tmp_path / "pids", 1)
    script = f"""
import asyncio
from watchdog.probes import command
from watchdog.probes.deadline import Deadline

async def main():
    deadline = Deadline(asyncio.get_running_loop().time() + 100)
    argv = ("/bin/sh", "-c", "echo $$ >>{tmp_path}/pids; setsid sleep 1000 & wait")
    await command.probe(command.Settings(command=argv), None, deadline)

asyncio.run(main())
"""
    with watchdog(script) as asking:
        await until(pids)
        family = [*pids(), *target.descendants(pids()[0])]
        asking.kill()
        await until(lambda: not running(*family))


async def test_while_a_run_can_not_be_ended_no_other_is_begun() -> None:
    settings = command.Settings(command=("/bin/sleep", "1000"))
    await until(lambda: not keepers())  # those of other tests are ending
    asked = asyncio.ensure_future(ask("exec", settings, 0.5, SERVICE))
    await until(keepers)
    (keeper,) = keepers()
    os.kill(keeper, signal.SIGSTOP)
    await asked
    second = await ask("exec", settings, 0.2, SERVICE)
    began = keepers()
    os.kill(keeper, signal.SIGCONT)
    third = await ask("exec", settings, 1, SERVICE)
    assert second.kind is Kind.ERROR
    assert second.reason.startswith("the run before this one could not be ended in ")
    assert began == [keeper]
    assert third.kind is Kind.SILENT


async def test_services_with_the_same_command_do_not_wait_for_each_other() -> None:
    settings = command.Settings(command=("/bin/sleep", "0.5"))
    began = time.monotonic()
    found = await asyncio.gather(*(ask("exec", settings, 5, Epoch(pid, 1)) for pid in range(1, 5)))
    assert [each.kind for each in found] == [Kind.ALIVE] * 4
    assert time.monotonic() - began < 2


async def test_the_loop_goes_on_while_a_command_runs() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    await shell("sleep 1000", within_s=0.5)
    ticking.cancel()
    assert ticks > 5


async def test_release_waits_for_runs_that_are_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "CLOSING", 5.0)  # a busy host takes longer
    await shell("sleep 1000", within_s=0.1)
    await probes.close()
    assert keepers() == []


# --- settings ---------------------------------------------------------------------------------------------------------


@given(output=st.binary(max_size=300))
def test_whatever_a_command_writes_is_told_in_one_short_printable_line(output: bytes) -> None:
    line = command.last_line(output)
    assert line.isprintable()
    assert len(line) <= 120


def test_a_witness_is_as_strong_as_the_settings_say() -> None:
    plain = command.road(command.Settings(command=("/x",)))
    inside = command.road(command.Settings(command=("/x",), strength=Strength.INSIDE))
    assert (plain.plane, plain.strength, inside.strength) == (Plane.WITNESS, Strength.PROCESS, Strength.INSIDE)


@pytest.mark.parametrize(
    ("argv", "message"),
    [((), "is empty"), (("check",), "no absolute path"), (("/check", "a\0b"), "NUL")],
)
def test_settings_are_refused_with_what_would_be_right(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        command.Settings(command=argv)
