"""The completions, in the shells that they are for."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.systemd.machine import Machine

BASH = """
. /usr/share/bash-completion/completions/epoll-watchdog
COMP_WORDS=(epoll-watchdog check-) COMP_CWORD=1
_epoll_watchdog_completion epoll-watchdog
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = "usr/share/zsh/vendor-completions/_epoll-watchdog"


def test_bash_completes_a_command(installed: Machine) -> None:
    assert installed.run("bash", "-c", BASH).stdout.split() == ["check-config"]


def test_fish_completes_a_command(installed: Machine) -> None:
    said = installed.run("fish", "--command", "complete --do-complete 'epoll-watchdog check-'").stdout
    assert [line.split("\t")[0] for line in said.splitlines()] == ["check-config"]


def test_zsh_takes_its_file_for_a_completion_of_ours(tree: Path) -> None:
    done = subprocess.run(["zsh", "-n", tree / ZSH], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tree / ZSH).read_text().startswith("#compdef epoll-watchdog\n")
