"""The journal probe where there is no journal, and on a disk that hangs. tests/systemd has it beside a journald."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.probes.asking import ask
from watchdog.model import Kind, Plane, Strength
from watchdog.probes import journal

ROOT = Path(__file__).parents[2]


async def test_a_service_without_a_process_is_our_own_error() -> None:
    found = await ask("journal", journal.Settings())
    assert (found.kind, found.reason) == (Kind.ERROR, "the service has no process")


ASK = """
import asyncio, os, sys
from tests.hung import hung_mount
from pathlib import Path
from watchdog import probes, target
from watchdog.model import Epoch
from watchdog.probes.deadline import Deadline

def asked(kind, within_s, **settings):
    deadline = Deadline(asyncio.get_running_loop().time() + within_s)
    epoch = Epoch(os.getpid(), target.start_time(os.getpid()))
    return probes.PROBES[kind].probe(probes.PROBES[kind].settings(**settings), epoch, deadline)

async def main():
    found = await asyncio.gather(asked("journal", 0.3), asked("journal", 0.3, unit="a.service"), asked("cpu", 0.3))
    await probes.close()
    for each in (*found, await asked("journal", 0.1)):
        print(each.kind, each.reason)

"""
NO_JOURNAL = """
import subprocess
for place in ("/var/log/journal", "/run/log"):
    Path(place).mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
asyncio.run(main())
"""
HUNG = """
Path("/var/log/journal").mkdir(exist_ok=True)
with hung_mount(Path("/var/log/journal")):
    asyncio.run(main())
"""


def said(script: str) -> list[str]:
    """What three probes say, and a fourth after a reload, where only that process sees what it mounts."""
    argv = ["unshare", "--mount", "--propagation", "private", "--", sys.executable, "-c", ASK + script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_host_without_a_journal_is_our_own_error() -> None:
    first, second, _, _ = said(NO_JOURNAL)
    assert first == second == "error there is no journal in /run/log/journal or /var/log/journal"


def test_a_disk_that_hangs_is_our_own_error_and_stops_neither_other_probes_nor_the_end() -> None:
    first, second, cpu, reloaded = said(HUNG)
    assert first.startswith("error its disk hangs: the journal was not read in ")
    assert second.startswith("error its disk hangs: the journal was not read in ")
    assert cpu.startswith("alive ")
    assert reloaded.startswith("error its disk hangs: the journal was not read in ")


def test_a_witness_of_that_very_process() -> None:
    road = journal.road(journal.Settings())
    assert (road.plane, road.strength) == (Plane.WITNESS, Strength.PROCESS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"within": 0.0}, "0s is too short"),
        ({"unit": "web"}, "is no unit that writes"),
        ({"unit": "multi-user.target"}, "is no unit that writes"),
        ({"match": ("PRIORITY",)}, "write FIELD=value"),
        ({"match": ("priority=3",)}, "write FIELD=value"),
        ({"match": ("__CURSOR=3",)}, "write FIELD=value"),
        ({"match": ("PRIORITY=",)}, "write FIELD=value"),
    ],
)
def test_settings_are_refused_with_what_would_be_right(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        journal.Settings(**settings)  # type: ignore[arg-type]
