"""What is changed in Debian's kernel source: the loss of wake-ups, and what user-mode Linux lacks for the lab.

A change is a place, found by its text, and what comes there instead. A place that is not found exactly so often as it
should be is an error: the kernel was updated, and somebody has to look.

Sources: fs/eventpoll.c, `ep_poll()`; arch/x86/um/user-offsets.c; lib/Makefile and fs/proc/base.c;
arch/um/kernel/process.c, `__get_wchan()`; arch/um/kernel/tlb.c, `flush_tlb_kernel_range_common()`; of Linux 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class PlaceNotFound(Exception):
    """The source is not the one that the changes were written for."""


@dataclass(frozen=True, slots=True)
class Patch:
    """In `file`, `old` (which stands there `times` times) becomes `new`."""

    file: str
    old: str
    new: str
    times: int = 1


# UML has one CPU and no preemption, and the hook runs under a spin lock with interrupts off: plain ints will do.
PARAMETERS = """
static char lose_comm[TASK_COMM_LEN + 1];
module_param_string(lose_comm, lose_comm, sizeof(lose_comm), 0644);
static int lose_left;
module_param(lose_left, int, 0644);
static int lost_count;
module_param(lost_count, int, 0444);

"""

# The waiter is off the queue as after a wake-up, but nobody has woken its thread: so 5.4.211 left it.
# ep_poll() takes an entry that points to itself for one that a wake-up removed, and leaves it alone.
HOOK = """\
\t\tif (!eavail) {
\t\t\t__add_wait_queue_exclusive(&ep->wq, &wait);
\t\t\tif (lose_left > 0 && !timeout && sysfs_streq(current->comm, lose_comm)) {
\t\t\t\tlist_del_init(&wait.entry);
\t\t\t\tlose_left--;
\t\t\t\tlost_count++;
\t\t\t}
\t\t}
"""

TRACEHOOK = "#ifdef CONFIG_HAVE_ARCH_TRACEHOOK\n"
UML_WCHAN = "arch/um/kernel/process.c"
SCAN = "while (sp < stack_page + THREAD_SIZE) {\n\t\tip = *((unsigned long *) sp);\n"
UML_TLB = "arch/um/kernel/tlb.c"
UNMAP = """\
\t\tif (!pte_present(*pte) || pte_newpage(*pte)) {
\t\t\tupdated = 1;
\t\t\terr = add_munmap(addr, PAGE_SIZE, &hvc);
"""
SPARE = """\
\t\tif (!pte_present(*pte) || pte_newpage(*pte)) {
\t\t\tupdated = 1;
\t\t\tif (!pte_present(*pte))
\t\t\t\terr = add_munmap(addr, PAGE_SIZE, &hvc);
"""
FOLLOW = """\
while (sp >= stack_page && sp < stack_page + THREAD_SIZE - sizeof(ip)) {
\t\tip = ((unsigned long *) sp)[1];
"""

PATCHES = (
    Patch("fs/eventpoll.c", "#include <linux/init.h>\n", "#include <linux/init.h>\n#include <linux/moduleparam.h>\n"),
    Patch(
        "fs/eventpoll.c",
        "\nstatic int ep_poll(struct eventpoll *ep,",
        f"{PARAMETERS}static int ep_poll(struct eventpoll *ep,",
    ),
    Patch("fs/eventpoll.c", "\t\tif (!eavail)\n\t\t\t__add_wait_queue_exclusive(&ep->wq, &wait);\n", HOOK),
    # A CPU with AMX saves 11,008 bytes of registers; with less room the first exec panics.
    Patch("arch/x86/um/user-offsets.c", "DEFINE_LONGS(HOST_FP_SIZE, 2696);", "DEFINE_LONGS(HOST_FP_SIZE, 12288);"),
    # /proc/PID/syscall: all that it needs is there, only the option that it hides behind is not.
    Patch("lib/Makefile", "obj-$(CONFIG_HAVE_ARCH_TRACEHOOK) += syscall.o", "obj-y += syscall.o"),
    Patch("fs/proc/base.c", TRACEHOOK, "#if 1\n", times=3),
    # /proc/PID/wchan: UML takes any word on the stack for a return address, and so what an earlier call left there.
    # With CONFIG_FRAME_POINTER the frames can be followed, as x86 does it.
    Patch(UML_WCHAN, "sp = p->thread.switch_buf->JB_SP;", "sp = p->thread.switch_buf->__rbp;"),
    Patch(UML_WCHAN, f"\t{SCAN}", f"\t{FOLLOW}"),
    Patch(UML_WCHAN, "\t\tsp += sizeof(unsigned long);\n", "\t\tsp = *((unsigned long *) sp);\n"),
    # A flush unmaps every page of vmalloc's in its range before it maps those in use again, the running stack's, too. A
    # signal in between hangs UML: to_irq_stack() copies from that stack, and its fault is raised again for ever. mmap()
    # replaces a page at once, so only what is not in use need be unmapped. (Linux 6.11 does it so.)
    Patch(UML_TLB, UNMAP, SPARE),
)


def apply(tree: Path) -> None:
    """Change the source below `tree`. Raises `PlaceNotFound`."""
    for patch in PATCHES:
        file = tree / patch.file
        text = file.read_text()
        if (found := text.count(patch.old)) != patch.times:
            raise PlaceNotFound(f"{patch.file} has {patch.old!r} {found} times, not {patch.times}: was it updated?")
        file.write_text(text.replace(patch.old, patch.new))
