"""How long the helper takes for what it does, in seconds: each figure that holds another is made of it.

Nothing is imported here: the brain needs the figures, and the resident helper too, without what they are of.
"""

from __future__ import annotations

from collections.abc import Mapping

# --- a command of the config ------------------------------------------------------------------------------------------
DEADLINE = 180.0  # as much as systemd gives a stop and a start together
STOP_WITHIN = 3.0  # for what a capture leaves behind to end by SIGTERM, and for anybody to be gone after SIGKILL
PATIENCE = 2 * STOP_WITHIN + 2.0  # past the deadline, that systemd is waited for

# --- what follows a capture -------------------------------------------------------------------------------------------
LET_GO_WITHIN = 2.0  # for a debugger that was killed to be gone: its group was, but it is no child of ours
STOPS_WITHIN = 0.2  # for a stop that was on its way to come; it came within 0.01
CONTINUES_WITHIN = 10.0  # for the command that sends SIGCONT
LET_GO_ON = LET_GO_WITHIN + STOPS_WITHIN + CONTINUES_WITHIN + PATIENCE

# --- a verb's worker --------------------------------------------------------------------------------------------------
ASKING = 12.0  # for the bus to be opened, asked and closed, of two commands, and for the disk
TIMEOUTS: Mapping[str, float] = {
    "hello": 1.0,
    "find": 2.0,
    "examine": 1.0,
    "drill": 8.0,  # for the stall and its record; the drill itself outlasts it
    "nudge": 5.0,  # by ptrace 0.8, by a freeze 0.5 and the thaw; systemd has to be asked before and after
    "capture": DEADLINE + PATIENCE + LET_GO_ON + ASKING,
    "restart": 3600.0,  # it bounds itself by the unit's TimeoutStopSec= and TimeoutStartSec=; this is for the rest
}

LOAD_TIMEOUT = 20.0  # for the config to be read; it needs half a second on an idle host
STORING = 4.0  # for the ledger to be on the disk, and the reply on its way
BEFORE = LOAD_TIMEOUT + STORING  # what a request may wait for before and after its worker
