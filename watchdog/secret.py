"""Reads secrets from where the config says that they are kept.

A credential NAME is a file that systemd hands to the unit, under its own name (LoadCredential=NAME:…) or under that of
`CREDENTIALS`, the directory that our unit loads as a whole: its files come as "epoll-watchdog_NAME". Who runs a command
by hand has neither, and reads that directory himself, if he may.

Rules of this file: a value is never part of a message; it is read when first needed and kept until `forget` (at reload,
when a rotated secret must be read anew). One newline at the end is no part of a secret: editors add it.

Source: systemd.exec(5), LoadCredential= and $CREDENTIALS_DIRECTORY; systemd.io/CREDENTIALS.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from watchdog.settings import Secret

CREDENTIALS = Path("/etc/epoll-watchdog/credentials")
LOADED_AS = "epoll-watchdog_"  # by LoadCredential=epoll-watchdog:/etc/epoll-watchdog/credentials
MAX_BYTES = 1 << 20  # systemd's own limit for the credentials of a unit

_known: dict[Secret, str] = {}


class SecretUnreadable(Exception):
    """A secret could not be read. The text says where it was looked for and what would be right, never the value."""


def reveal(secret: Secret) -> str:
    """The value of a secret. Raises `SecretUnreadable`."""
    value = _known.get(secret)
    if value is None:
        value = _known[secret] = _read(secret)
    return value


def variables(settings: Any) -> frozenset[str]:
    """The environment variables that hold secrets of these settings: a dataclass, and what it holds."""
    if isinstance(settings, Secret):
        return frozenset() if settings.env is None else frozenset([settings.env])
    inner: Iterable[Any] = ()
    if is_dataclass(settings):
        inner = (getattr(settings, field.name) for field in fields(settings))
    elif isinstance(settings, Mapping):
        inner = settings.values()
    elif isinstance(settings, tuple | list):
        inner = settings
    return frozenset().union(*map(variables, inner))


def forget() -> None:
    """Read every secret anew when it is next needed."""
    _known.clear()


def _read(secret: Secret) -> str:
    if secret.env is not None:
        value = os.environ.get(secret.env)
        if value is None:
            raise SecretUnreadable(
                f"the environment variable {secret.env} is not set; set it in the unit (Environment=, EnvironmentFile=)"
            )
    elif secret.file is not None:
        value = _content(Path(secret.file), "the file must be readable by the user of this process")
    else:
        value = _credential(secret.credential or "")
    if not value:
        raise SecretUnreadable(f"{_place(secret)} is empty; it must hold the secret")
    return value


def _credential(name: str) -> str:
    hint = f"put it into {CREDENTIALS / name} (of root, mode 0600) and restart epoll-watchdog"
    if not (directory := os.environ.get("CREDENTIALS_DIRECTORY")):
        return _content(CREDENTIALS / name, hint, f'the credential "{name}": ')
    for path in (Path(directory, name), Path(directory, LOADED_AS + name)):
        if os.path.lexists(path):
            return _content(path, hint)
    raise SecretUnreadable(f'the credential "{name}" was not passed to the unit; {hint}')


def _content(path: Path, hint: str, what: str = "") -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SecretUnreadable(f"{what}{path}: {error.strerror}; {hint}") from None
    if len(data) > MAX_BYTES:
        raise SecretUnreadable(f"{path} is larger than 1 MiB: that is no secret")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SecretUnreadable(f"{path} is not UTF-8 text; a secret is text") from None
    return text.removesuffix("\n").removesuffix("\r")


def _place(secret: Secret) -> str:
    if secret.env is not None:
        return f"the environment variable {secret.env}"
    return f"the file {secret.file}" if secret.file is not None else f'the credential "{secret.credential}"'
