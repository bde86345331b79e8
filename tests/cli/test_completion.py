from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from watchdog.cli import COMMANDS, main
from watchdog.cli.completion import NAME, SHELLS, VARIABLE

BASH = """
. "$1"
COMP_WORDS=(epoll-watchdog expl) COMP_CWORD=1
_epoll_watchdog_completion epoll-watchdog
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which the command is found first."""
    command = tmp_path / "bin" / NAME
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m watchdog "$@"\n')
    command.chmod(0o755)
    return f"{command.parent}:{os.environ['PATH']}"


def written(shell: str, directory: Path) -> Path:
    """The script, by the command."""
    output = directory / "made" / shell
    done = CliRunner().invoke(main, ["completion", shell, "--output", str(output)])
    assert (done.exit_code, done.output) == (0, "")
    return output


def run(command: list[str | Path], path: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PATH": path})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_bash_completes_a_command(tmp_path: Path, path: str) -> None:
    assert run(["bash", "-c", BASH, "bash", written("bash", tmp_path)], path).split() == ["explain"]


def test_fish_completes_a_command(tmp_path: Path, path: str) -> None:
    ask = f"source {written('fish', tmp_path)}; complete --do-complete 'epoll-watchdog expl'"
    said = run(["fish", "--no-config", "--command", ask], path)
    assert [line.split("\t")[0] for line in said.splitlines()] == ["explain"]


def test_zsh_takes_its_script_for_a_completion_of_ours(tmp_path: Path, path: str) -> None:
    script = written("zsh", tmp_path)
    run(["zsh", "-n", script], path)
    assert script.read_text().startswith("#compdef epoll-watchdog\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_it_is_what_the_package_installs(shell: str) -> None:
    packaged = subprocess.run(
        [sys.executable, "-P", "-m", "watchdog"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, VARIABLE: f"{shell}_source"},
    )
    assert CliRunner().invoke(main, ["completion", shell]).output == packaged.stdout


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main, ["completion", "bash", "--output", str(tmp_path / "file" / "below")])
    assert done.exit_code == 2
    assert "below: " in done.output


def test_a_shell_that_is_not_known_is_wrong_usage() -> None:
    assert CliRunner().invoke(main, ["completion", "tcsh"]).exit_code == 2


def test_every_command_is_offered() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "watchdog"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, VARIABLE: "bash_complete", "COMP_WORDS": f"{NAME} ", "COMP_CWORD": "1"},
    )
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == set(COMMANDS)
