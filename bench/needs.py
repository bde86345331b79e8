"""What a section needs and this host may lack: programs from Debian packages, root, features of the kernel."""

from __future__ import annotations

import os
import shutil


class Missing(Exception):
    """A section can't be measured here; the text says what to do about it."""


def programs(**packages: str) -> None:
    """Raise `Missing` unless every program (with `_` for `-`) is there; `packages` tells where each comes from."""
    lacking = {name.replace("_", "-"): package for name, package in packages.items()}
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = {name: package for name, package in lacking.items() if shutil.which(name, path=path) is None}
    if lacking:
        names = ", ".join(lacking)
        raise Missing(f"there is no {names}; as root: apt-get install {' '.join(sorted(set(lacking.values())))}")


def root(why: str) -> None:
    """Raise `Missing` unless this is root."""
    if os.geteuid() != 0:
        raise Missing(f"only root {why}; run it as root")
