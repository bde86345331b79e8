"""The helper's command line. Read by hand: argparse would cost the resident helper 1 MiB (measured)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

USAGE = """\
usage: python -m watchdog.helper --fd N --config PATH --ledger PATH
       python -m watchdog.helper --config PATH [--ledger PATH] [--peer-user NAME] [--idle SECONDS]
       python -m watchdog.helper --thaw [--ledger PATH]

The helper of epoll-watchdog: all that it does as root. In the first form it serves the other end of a connected stream
socket, until that is closed. In the second, those who come to the listening Unix socket that systemd passes to it
(sd_listen_fds(3)), until nobody has been there for a while. In the third, it thaws what an earlier one froze and did
not thaw, lets go on whom its captures left stopped, undoes its drills, and ends: 0 where nobody stands still by it any
more.

  --config PATH     the TOML file that names the services
  --ledger PATH     where the helper keeps account of what it did; else $STATE_DIRECTORY/ledger.json
  --peer-user NAME  who may ask, beside root
  --idle SECONDS    for how long to wait for anybody; 60
"""


class Options:
    """What the command line says; the defaults."""

    fd: int | None = None
    config: str = ""
    ledger: str | None = None
    peer_user: str | None = None
    idle: float = 60.0
    thaw: bool = False


class WrongUsage(Exception):
    """What is wrong with the command line, in one line; empty: help was asked for."""


_KINDS: Mapping[str, Callable[[str], Any]] = {
    "--fd": int,
    "--config": str,
    "--ledger": str,
    "--peer-user": str,
    "--idle": float,
}


def parse(words: Sequence[str]) -> Options:
    """Raises `WrongUsage`."""
    options = Options()
    rest = iter(words)
    for word in rest:
        name, given, value = word.partition("=")
        if name in ("-h", "--help"):
            raise WrongUsage
        if word == "--thaw":
            options.thaw = True
            continue
        if name not in _KINDS:
            raise WrongUsage(f"there is no option {name!r}")
        if not given and (value := next(rest, "")) == "":
            raise WrongUsage(f"{name} takes a value")
        try:
            setattr(options, name.removeprefix("--").replace("-", "_"), _KINDS[name](value))
        except ValueError:
            raise WrongUsage(f"{name} takes a number, not {value!r}") from None
    if not options.config and not options.thaw:
        raise WrongUsage("--config is missing")
    return options
