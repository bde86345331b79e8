"""A certificate and a user for a server under test."""

from __future__ import annotations

from pathlib import Path

import bcrypt
import trustme

from watchdog.config.web import Pem, Tls

USER = "prometheus"
PASSWORD = "correct horse"
USERS = {USER: bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}


def written(authority: trustme.CA, directory: Path, name: str = "127.0.0.1") -> None:
    """Write a certificate for that name, issued now, as cert.pem and key.pem."""
    leaf = authority.issue_cert(name)
    leaf.private_key_pem.write_to_path(directory / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(directory / "cert.pem")


def certified(authority: trustme.CA, directory: Path, **settings: object) -> Tls:
    """The settings of a server with such a certificate."""
    written(authority, directory)
    cert, key = Pem(key="cert_file", file=f"{directory}/cert.pem"), Pem(key="key_file", file=f"{directory}/key.pem")
    return Tls(cert=cert, key=key, **settings)  # type: ignore[arg-type]
