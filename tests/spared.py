"""A process that the kernel spares where memory runs out, as OOMScoreAdjust= of our units has it.

To lower a score takes CAP_SYS_RESOURCE, which a container lacks. So its /proc is another one, in a mount namespace of
its own, which holds nothing but a score, and that is a plain file.
"""

from __future__ import annotations

import subprocess

from tests.systemd.machine import PYTHON, REPOSITORY

WITHIN = """
mount -t tmpfs tmpfs /proc
mkdir /proc/self
echo "$1" >/proc/self/oom_score_adj
exec "$2" -c "$3"
"""


def spared(score: int, code: str) -> str:
    """Run Python code in the repository with this score; what it prints."""
    command = ["unshare", "--mount", "sh", "-euc", WITHIN, "sh", str(score), str(PYTHON), code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
