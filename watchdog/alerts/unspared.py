"""What the exec channel starts: it gives up the daemon's protection, then becomes the command. A program, not a module.

    python -I -S unspared.py DESCRIPTOR PROGRAM ARGUMENT…

Where memory runs out, the command is to end before the daemon, whose protection (OOMScoreAdjust=) it inherits. To give
that up takes no right (proc_pid_oom_score_adj(5)); only the process itself can do it before it starts others.

A program that can't be run: the errno is written to DESCRIPTOR, which no command inherits.
"""

import os
import signal
import sys

SCORE = "/proc/self/oom_score_adj"


def main(teller: int, command: list[str]) -> None:
    """Become the command, with signals as a shell would leave them."""
    os.set_inheritable(teller, False)
    be_spared_no_more()
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        os.write(teller, b"%d" % (error.errno or 0))
        os._exit(127)


def be_spared_no_more() -> None:
    """A score that protects becomes that of any process; one that does not stays."""
    try:
        with open(SCORE) as file:
            score = int(file.read())
        if score < 0:
            with open(SCORE, "w") as file:
                file.write("0")
    except OSError:  # it runs all the same
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
