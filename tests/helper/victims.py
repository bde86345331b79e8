"""The victims of the nudge's tests: a C program (victim.c), built once, started as often as it is needed."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from watchdog.model import Epoch
from watchdog.target import start_time

SOURCE = Path(__file__).with_name("victim.c")


@dataclass(frozen=True, slots=True)
class Counts:
    """What the victim has seen: returns of EINTR, values that came by signal, and those that came again."""

    eintrs: int
    signals: int
    repeated: int


@dataclass(slots=True)
class Victim:
    """A running victim."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """Of its process."""
        return self.process.pid

    @property
    def epoch(self) -> Epoch:
        """This life of it."""
        return Epoch(self.pid, start_time(self.pid))

    def counts(self) -> Counts:
        """Ask it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return Counts(*map(int, self.process.stdout.readline().split()))

    def tasks(self) -> list[Path]:
        """Its threads in /proc."""
        return list(Path(f"/proc/{self.pid}/task").iterdir())

    def states(self) -> set[str]:
        """The states of its threads."""
        return {state_of(task) for task in self.tasks()}

    def traced(self) -> bool:
        """Whether any of its threads has a tracer."""
        return any("TracerPid:\t0\n" not in (task / "status").read_text() for task in self.tasks())


def state_of(task: Path) -> str:
    """The state of a process or thread in /proc."""
    return (task / "stat").read_text().rpartition(") ")[2][0]


def until(true: Callable[[], object], what: str, within_s: float = 10.0) -> None:
    """Wait for a state that nothing tells of."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.002)


def time_out_once_stopped(pid: int) -> Callable[[subprocess.Popen[bytes], float], bool]:
    """Stands in for the wait of `command.Child`: the command's time is up as soon as it has stopped this process."""

    def wait(command: subprocess.Popen[bytes], _timeout: float) -> bool:
        until(lambda: state_of(Path(f"/proc/{pid}")) in "Tt" or command.poll() is not None, "stopped", 60.0)
        return command.returncode is not None

    return wait


def build(directory: Path) -> Path:
    """The victim's program."""
    program = directory / "victim"
    subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-pthread", "-o", program, SOURCE], check=True)
    return program


@contextlib.contextmanager
def running(program: Path, *arguments: str) -> Iterator[Victim]:
    """A victim, all its threads in the calls they were made for. It is killed at the end, whatever happens."""
    process = subprocess.Popen([program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            assert process.stdout.readline() == "ready\n"
            victim = Victim(process)
            until(lambda: not victim.states() & {"R"}, "all threads of the victim asleep")
            yield victim
        finally:
            process.kill()
            process.wait()
