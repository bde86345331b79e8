"""What is made of /proc/PID/task/TID/syscall, by the kernel's own numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helper.conftest import Start
from watchdog.evidence import procfs
from watchdog.evidence.calls import EPOLL_WAITS, NAMES, NONE, Call, names_of, parse

X86, ARM = names_of("x86_64"), names_of("aarch64")
HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}


@pytest.mark.parametrize("machine", HEADERS)
def test_every_number_is_the_kernel_s(machine: str) -> None:
    """The generic table is arm64's; calls with a number of its own for 32 bits have `__NR3264_` there."""
    text = Path(HEADERS[machine]).read_text()
    kernel = {number: name for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", text)}
    ours = {number.decode(): name for number, name in names_of(machine).items()}
    newer = {number: name for number, name in ours.items() if number not in kernel}
    assert set(newer.values()) <= {"futex_wait"}  # 6.7
    assert {
        number: {"fstatat": "newfstatat"}.get(kernel[number], kernel[number]) for number in ours.keys() - newer
    } == {number: name for number, name in ours.items() if number not in newer}


@pytest.mark.parametrize(
    ("text", "names", "call"),
    [
        (b"232 0x6 0x7ffd 0x10 0xffffffff 0x0 0x0 0x7ffe 0x7f00\n", X86, Call("epoll_wait", 6, finite=False)),
        (b"232 0x6 0x7ffd 0x10 0xffffffffffffffff 0x0 0x0 0x7ffe 0x7f00\n", X86, Call("epoll_wait", 6)),
        (b"232 0x6 0x7ffd 0x10 0x64 0x0 0x0 0x7ffe 0x7f00\n", X86, Call("epoll_wait", 6, finite=True)),
        (b"232 0x6 0x7ffd 0x10 0x0 0x0 0x0 0x7ffe 0x7f00\n", X86, Call("epoll_wait", 6, finite=True)),
        (b"281 0x7 0x7ffd 0x10 0x3e8 0x0 0x8 0x7ffe 0x7f00\n", X86, Call("epoll_pwait", 7, finite=True)),
        (b"441 0x7 0x7ffd 0x10 0x0 0x0 0x8 0x7ffe 0x7f00\n", X86, Call("epoll_pwait2", 7, finite=False)),
        (b"441 0x7 0x7ffd 0x10 0x7ffd10 0x0 0x8 0x7ffe 0x7f00\n", X86, Call("epoll_pwait2", 7, finite=True)),
        (b"202 0x7ffd 0x80 0x0 0x0 0x0 0x0 0x7ffe 0x7f00\n", X86, Call("futex")),
        (b"334 0x7ffd 0x80 0x0 0x0 0x0 0x0 0x7ffe 0x7f00\n", X86, Call("334")),
        (b"22 0x5 0xffff 0x400 0xffffffff 0x0 0x8 0xffff 0xffff\n", ARM, Call("epoll_pwait", 5, finite=False)),
        (b"22 0x5 0xffff 0x400 0x1f4 0x0 0x8 0xffff 0xffff\n", ARM, Call("epoll_pwait", 5, finite=True)),
        (b"441 0x5 0xffff 0x400 0x0 0x0 0x8 0xffff 0xffff\n", ARM, Call("epoll_pwait2", 5, finite=False)),
        (b"98 0xffff 0x80 0x0 0x0 0x0 0x0 0xffff 0xffff\n", ARM, Call("futex")),
        (b"232 0x5 0xffff 0x400 0x1f4 0x0 0x8 0xffff 0xffff\n", ARM, Call("232")),
        (b"running\n", X86, NONE),
        (b"-1 0x7ffe 0x7f00\n", X86, NONE),
        (b"", X86, NONE),
    ],
)
def test_a_call_is_told_by_name_and_an_epoll_wait_by_its_epoll(
    text: bytes, names: Mapping[bytes, str], call: Call
) -> None:
    assert parse(text, names) == call


ARGUMENT = st.integers(0, (1 << 64) - 1)


@given(st.integers(0, 600), st.lists(ARGUMENT, min_size=8, max_size=8), st.sampled_from([X86, ARM, {}]))
def test_nothing_but_number_descriptor_and_time_out_is_kept(
    number: int, arguments: list[int], names: Mapping[bytes, str]
) -> None:
    call = parse(f"{number} {' '.join(map(hex, arguments))}\n".encode(), names)
    assert call.name == names.get(str(number).encode(), str(number))
    assert call.epfd == (arguments[0] & 0xFFFFFFFF if call.name in EPOLL_WAITS else None)


@pytest.mark.parametrize(
    "kind",
    ["read", "futex", "ppoll", "pselect6", "nanosleep", "clock_nanosleep", "accept", "recvfrom", "recvmsg", "flock"],
)
def test_threads_in_other_calls_are_told_by_the_call(start: Start, kind: str) -> None:
    victim = start(f"{kind}:2")
    threads = procfs.sample([victim.epoch]).threads
    assert {(thread.call, thread.epfd) for thread in threads if thread.tid != victim.pid} == {(kind, None)}
    assert [thread.call for thread in threads if thread.tid == victim.pid] == ["read"]


def test_a_call_without_a_name_is_told_by_its_number(start: Start) -> None:
    victim = start("tee:1")
    [thread] = [thread for thread in procfs.sample([victim.epoch]).threads if thread.tid != victim.pid]
    assert thread.call.isdigit()
    assert thread.call.encode() not in NAMES
