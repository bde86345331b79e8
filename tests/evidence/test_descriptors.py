"""What is made of the fdinfo of an epoll."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from watchdog.evidence.descriptors import parse
from watchdog.reading import Watch

HEAD = b"pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t1057\n"
ENTRY = st.tuples(st.integers(0, 1 << 20), st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1))
DATA = st.integers(0, (1 << 64) - 1)


def line(watch: tuple[int, int, int], data: int) -> bytes:
    """As ep_show_fdinfo() writes it."""
    fd, events, inode = watch
    return b"tfd: %8d events: %8x data: %16x  pos:%d ino:%x sdev:%x\n" % (fd, events, data, 0, inode, 9)


@given(st.lists(st.tuples(ENTRY, DATA), max_size=50))
def test_every_entry_is_told_without_what_the_program_keeps_with_it(
    entries: list[tuple[tuple[int, int, int], int]],
) -> None:
    text = HEAD + b"".join(line(watch, data) for watch, data in entries)
    assert parse(text.splitlines()) == [Watch(*watch) for watch, _ in entries]


def test_an_old_kernel_tells_no_inode() -> None:
    assert parse([b"tfd:        5 events:       19 data:                5"]) == [Watch(5, 0x19, 0)]
