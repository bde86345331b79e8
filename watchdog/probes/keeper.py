"""What the exec probe runs: one command, and the end of all that came of it. A program of its own, not a module.

    python -I -S keeper.py PROGRAM ARGUMENT…

It is the child subreaper of whatever the command starts (prctl(2)): a process whose parent ends becomes a child of this
one, whatever session or process group it made for itself, so none is missed when the end comes: when the command ends,
or when nobody is left at the other end of descriptor 0, a socket. Not caught is what others start on the command's
behalf (systemd-run, at), what a set-user-id program became, and what forks faster than it is killed.

On descriptor 0 it tells "run", then how the command ended ("exit 2", "signal 11", or "flood" for too much output), then
the last of its output. It imports little: what it imports is most of its cost.
"""

import ctypes
import os
import select
import sys

PR_SET_CHILD_SUBREAPER = 36
SIGKILL, SIGPIPE, SIGXFSZ = 9, 13, 25
ASKER = 0
SCORE = "/proc/self/oom_score_adj"
KEPT = 4096  # bytes of output that are told
MOST = 1 << 20  # bytes of output; a command that writes more is ended
PASSES = 1000  # over the processes that are left; what is there after so many forks faster than it is killed

libc = ctypes.CDLL(None)


def main(command: list[str]) -> None:
    """Run the command, tell of it, end what it left."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    output, into = os.pipe()
    child = os.fork()
    if child == 0:
        become(command, into)
    os.close(into)
    try:
        os.write(ASKER, b"run\n")
        told = watch(child, output)
        if told:
            os.write(ASKER, told)
    except OSError:  # the asker has gone
        pass
    os.close(ASKER)
    end_all()


def become(command: list[str], into: int) -> None:
    """Be the command: no input, its output to the pipe, a session of its own, signals as a shell would leave them."""
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(into, 1)
        os.dup2(into, 2)
        be_spared_no_more()
        for ignored_by_python in (SIGPIPE, SIGXFSZ):
            libc.signal(ignored_by_python, None)
        os.execv(command[0], command)
    except OSError as error:
        os.write(into, f"{command[0]}: {error.strerror}".encode(errors="surrogateescape"))
    finally:
        os._exit(127)


def be_spared_no_more() -> None:
    """Where memory runs out, the command is to end before the daemon, whose protection (OOMScoreAdjust=) it inherited.

    To give that up takes no right. proc_pid_oom_score_adj(5).
    """
    try:
        with open(SCORE) as file:
            score = int(file.read())
        if score < 0:
            with open(SCORE, "w") as file:
                file.write("0")
    except OSError:  # it runs all the same
        pass


def watch(child: int, output: int) -> bytes:
    """How the command ended, and the last of its output. Nothing where the asker has gone."""
    os.set_blocking(output, False)
    ended = os.pidfd_open(child)
    poll = select.poll()
    for descriptor in (ASKER, output, ended):
        poll.register(descriptor, select.POLLIN)
    kept, total = b"", 0
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if ASKER in ready:
            return b""
        while chunk := read(output):
            kept = (kept + chunk)[-KEPT:]
            total += len(chunk)
            if total > MOST:
                return b"flood\n" + kept
        if ended in ready:
            return how(child) + kept
        if chunk is not None:  # its end, and the command goes on
            poll.unregister(output)


def read(descriptor: int) -> bytes | None:
    """What there is; nothing at the end, None where there is nothing yet."""
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return None


def how(child: int) -> bytes:
    """How a child ended that has ended."""
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return b"signal %d\n" % os.WTERMSIG(status)
    return b"exit %d\n" % os.WEXITSTATUS(status)


def end_all() -> None:
    """Kill all descendants until none is left. Waits for those that not even SIGKILL reaches."""
    for _ in range(PASSES):
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, SIGKILL)
            except OSError:  # it has ended; or it has become another user's
                continue
        try:
            os.wait()
        except ChildProcessError:
            return


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on. proc_tid_children(5)."""
    found: list[int] = []
    ahead = [pid]
    while ahead:
        at = ahead.pop()
        try:
            for thread in os.listdir(f"/proc/{at}/task"):
                with open(f"/proc/{at}/task/{thread}/children", "rb") as file:
                    ahead += (new := [int(child) for child in file.read().split()])
                    found += new
        except OSError:
            continue
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
