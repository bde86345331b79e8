"""The quick start, run as a new user would on a machine that has never seen us: docs/quick-start.md is its transcript.

Only the first command is not run here, `make deb`: it packs this tree, and what it leaves in dist/ is what
`installed.package` has built of it by the same script. Numbers are not compared, nor how a table broke its lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.servers import until
from tests.systemd.installed import package
from tests.systemd.machine import REPOSITORY, Machine, booted, missing

GUIDE = (REPOSITORY / "docs/quick-start.md").read_text()
README = (REPOSITORY / "README.md").read_text()
BLOCK = re.compile(r"(?ms)^```\n(.*?)^```$")
CLONE = "/var/tmp/epoll-watchdog"
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)*(ms|s\b)?")
ELIDED = "…"


def steps() -> Iterator[tuple[str, str]]:
    """Each command of the transcript with what it printed."""
    for block in BLOCK.findall(GUIDE):
        for step in re.split(r"(?m)^\$ ", block)[1:]:
            command, _, printed = step.partition("\n")
            yield command, printed


STEPS = tuple(steps())
COMMANDS = [command for command, _ in STEPS]


def five_of_the_readme() -> list[str]:
    section = README.partition("\n## Guard a service of your own\n")[2].partition("\n## ")[0]
    first = re.findall(r"(?m)(?:^    .+\n)+", section)[0]
    return [line.partition("  #")[0].strip() for line in first.splitlines()]


def lines(printed: str) -> list[str]:
    """Without numbers, and without the widths that follow from them."""
    return [" ".join(NUMBER.sub("0", line).split()) for line in printed.splitlines()]


def is_as_told(said: str, told: str) -> bool:
    """Whether a command says what the transcript tells; of one that is told in parts, whether it says those."""
    if ELIDED in told:
        return set(lines(told)) - {ELIDED} <= set(lines(said))
    return sorted(" ".join(lines(said)).split()) == sorted(" ".join(lines(told)).split())


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Debian's nginx and snmpd, and a clone in which the package has just been made."""
    if lack := missing():
        pytest.fail(f"a test machine needs {lack}")
    deb = package()
    with booted(tmp_path_factory.mktemp("new")) as machine:
        machine.run("rm", "-f", "/usr/sbin/policy-rc.d")  # some images of containers forbid every start by it
        machine.systemctl("unmask", "nginx.service", "snmpd.service")
        machine.systemctl("start", "nginx.service", "snmpd.service")
        machine.run("rm", "-rf", CLONE)
        machine.run("install", "-D", "-t", f"{CLONE}/dist", deb)
        yield machine


def typed(machine: Machine, command: str, *, check: bool = True) -> str:
    """What a command prints, on both its channels."""
    script = f"cd {CLONE} && {{ {command}\n}} 2>&1"
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    return machine.run("bash", "-c", script, check=check, env=environment, timeout=300).stdout  # apt compiles it all


def test_the_five_commands_of_the_readme_are_the_first_five_of_the_transcript() -> None:
    assert five_of_the_readme() == COMMANDS[:5]
    assert COMMANDS[0] == "make deb"


@pytest.mark.parametrize(
    ("command", "told"), STEPS[1:], ids=[f"{n}-{c.split()[0]}" for n, c in enumerate(COMMANDS[1:])]
)
def test_a_command_says_what_the_transcript_tells(new: Machine, command: str, told: str) -> None:
    """In their order, in one machine. What the daemon sees is told a moment after its start."""
    said = [typed(new, command, check="status" not in command)]
    if "status" in command:

        def again() -> bool:
            said.append(typed(new, command, check=False))
            return is_as_told(said[-1], told)

        until(again, 20, f"{told}\nnot {said[-1]}")

    assert is_as_told(said[-1], told), said[-1]
