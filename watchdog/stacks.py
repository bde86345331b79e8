"""What each thread of ours does now, as text that may be logged: bounded, and without anything secret.

A frame is a file, a line and a function: no local variable, which might hold a secret, and no line of the source, for
which a disk would have to answer. The stacks are read while their threads run on (sys._current_frames), so two of them
need not be of the same moment.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType

FRAMES = 30  # innermost ones of a thread
THREADS = 30
LONGEST = 160  # characters of one frame


def of_all(first: int) -> str:
    """The stacks of all threads, innermost frame first; before all others that of the thread with this ident."""
    frames = sys._current_frames()
    frames.pop(threading.get_ident(), None)  # who asks does nothing but ask
    known = {thread.ident: thread for thread in threading.enumerate()}
    order = sorted(frames, key=lambda ident: (ident != first, ident))
    lines: list[str] = []
    for ident in order[:THREADS]:
        lines.append(_name(known.get(ident), ident == first))
        lines.extend(_stack(frames[ident]))
    if len(order) > THREADS:
        lines.append(f"and {len(order) - THREADS} threads more")
    return "\n".join(lines)


def _name(thread: threading.Thread | None, is_loop: bool) -> str:
    """The number is the one in /proc/PID/task."""
    name = f"{thread.name} ({thread.native_id})" if thread is not None else "a thread that is not Python's own"
    return f"thread {name[:LONGEST]}, which runs the loop:" if is_loop else f"thread {name[:LONGEST]}:"


def _stack(frame: FrameType) -> Iterator[str]:
    current: FrameType | None = frame
    for _ in range(FRAMES):
        if current is None:
            return
        code = current.f_code
        place = f"{code.co_filename}:{current.f_lineno}"
        yield f"  {place[-LONGEST:]} in {code.co_qualname[:LONGEST]}"
        current = current.f_back
    if current is not None:
        yield "  and further out"
