"""The secrets that settings name: exactly one place each, and readable where the daemon will need them."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from watchdog.config.found import Place, quoted
from watchdog.secret import SecretUnreadable, reveal
from watchdog.settings import Secret

VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"  # what systemd takes, too: systemd.exec(5), Environment=


class Secrets(enum.StrEnum):
    """How hard a check looks at a secret."""

    READ = "read"  # the daemon: a secret that cannot be read is an error
    BESIDE = "beside"  # beside the daemon, before a reload: systemd passes credentials to nobody but the daemon itself
    TRY = "try"  # a person at a terminal: what only the daemon's unit is given is a warning
    SKIP = "skip"  # the helper: it needs none, and has neither the daemon's credentials nor its environment


def look_at(value: Any, place: Place, how: Secrets) -> None:
    """Check every secret in a value: a dataclass, and what it holds."""
    if isinstance(value, Secret):
        if _sound(value, place) and how is not Secrets.SKIP:
            _read(value, place, how)
    elif is_dataclass(value):
        for field in fields(value):
            look_at(getattr(value, field.name), place.at(field.name), how)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            look_at(inner, place.at(str(key)), how)
    elif isinstance(value, tuple | list):
        for index, inner in enumerate(value):
            look_at(inner, place.at(index), how)


def _sound(secret: Secret, place: Place) -> bool:
    given = [field.name for field in fields(secret) if getattr(secret, field.name) is not None]
    if len(given) != 1:
        what = f"{' and '.join(given)} are set" if given else "names no secret"
        place.error(f"{what}; give exactly one of credential, file and env")
        return False
    if secret.file is not None and not secret.file.startswith("/"):
        place.at("file").error("is no absolute path; begin it with / (the value is not shown, it may be the secret)")
        return False
    if secret.credential is not None and ("/" in secret.credential or secret.credential in ("", ".", "..")):
        place.at("credential").error(
            "is no name of a credential; give the name that LoadCredential= has (the value is not shown)"
        )
        return False
    if secret.env is not None and not re.fullmatch(VARIABLE, secret.env):
        place.at("env").error(
            'is no name of an environment variable; write one such as "SNMP_COMMUNITY" (the value is not shown)'
        )
        return False
    return True


def _given_to_units(secret: Secret) -> bool:
    return secret.env is not None or (secret.credential is not None and "CREDENTIALS_DIRECTORY" not in os.environ)


def _read(secret: Secret, place: Place, how: Secrets) -> None:
    if how is Secrets.BESIDE and secret.credential is not None:
        place.warn(f"the credential {quoted(secret.credential)} was not looked at")
        return
    try:
        reveal(secret)
    except SecretUnreadable as error:
        if how is Secrets.TRY and _given_to_units(secret):
            place.warn(f"{error} (here; the daemon's unit may have it)")
        else:
            place.error(str(error))
    except (OSError, ValueError) as error:  # a NUL in a path, a file that is no text
        place.error(f"the secret cannot be read: {error}")
