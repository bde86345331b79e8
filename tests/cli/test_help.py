from __future__ import annotations

import pytest
from click.testing import CliRunner

from watchdog import __version__
from watchdog.cli import COMMANDS, main


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"epoll-watchdog, version {__version__}\n"


def test_every_command_is_listed_with_what_it_does() -> None:
    listed = CliRunner().invoke(main, ["--help"]).output.partition("Commands:")[2]
    assert [line.split()[0] for line in listed.strip().splitlines()] == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: main {name} ")


def test_a_command_that_does_not_exist_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["restrat"]).exit_code == 2
