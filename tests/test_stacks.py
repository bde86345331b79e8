"""The stacks of threads, as they are logged: whole where they are short, bounded where not, and no secret in them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from watchdog import stacks


@contextmanager
def waiting(name: str, depth: int = 1, secret: str = "") -> Iterator[threading.Thread]:
    """A thread that waits so many calls deep, with a secret in a variable of each."""
    ready, enough = threading.Event(), threading.Event()

    def deeper(left: int, password: str) -> None:
        if left > 1:
            return deeper(left - 1, password)
        ready.set()
        enough.wait(30)
        return None

    thread = threading.Thread(target=deeper, args=(depth, secret), name=name)
    thread.start()
    try:
        assert ready.wait(10)
        yield thread
    finally:
        enough.set()
        thread.join(10)


def of_thread(text: str, name: str) -> list[str]:
    """The frames of one thread."""
    lines = text.splitlines()
    [start] = [at for at, line in enumerate(lines) if line.startswith(f"thread {name} ")]
    frames = lines[start + 1 :]
    ends = [at for at, line in enumerate(frames) if not line.startswith("  ")]
    return frames[: ends[0]] if ends else frames


def test_the_thread_asked_for_comes_first_with_its_number() -> None:
    with waiting("one"), waiting("two") as two, waiting("three"):
        text = stacks.of_all(first=two.ident or 0)
    assert text.splitlines()[0] == f"thread two ({two.native_id}), which runs the loop:"
    assert {"thread one", "thread three"} <= {line.partition(" (")[0] for line in text.splitlines()}


def test_a_frame_is_a_file_a_line_and_a_function_innermost_first() -> None:
    with waiting("one", depth=3):
        frames = of_thread(stacks.of_all(first=0), "one")
    deeper = [frame for frame in frames if frame.endswith("waiting.<locals>.deeper")]
    assert len(deeper) == 3
    assert all(f"{__file__}:" in frame for frame in deeper)
    assert frames.index(deeper[0]) > 0  # it waits in a call of the standard library
    assert frames[-1].endswith("Thread._bootstrap")


def test_nothing_that_a_variable_holds_is_told() -> None:
    with waiting("one", secret="hunter2"):
        assert "hunter2" not in stacks.of_all(first=0)


def test_a_deep_stack_is_cut() -> None:
    with waiting("one", depth=10 * stacks.FRAMES):
        frames = of_thread(stacks.of_all(first=0), "one")
    assert len(frames) == stacks.FRAMES + 1
    assert frames[-1] == "  and further out"


def test_many_threads_are_cut_and_their_number_is_told() -> None:
    with ExitStack() as threads:
        last = [threads.enter_context(waiting(f"t{number}")) for number in range(2 * stacks.THREADS)][-1]
        text = stacks.of_all(first=last.ident or 0)
        others = threading.active_count() - 1 - stacks.THREADS  # but for those shown, and for who asks
    assert text.splitlines()[0].startswith("thread t59 ")
    assert text.splitlines()[-1] == f"and {others} threads more"


def test_no_line_is_long() -> None:
    with waiting("x" * 5000):
        assert max(map(len, stacks.of_all(first=0).splitlines())) < 3 * stacks.LONGEST
