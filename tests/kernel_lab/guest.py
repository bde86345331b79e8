"""The first process of the boot test's kernel: victims that wait in epoll, and what the hook does to them.

It runs as PID 1 on this host's root, read-only; its first argument is the repository, its second a directory of this
host, where it leaves what it saw: a `Seen` a victim, as JSON.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from watchdog.demo.loop import epoll_wait

HOOK = Path("/sys/module/eventpoll/parameters")
POWER_OFF = 0x4321FEDC  # LINUX_REBOOT_CMD_POWER_OFF
LOST = "victim"  # the name whose wake-ups are lost
DARK = 2.0  # s without an answer
PROMPT = 10.0  # s within which an answer comes that was not lost


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one event. The call and where it sleeps are those of the thread after the event, unanswered."""

    answered: bool
    lost: int
    left: int
    call: str = ""
    wchan: str = ""
    answered_after_nudge: bool = False
    nudge: str = ""


@dataclass(frozen=True, slots=True)
class Victim:
    """A process that waits in epoll for a byte on a pipe, and tells what it read."""

    pid: int
    events: int
    answers: int

    def of(self, file: str) -> str:
        """What /proc tells of it."""
        return Path(f"/proc/{self.pid}/{file}").read_text().strip()

    def waits(self) -> bool:
        """Whether it sleeps in epoll_wait."""
        return self.of("syscall").startswith("232 ")

    def answered(self, within: float) -> bool:
        """Whether it told of its byte."""
        ready, _, _ = select.select([self.answers], [], [], within)
        return bool(ready) and os.read(self.answers, 16) == b"!"


@contextlib.contextmanager
def victim(name: str, timeout: float | None) -> Iterator[Victim]:
    """One that waits, with this thread's name and this time-out (s)."""
    wait_end, events = os.pipe()
    answers, tell_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        Path("/proc/self/comm").write_text(name)
        epoll = select.epoll()
        epoll.register(wait_end, select.EPOLLIN)
        epoll.poll(timeout)
        os.write(tell_end, os.read(wait_end, 16))
        os._exit(0)
    started = Victim(pid, events, answers)
    while not started.waits():
        time.sleep(0.01)
    yield started
    os.waitpid(pid, 0)


def see(name: str, timeout: float | None) -> Seen:
    """One event for one victim, where one wake-up is to be lost."""
    before = _parameter("lost_count")
    (HOOK / "lose_left").write_text("1")
    with victim(name, timeout) as one:
        os.write(one.events, b"!")
        answered = one.answered(DARK if name == LOST and timeout is None else PROMPT)
        lost, left = _parameter("lost_count") - before, _parameter("lose_left")
        if answered:
            return Seen(answered, lost, left)
        call, wchan = one.of("syscall"), one.of("wchan")
        nudge = subprocess.run([sys.argv[1] + "/.venv/bin/epoll-watchdog", "nudge", str(one.pid)], capture_output=True)
        return Seen(answered, lost, left, call, wchan, one.answered(PROMPT), nudge.stdout.decode())


def returned(ready: bool) -> str:
    """What a wait that lost its wake-up returns to a nudge, with an event on the ready list or without one."""
    (HOOK / "lose_left").write_text("1")
    wait_end, events = os.pipe()
    answers, tell_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        Path("/proc/self/comm").write_text(LOST)
        epoll = select.epoll()
        epoll.register(wait_end, select.EPOLLIN)
        os.write(tell_end, _wait_once(epoll.fileno()).encode())
        os._exit(0)
    waiting = Victim(pid, events, answers)
    while not waiting.waits():
        time.sleep(0.01)
    if ready:
        os.write(events, b"!")
    subprocess.run([sys.argv[1] + "/.venv/bin/epoll-watchdog", "nudge", str(pid)], capture_output=True)
    os.waitpid(pid, 0)
    return os.read(answers, 16).decode()


def _wait_once(epfd: int) -> str:
    """Not by Python's own poll(), which hides an EINTR."""
    try:
        epoll_wait(epfd)
    except InterruptedError:
        return "EINTR"
    return "events"


def _parameter(name: str) -> int:
    return int((HOOK / name).read_text())


def main() -> None:
    """Everything; then the machine is switched off."""
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    for kind, where in (("proc", "/proc"), ("sysfs", "/sys")):
        subprocess.run(["mount", "-t", kind, kind, where], check=True)
    subprocess.run(["mount", "-t", "hostfs", "-o", sys.argv[2], "hostfs", "/mnt"], check=True)
    (HOOK / "lose_comm").write_text(LOST)
    seen = {
        "without time-out": see(LOST, None),
        "of another name": see("bystander", None),
        "with time-out": see(LOST, 60.0),
    }
    Path("/mnt/seen.json").write_text(json.dumps({name: asdict(each) for name, each in seen.items()}))
    Path("/mnt/returned.json").write_text(json.dumps({"ready": returned(True), "nothing": returned(False)}))


if __name__ == "__main__":
    try:
        main()
    finally:
        ctypes.CDLL(None).reboot(POWER_OFF)
