"""Secrets as a real systemd hands them to a unit: a directory as a whole, or one by its own name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.systemd.machine import REPOSITORY, Machine
from tests.systemd.test_journal_lines import run_as_unit

DIRECTORY = "/etc/epoll-watchdog/credentials"
REVEAL = """
import pathlib, sys
from watchdog.secret import SecretUnreadable, reveal
from watchdog.settings import Secret

try:
    said = "revealed " + reveal(Secret(credential="community"))
except SecretUnreadable as error:
    said = f"unreadable {error}"
pathlib.Path("/run/revealed/said").write_text(said)
"""
# DynamicUser= brings PrivateTmp=: where this repository lies in /tmp, it would be out of sight.
AS_THE_BRAIN = (
    *("DynamicUser=yes", "RuntimeDirectory=revealed", "RuntimeDirectoryPreserve=yes"),
    f"BindReadOnlyPaths={REPOSITORY}",
)
WHOLE = f"LoadCredential=epoll-watchdog:{DIRECTORY}"


def revealed(machine: Machine, *properties: str) -> str:
    """What a unit of an unprivileged user makes of its credential."""
    run_as_unit(machine, "revealing", REVEAL, *AS_THE_BRAIN, *properties)
    return machine.run("cat", "/run/revealed/said").stdout


@pytest.fixture(scope="module", autouse=True)
def credentials(machine: Machine) -> Iterator[None]:
    """Root's directory with one secret in it."""
    machine.run("install", "-d", "-m", "0700", DIRECTORY)
    machine.write_file(f"{DIRECTORY}/community", "of-the-directory\n", 0o600)
    machine.write_file("/run/other", "by-its-name\n", 0o600)
    yield
    machine.run("rm", "-r", DIRECTORY, "/run/other")


def test_a_file_put_into_the_directory_reaches_the_unprivileged_unit(machine: Machine) -> None:
    assert revealed(machine, WHOLE) == "revealed of-the-directory"


def test_a_drop_in_comes_first(machine: Machine) -> None:
    assert revealed(machine, WHOLE, "LoadCredential=community:/run/other") == "revealed by-its-name"


def test_a_unit_that_is_handed_nothing_can_not_read_it_and_is_told_what_to_do(machine: Machine) -> None:
    where = f"{DIRECTORY}/community"
    assert revealed(machine).startswith(f'unreadable the credential "community": {where}: Permission denied; put it ')
