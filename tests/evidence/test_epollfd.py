"""Copies of a real program's epolls: what they say, that they take nothing away, and how they are forbidden."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.evidence.seccomp import forbid
from tests.evidence.watcher import SENT, Watcher, watcher
from tests.helper.conftest import Start
from tests.helper.nobody import become_nobody
from tests.helper.victims import until
from watchdog.evidence.epollfd import SYS_PIDFD_GETFD, NotAnEpoll, readable, with_copies
from watchdog.evidence.procfs import sample
from watchdog.helper import worker
from watchdog.model import Epoch
from watchdog.reading import Sample
from watchdog.target import Gone

SYS_PIDFD_OPEN = 434


def told(program: Watcher, read: Sample) -> dict[str, bool | None]:
    """What the copies of the epolls said, by their names."""
    by_fd = {epoll.fd: epoll.readable for epoll in read.epolls}
    return {name: by_fd[epfd] for name, epfd in program.epolls.items()}


def test_an_epoll_is_readable_when_it_has_something_to_tell() -> None:
    with watcher() as program:
        read = with_copies(sample([program.epoch]))
    assert told(program, read) == {"loop": False, "timed": False, "idle": None, "ready": True}
    assert read.lacks == ()


def test_a_poll_of_a_copy_takes_no_event_away() -> None:
    with watcher() as program:
        assert [readable(program.epoch, program.epolls["ready"]) for _ in range(100)] == [True] * 100
        assert program.take() == SENT
        assert not readable(program.epoch, program.epolls["ready"])


def test_a_copy_is_closed_at_once() -> None:
    with watcher() as program:
        before = len(list(Path("/proc/self/fd").iterdir()))
        with_copies(sample([program.epoch]))
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_poll_wakes_nobody_whose_epoll_has_nothing_to_tell() -> None:
    with watcher() as program:
        before = sample([program.epoch])
        assert [readable(program.epoch, program.epolls["loop"]) for _ in range(100)] == [False] * 100
        after = sample([program.epoch])
    assert switches(after) == switches(before)


def switches(read: Sample) -> dict[int, int]:
    """Of the threads that wait in epoll."""
    return {thread.tid: thread.switches for thread in read.threads if thread.waits_in_epoll}


def test_a_descriptor_that_is_closed_or_no_epoll_is_told_so() -> None:
    with watcher() as program:
        with pytest.raises(NotAnEpoll, match="descriptor 1000 is closed"):
            readable(program.epoch, 1000)
        with pytest.raises(NotAnEpoll, match="is no epoll"):
            readable(program.epoch, program.entries["level"][0])


def test_an_epoll_that_was_closed_meanwhile_is_not_told_as_readable_or_not() -> None:
    with watcher() as program:
        read = sample([program.epoch])
        program.take("take and close")
        after = with_copies(read)
    assert told(program, after) == {"loop": False, "timed": False, "idle": None, "ready": None}
    assert after.lacks == ()


def test_another_life_of_the_process_is_gone() -> None:
    with watcher() as program:
        other = Epoch(program.epoch.pid, program.epoch.start_time + 1)
        with pytest.raises(Gone, match="another process' by now"):
            readable(other, program.epolls["ready"])


def test_a_process_that_has_ended_is_gone(start: Start) -> None:
    victim = start("wait:1")
    epoch = victim.epoch
    victim.process.kill()
    until(lambda: ") Z " in Path(f"/proc/{victim.pid}/stat").read_text(), "zombie")
    with pytest.raises(Gone, match="has ended"):
        readable(epoch, 3)
    victim.process.wait()
    with pytest.raises(Gone, match="has ended"):
        readable(epoch, 3)


# --- forbidden --------------------------------------------------------------------------------------------------------


def read_while(become: Callable[[], None], epoch: Epoch) -> Sample:
    """A sample read with rights, and copies made by a process that has become something else."""

    def read() -> str:
        passive = sample([epoch])
        become()
        return msgspec.json.encode(with_copies(passive)).decode()

    ending = worker.run(read, 5.0)
    assert not ending.error
    return msgspec.json.decode(ending.value, type=Sample)


@pytest.mark.parametrize(
    ("become", "reason"),
    [
        (lambda: forbid(SYS_PIDFD_GETFD, errno.EPERM), "a seccomp filter forbids it"),
        (lambda: forbid(SYS_PIDFD_OPEN, errno.EPERM), "a seccomp filter forbids it"),
        (lambda: forbid(SYS_PIDFD_GETFD, errno.ENOSYS), "the kernel makes no copies of descriptors (ENOSYS)"),
        (lambda: forbid(SYS_PIDFD_OPEN, errno.ENOSYS), "the kernel makes no copies of descriptors (ENOSYS)"),
        (lambda: forbid(SYS_PIDFD_GETFD, errno.EMFILE), "no copy of a descriptor could be made: Too many open files"),
        (become_nobody, "it runs as uid 0, we as uid 65534 without CAP_SYS_PTRACE"),
    ],
)
def test_where_copies_are_forbidden_the_reason_is_told_once_and_the_rest_is_there(
    become: Callable[[], None], reason: str
) -> None:
    with watcher() as program:
        passive = sample([program.epoch])
        read = read_while(become, program.epoch)
    [lack] = read.lacks
    assert lack.what == f"copies of epolls of process {program.process.pid}"
    assert lack.reason.startswith(reason)
    assert set(told(program, read).values()) == {None}
    assert [epoll.watches for epoll in read.epolls] == [epoll.watches for epoll in passive.epolls]
