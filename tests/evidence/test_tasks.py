"""What is made of the files of a thread."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from watchdog.evidence.tasks import printable, status_field, switches
from watchdog.target import stat_fields

COUNT = st.integers(0, (1 << 63) - 1)
NAME = st.binary(max_size=15).filter(lambda name: b"\0" not in name)


def escaped(name: bytes) -> bytes:
    """A thread's name as the kernel writes it into `status` (proc_task_name() in fs/proc/array.c)."""
    return name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")


@given(NAME, st.sampled_from("RSDTtZXI"), COUNT, COUNT, COUNT)
def test_no_name_of_a_thread_fakes_its_status(
    name: bytes, state: str, tracer: int, voluntary: int, involuntary: int
) -> None:
    status = (
        b"Name:\t%b\nUmask:\t0022\nState:\t%b (sleeping)\nTgid:\t1\nTracerPid:\t%d\nGroups:\t0 4 \n"
        b"voluntary_ctxt_switches:\t%d\nnonvoluntary_ctxt_switches:\t%d\n"
        % (escaped(name), state.encode(), tracer, voluntary, involuntary)
    )
    assert status_field(status, b"\nState:\t")[:1].decode() == state
    assert int(status_field(status, b"\nTracerPid:\t")) == tracer
    assert switches(status) == voluntary + involuntary


@given(NAME, COUNT)
def test_no_name_of_a_thread_fakes_its_start(name: bytes, began: int) -> None:
    stat = b"7 (%b) S 1 7 7 0 -1 0 0 0 0 0 11 12 0 0 20 0 1 0 %d 0 0\n" % (name, began)
    assert int(stat_fields(stat)[19]) == began


@given(NAME)
def test_no_name_of_a_thread_does_anything_to_a_terminal_or_a_line(name: bytes) -> None:
    shown = printable(name)
    assert shown.isprintable()
    assert len(json.dumps(shown)) <= 2 + 6 * 7 + 1
    assert not name.isascii() or len(shown) == len(name)
