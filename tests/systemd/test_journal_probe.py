"""The journal probe beside a real journald: whose entries count, of which life, and who may read them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.servers import until
from tests.systemd.machine import Machine

AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
IN_THE_GROUP = ("setpriv", "--reuid=65534", "--regid=65534", "--groups=systemd-journal")
ASK = """
import asyncio, json, subprocess, sys
from watchdog import target
from watchdog.model import Epoch
from watchdog.probes import journal
from watchdog.probes.deadline import Deadline

between, pid, invocation, settings = sys.argv[1].split(), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
if "match" in settings:
    settings["match"] = tuple(settings["match"])

async def ask():
    deadline = Deadline(asyncio.get_running_loop().time() + 5)
    epoch = Epoch(pid, target.start_time(pid), invocation)
    found = await journal.probe(journal.Settings(**settings), epoch, deadline)
    print(found.kind, found.reason, flush=True)

async def main():
    await ask()
    if between:
        subprocess.run(between, check=True)
        await ask()

asyncio.run(main())
"""

# Each writes when it is told to, through a FIFO: a line and by whom.
TALKER = """
[Service]
RuntimeDirectory={name}
Delegate=yes
ExecStart=/bin/sh -c 'mkfifo /run/{name}/say; while :; do read line </run/{name}/say && {says}; done'
"""
SAYS = {
    "main": 'echo "$$line"',
    "child": '/bin/sh -c "echo $$line"',
    # It stays until journald has read whose process it is: of one that is gone nobody knows the unit.
    "syslog": '{ echo "$$line"; sleep 1; } | logger --tag other',
    "sub-cgroup": (
        "( cgroup=/sys/fs/cgroup$$(sed -n s/^0:://p /proc/self/cgroup); mkdir -p $$cgroup/sub; "
        '/bin/sh -c "echo \\\\$$\\\\$$ >$$cgroup/sub/cgroup.procs; echo $$line; cat /proc/self/cgroup" )'
    ),
}


class Talker:
    """A unit that writes to the journal when it is told to."""

    def __init__(self, machine: Machine, how: str) -> None:
        self.machine, self.name = machine, f"talker-{how}"
        self.unit = machine.add_unit(f"{self.name}.service", TALKER.format(name=self.name, says=SAYS[how]), start=True)
        self.machine.run("sh", "-c", f"until [ -p /run/{self.name}/say ]; do sleep 0.01; done")

    @property
    def pid(self) -> int:
        return int(self.machine.show(self.unit, "MainPID"))

    def say(self, line: str) -> None:
        """Let it write, and wait until that is in the journal."""
        self.machine.run("sh", "-c", f"echo {line} >/run/{self.name}/say")
        until(lambda: line in self.machine.run("journalctl", "-b", "-o", "cat").stdout, 10, f"the entry {line}")

    def asked(
        self, *before: str, between: str = "", invocation: str | None = None, **settings: object
    ) -> tuple[str, ...]:
        """What the probe says, once; or twice, with a command in between."""
        life = self.machine.show(self.unit, "InvocationID") if invocation is None else invocation
        arguments = (between, str(self.pid), life, json.dumps(settings))
        return tuple(self.machine.python(ASK, *arguments, before=before).splitlines())


@pytest.fixture(scope="module")
def talker(machine: Machine) -> Iterator[Talker]:
    """One whose main process writes itself, and has written."""
    talking = Talker(machine, "main")
    talking.say("begun")
    yield talking
    machine.systemctl("stop", talking.unit)


@pytest.fixture
def quiet(machine: Machine) -> Iterator[Talker]:
    """One that has written nothing yet."""
    talking = Talker(machine, "child")
    yield talking
    machine.systemctl("stop", talking.unit)


def test_a_unit_that_wrote_lately_is_alive(talker: Talker) -> None:
    (said,) = talker.asked()
    assert said.startswith("alive the last entry came ")


def test_what_systemd_says_of_a_unit_is_no_sign_of_its_life(quiet: Talker) -> None:
    (said,) = quiet.asked()
    assert said.startswith("silent no entry since the process began ")


def test_an_entry_that_is_too_old_is_silence(talker: Talker) -> None:
    (said,) = talker.asked(within=0.001)
    assert said.startswith("silent the last entry came ")
    assert said.endswith("ago, expected one within 1ms")


@pytest.mark.parametrize("how", ["child", "syslog"])
def test_every_process_of_the_unit_counts(machine: Machine, how: str) -> None:
    talking = Talker(machine, how)
    before = talking.asked()
    talking.say(f"hello-from-{how}")
    after = talking.asked()
    machine.systemctl("stop", talking.unit)
    assert (before[0].split()[0], after[0].split()[0]) == ("silent", "alive")


def test_a_process_in_a_sub_cgroup_of_the_unit_counts(machine: Machine) -> None:
    talking = Talker(machine, "sub-cgroup")
    talking.say("hello-from-below")
    (said,) = talking.asked()
    machine.systemctl("stop", talking.unit)
    assert "/talker-sub-cgroup.service/sub\n" in machine.run("journalctl", "-b", "-o", "cat").stdout
    assert said.startswith("alive ")


def test_what_another_life_wrote_does_not_count(quiet: Talker) -> None:
    quiet.say("in-the-first-life")
    before = quiet.asked()
    quiet.machine.systemctl("restart", quiet.unit)
    after = quiet.asked()
    assert before[0].startswith("alive ")
    assert after[0].startswith("silent no entry since the process began ")


def test_another_unit_may_be_named_and_its_entries_of_before_do_not_count(talker: Talker, quiet: Talker) -> None:
    (of_before,) = quiet.asked(unit=talker.unit)
    talker.say("for-another-unit")
    (said,) = quiet.asked(unit=talker.unit)
    assert of_before.startswith("silent no entry since the process began ")
    assert said.startswith("alive ")


def test_a_service_that_is_no_unit_is_known_by_its_main_process(talker: Talker, quiet: Talker) -> None:
    quiet.say("by-a-child")
    (of_its_child,) = quiet.asked(invocation="")
    (own,) = talker.asked(invocation="")
    assert of_its_child.startswith("silent ")
    assert own.startswith("alive ")


def test_a_match_narrows_it(talker: Talker) -> None:
    (other,) = talker.asked(match=["SYSLOG_IDENTIFIER=nobody"])
    (same,) = talker.asked(match=["SYSLOG_IDENTIFIER=nobody", "SYSLOG_IDENTIFIER=sh", "PRIORITY=6"])
    assert other.startswith("silent ")
    assert same.startswith("alive ")


def test_a_reader_follows_a_journal_that_is_rotated(quiet: Talker) -> None:
    script = f"journalctl --rotate && echo after-the-rotation >/run/{quiet.name}/say\n"
    wait = "until journalctl -b -o cat | grep -q after-the-rotation; do :; done\n"
    quiet.machine.write_file("/run/rotate", script + wait)
    before, after = quiet.asked(between="sh /run/rotate")
    assert before.startswith("silent ")
    assert after.startswith("alive ")


def test_without_the_group_it_is_our_own_error_with_the_drop_in_to_add(talker: Talker) -> None:
    (said,) = talker.asked(*AS_NOBODY)
    assert said == (
        'error may not read the journal: add "[Service]", "SupplementaryGroups=systemd-journal" as a drop-in to '
        "epoll-watchdog.service"
    )


def test_the_group_is_all_that_it_takes(talker: Talker) -> None:
    (said,) = talker.asked(*IN_THE_GROUP)
    assert said.startswith("alive ")
