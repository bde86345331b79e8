"""`epoll-watchdog completion`: the script by which a shell completes our commands."""

from __future__ import annotations

from pathlib import Path

import click

SHELLS = ("bash", "zsh", "fish")
NAME = "epoll-watchdog"
VARIABLE = "_EPOLL_WATCHDOG_COMPLETE"  # as click derives it; packaging/install makes the package's files by it


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), metavar="bash|zsh|fish")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write it there, and make the directory."
)
def command(shell: str, output: Path | None) -> None:
    """Print what makes a shell complete commands, options, services and incidents.

    The package and make install put these scripts where the three shells find them: only who runs epoll-watchdog from
    elsewhere needs this. The script asks the command itself what may come next; names of services and ids of incidents
    come from the running daemon, and where it can't be asked none are offered.

    \b
    Exit status:
      0  it was printed, or written
      2  wrong usage, or a file that can't be written

    \b
    Examples:
      source <(epoll-watchdog completion bash)
      epoll-watchdog completion bash --output ~/.local/share/bash-completion/completions/epoll-watchdog
      epoll-watchdog completion zsh --output ~/.zfunc/_epoll-watchdog   # a directory of fpath
      epoll-watchdog completion fish --output ~/.config/fish/completions/epoll-watchdog.fish
    """
    text = script(shell)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{output}: {error.strerror}") from None


def script(shell: str) -> str:
    """Click's own, for our name."""
    from click.shell_completion import get_completion_class

    from watchdog.cli import main

    kind = get_completion_class(shell)
    assert kind is not None
    return kind(main, {}, NAME, VARIABLE).source()
