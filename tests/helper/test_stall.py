"""The drill's stall, tried on real programs: that they are dark until a nudge, and afterwards as they were before."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import servers
from tests.helper.victims import state_of, until
from watchdog.helper import detour, ptrace, worker
from watchdog.helper.nudge import nudge
from watchdog.helper.stall import stall
from watchdog.helper.worker import Worker
from watchdog.model import Epoch
from watchdog.target import start_time

SOURCE = Path(__file__).with_name("stalled.c")
SECCOMP = Path(__file__).parents[1] / "evidence" / "seccomp.py"
RAW = ("raw", "rawtimed", "rawpwait", "rawpwait2")
DARK_S = 0.3  # seconds, in which a server that is not dark answers many times


@dataclass(frozen=True, slots=True)
class Told:
    """What a thread of the server says of itself."""

    eintrs: int
    damaged: int


@dataclass(frozen=True, slots=True)
class Served:
    """The running server `stalled.c`."""

    pid: int
    directory: Path
    number: int

    @property
    def epoch(self) -> Epoch:
        """This life of it."""
        return Epoch(self.pid, start_time(self.pid))

    def connect(self, thread: int = 0) -> socket.socket:
        """To one of its threads."""
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(10)
        peer.connect(str(self.directory / str(thread)))
        return peer

    def ask(self, thread: int = 0) -> Told:
        """One of its threads."""
        with closing(self.connect(thread)) as peer:
            return answer(peer)

    def ask_all(self) -> list[Told]:
        """All of them."""
        return [self.ask(thread) for thread in range(self.number)]

    def asleep(self) -> bool:
        """Whether all threads sleep and have no tracer."""
        texts = [(task / "status").read_text() for task in Path(f"/proc/{self.pid}/task").iterdir()]
        return all("\nState:\tS" in text and "\nTracerPid:\t0\n" in text for text in texts)

    def kept(self) -> tuple[list[str], str, bytes]:
        """Its descriptors, its mappings, and of the vdso what the ELF file fills."""
        files = sorted(f"{file.name} {file.readlink()}" for file in Path(f"/proc/{self.pid}/fd").iterdir())
        maps = Path(f"/proc/{self.pid}/maps").read_text()
        image, end = vdso(self.pid)
        return files, maps, image[:end]


def answer(peer: socket.socket) -> Told:
    """The one that comes, at once or when the server is healed."""
    return Told(*map(int, peer.recv(64).split()))


def dark(peer: socket.socket) -> bool:
    """Whether nothing comes, for long enough."""
    return not select.select([peer], [], [], DARK_S)[0]


def vdso(pid: int) -> tuple[bytes, int]:
    """All of it, and where it ends."""
    process = os.open(f"/proc/{pid}", os.O_PATH)
    try:
        with detour.vdso_of(process) as found:
            return found.image(), found.end
    finally:
        os.close(process)


def stalled(*epochs: Epoch, filter_allows: bool = False) -> dict[str, Any]:
    """A stall as the helper does it: in a worker."""
    return worked(lambda: told(stall(epochs, deadline=5.0, filter_allows=filter_allows)))


def healed(*epochs: Epoch) -> dict[str, Any]:
    """The watchdog's own nudge."""
    return worked(lambda: told(nudge(epochs)))


def worked(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a worker hands back."""
    ending = worker.run(work, 10.0)
    assert not ending.error
    value: dict[str, Any] = ending.value
    return value


def told(done: Any) -> dict[str, Any]:
    """A result, in plain values."""
    return {"outcome": done.outcome(), "reason": done.reason(), **done.detail()}


def refusals(result: dict[str, Any]) -> set[str]:
    """The names of what was refused."""
    return {skipped["refusal"] for skipped in result["skipped"]}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The server, dynamic and static."""
    directory = tmp_path_factory.mktemp("stalled")
    command = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", str(SOURCE), "-o"]
    subprocess.run([*command, str(directory / "dynamic")], check=True)
    subprocess.run([*command, str(directory / "static"), "-static"], check=True)
    return {kind: directory / kind for kind in ("dynamic", "static")}


Serve = Callable[..., Served]


@pytest.fixture
def serve(programs: dict[str, Path], tmp_path: Path) -> Iterator[Serve]:
    """`serve("raw", 4)`: the server, with four threads that wait so."""
    with contextlib.ExitStack() as stack:

        def start(kind: str, number: int = 1, *, build: str = "dynamic", before: tuple[str, ...] = ()) -> Served:
            command = [*before, str(programs[build]), kind, str(number), str(tmp_path)]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            served = Served(process.pid, tmp_path, number)
            until(served.asleep, "all threads asleep")
            return served

        yield start


# --- that it stalls, and that a nudge ends it -------------------------------------------------------------------------


@pytest.mark.parametrize("build", ["dynamic", "static"])
@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("kind", ["wait", "timed", *RAW])
def test_a_stalled_program_is_dark_until_a_nudge_and_then_as_it_was(
    serve: Serve, kind: str, number: int, build: str
) -> None:
    served = serve(kind, number, build=build)
    before = served.kept()
    result = stalled(served.epoch)
    assert (result["outcome"], result["stalled"], result["skipped"]) == ("done", number, [])
    peers = [served.connect(thread) for thread in range(number)]
    assert dark(peers[-1])
    assert not select.select(peers, [], [], 0)[0]
    assert healed(served.epoch)["nudged"] == number
    assert [answer(peer) for peer in peers] == [Told(1, 0)] * number
    assert served.ask_all() == [Told(1, 0)] * number
    until(served.asleep, "asleep again")
    assert served.kept() == before
    for peer in peers:
        peer.close()


def test_to_the_outside_it_waits_without_a_time_out_on_an_epoll_that_watches_nothing(serve: Serve) -> None:
    served = serve("timed")
    [thread] = stalled(served.epoch)["threads"]
    assert (thread["call"], thread["finite"]) == ("epoll_wait", True)
    number, epoll, _, _, timeout = Path(f"/proc/{served.pid}/syscall").read_text().split()[:5]
    assert (number, int(timeout, 16) & 0xFFFFFFFF) == ("232", 0xFFFFFFFF)
    assert int(epoll, 16) != thread["epoll_fd"]
    assert "tfd:" not in Path(f"/proc/{served.pid}/fdinfo/{int(epoll, 16)}").read_text()
    assert Path(f"/proc/{served.pid}/wchan").read_text() in ("ep_poll", "do_epoll_wait")


def test_a_signal_ends_it_even_with_sa_restart(serve: Serve) -> None:
    served = serve("raw")
    assert stalled(served.epoch)["stalled"] == 1
    os.kill(served.pid, signal.SIGUSR1)
    assert served.ask() == Told(1, 0)


def test_a_process_that_is_stalled_already_is_not_touched(serve: Serve) -> None:
    served = serve("raw", 4)
    stalled(served.epoch)
    again = stalled(served.epoch)
    assert (again["stalled"], refusals(again), len(again["skipped"])) == (0, {"Stalled"}, 4)
    with closing(served.connect()) as peer:
        assert dark(peer)


@pytest.mark.parametrize("kind", ["rawtimed", "rawpwait2"])
def test_a_hundred_stalls_write_no_more_than_one(serve: Serve, kind: str) -> None:
    served = serve(kind)
    assert stalled(served.epoch)["stalled"] == 1
    assert healed(served.epoch)["nudged"] == 1
    first = vdso(served.pid)
    for _ in range(99):
        until(served.asleep, "asleep again")
        assert stalled(served.epoch)["stalled"] == 1
        assert healed(served.epoch)["nudged"] == 1
    assert vdso(served.pid) == first
    assert served.ask() == Told(100, 0)


def test_threads_that_find_no_room_are_refused_and_serve_on(serve: Serve) -> None:
    served = serve("raw", 60)
    result = stalled(served.epoch)
    assert 0 < result["stalled"] < 60
    assert (refusals(result), len(result["skipped"])) == ({"NoRoom"}, 60 - result["stalled"])
    assert served.ask(59) == Told(1, 0)
    healed(served.epoch)
    assert {one.damaged for one in served.ask_all()} == {0}


# --- whom it refuses --------------------------------------------------------------------------------------------------


def test_a_thread_without_a_free_descriptor_sees_eintr_and_serves_on(serve: Serve) -> None:
    served = serve("raw")
    taken = len(list(Path(f"/proc/{served.pid}/fd").iterdir()))
    assert {int(file.name) for file in Path(f"/proc/{served.pid}/fd").iterdir()} == set(range(taken))
    soft, hard = resource.prlimit(served.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(served.pid, resource.RLIMIT_NOFILE, (taken, hard))
    assert refusals(stalled(served.epoch)) == {"NotParked"}
    resource.prlimit(served.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert served.ask() == Told(1, 0)


def test_under_a_seccomp_filter_nobody_is_stalled_unless_it_is_known(serve: Serve) -> None:
    served = serve("raw", 2, before=(sys.executable, str(SECCOMP), "9999", "1"))
    assert refusals(stalled(served.epoch)) == {"Filtered"}
    assert served.ask() == Told(0, 0)
    until(served.asleep, "asleep again")
    assert stalled(served.epoch, filter_allows=True)["stalled"] == 2
    healed(served.epoch)
    assert served.ask_all() == [Told(1, 0)] * 2


def test_a_32_bit_program_is_refused(tmp_path: Path) -> None:
    """Of one there is only its vdso: the machine has no 32-bit libc."""
    image = bytearray(vdso(os.getpid())[0])
    image[4] = 1
    (tmp_path / "mem").write_bytes(image)
    (tmp_path / "maps").write_text(f"0-{len(image):x} r-xp 00000000 00:00 0 [vdso]\n")
    process = os.open(tmp_path, os.O_PATH)
    with pytest.raises(detour.OtherMachine, match="32-bit"), detour.vdso_of(process):
        pass
    os.close(process)


def test_another_machine_is_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve("wait")
    monkeypatch.setattr(detour, "MACHINE", "aarch64")
    result = stalled(served.epoch)
    assert (result["outcome"], refusals(result)) == ("refused", {"OtherMachine"})
    assert served.ask() == Told(0, 0)


def test_a_program_that_does_not_wait_in_epoll_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        until(lambda: Path(f"/proc/{process.pid}/syscall").read_text().startswith("230"), "asleep")
        result = stalled(Epoch(process.pid, start_time(process.pid)))
        process.kill()
    assert (result["outcome"], result["others"]) == ("refused", 1)
    assert "nothing to stall" in result["reason"]


def test_init_is_never_touched() -> None:
    assert refusals(stalled(Epoch(1, 0))) == {"NeverATarget"}


# --- that it does no harm, whenever it is killed ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["raw", "rawtimed", "rawpwait2"])
def test_killed_before_and_after_each_of_its_requests_it_leaves_a_program_that_runs(serve: Serve, kind: str) -> None:
    """Each moment in which something is half done: of a stall that writes its detour, then of one that finds it."""
    served = serve(kind)
    before = served.kept()
    assert deaths(served) > 2 * len(("seize", "interrupt", "get registers", "write", "write"))
    assert deaths(served) == 2 * len(("seize", "interrupt", "get registers", "set registers", "detach"))
    assert served.kept() == before


def deaths(served: Served) -> int:
    """In how many moments a stall was killed, until one had no such moment any more."""
    dead = 0
    while killed_at(served, dead):
        restored(served)
        dead += 1
    restored(served)
    return dead


def restored(served: Served) -> None:
    """Let go, nudged, unharmed, answering, and asleep again."""
    until(served.asleep, "let go, and asleep")
    healed(served.epoch)
    assert {one.damaged for one in served.ask_all()} == {0}
    until(served.asleep, "asleep again")


def killed_at(served: Served, moment: int) -> bool:
    """A stall that dies before (even moments) or after (odd ones) a request; False: it had fewer."""
    left = moment
    real = ptrace._ptrace

    def deadly(*arguments: Any) -> Any:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments)
        if left == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 2
        return result

    def work() -> dict[str, Any]:
        vars(ptrace)["_ptrace"] = deadly  # in the worker alone
        return told(stall((served.epoch,), deadline=5.0))

    ending = worker.run(work, 10.0)
    return "signal 9" in ending.error


def test_killed_at_random_moments_it_leaves_a_program_that_runs(serve: Serve) -> None:
    served = serve("raw", 4)
    before = served.kept()
    dice = random.Random(1)
    kills = 0
    for _ in range(50):
        tracer = Worker(lambda: told(stall((served.epoch,), deadline=5.0)), 5.0)
        kills += not select.select([tracer.pipe], [], [], dice.uniform(0.0005, 0.006))[0]
        tracer.overrun()
        assert tracer.reap(5.0)
        restored(served)
    assert kills > 10
    assert served.kept() == before


def test_signals_and_requests_that_come_meanwhile_do_no_harm(serve: Serve) -> None:
    served = serve("raw", 4)
    before = served.kept()
    code = f"import os, time\nwhile True: os.kill({served.pid}, 10); time.sleep(0.0003)"
    with subprocess.Popen([sys.executable, "-c", code]) as sender:
        for _ in range(100):
            stalled(served.epoch)
            healed(served.epoch)
            assert {one.damaged for one in served.ask_all()} == {0}
        sender.kill()
    until(served.asleep, "asleep again")
    assert served.kept() == before


# --- programs that nobody here wrote ----------------------------------------------------------------------------------


def curl(server: servers.Nginx) -> int:
    """Its exit status; 28: timed out."""
    return subprocess.run(["curl", "-sfm", "1", "-o", "/dev/null", server.url], check=False).returncode


def test_nginx_is_dark_until_a_nudge(tmp_path: Path) -> None:
    with servers.nginx(tmp_path, workers=2) as server:
        epochs = [Epoch(pid, start_time(pid)) for pid in server.children()]
        until(lambda: {state_of(Path(f"/proc/{epoch.pid}")) for epoch in epochs} == {"S"}, "both workers asleep")
        assert stalled(*epochs)["stalled"] == 2
        assert [curl(server) for _ in range(3)] == [28, 28, 28]
        assert healed(*epochs)["nudged"] == 2
        assert curl(server) == 0
        assert [Epoch(pid, start_time(pid)) for pid in server.children()] == epochs


def test_redis_whose_wait_has_a_time_out_is_dark_until_a_nudge_20_times(tmp_path: Path) -> None:
    with servers.redis(tmp_path) as server, closing(socket.create_connection(("127.0.0.1", server.port))) as client:
        epoch = Epoch(server.pid, start_time(server.pid))
        client.settimeout(10)
        for _ in range(20):
            until(lambda: stalled(epoch)["stalled"] == 1, "stalled")
            client.sendall(b"PING\r\n")
            assert not select.select([client], [], [], DARK_S)[0]  # it would have woken by itself 3 times
            assert healed(epoch)["nudged"] == 1
            assert client.recv(64) == b"+PONG\r\n"
        assert "crash" not in server.log.read_text().lower()
