"""Runs in the lab's machine, by Debian's python3: the commands that this host wants run, one after the other.

A command is a file in a directory that both see, as JSON; so is what came of it. Their numbers alone go over a serial
line, that both ends wait on: it is no place for much data (300 KB to here stuck in it). 0 says that this end is there.
`machine.py` is the other end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tty
from pathlib import Path
from typing import Any


def perform(request: dict[str, Any]) -> dict[str, Any]:
    """Run one command."""
    try:
        done = subprocess.run(
            request["argv"],
            env=request["env"],
            input=request["stdin"],
            timeout=request["timeout"],
            capture_output=True,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return {"timed_out": True}
    except OSError as error:
        return {"code": 127, "stdout": "", "stderr": f"{error}\n"}
    return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def main() -> None:
    """Serve the line for ever."""
    device = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
    shared = Path(sys.argv[2])
    tty.setraw(device)
    os.write(device, b"0\n")
    with open(device, "rb", closefd=False) as numbers:
        for line in numbers:
            if line.isspace():  # the other end asks whether something was overlooked
                continue
            number = int(line)
            answer = perform(json.loads((shared / f"{number}.request").read_text()))
            (shared / f"{number}.answer").write_text(json.dumps(answer))
            os.write(device, line)


if __name__ == "__main__":
    main()
