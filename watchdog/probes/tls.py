"""TLS for probes: the settings, with blackbox_exporter's names, and one context for each distinct setting.

A context costs about 1 MiB (the host's trusted certificates), so it is made when first needed and kept until `forget`
(at reload: the files may have changed).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from watchdog.model import Kind
from watchdog.probes.attempt import Found


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """How a server's certificate is checked. Without `ca_file`, the host's trusted certificates count.

    `cert_file` and `key_file` (PEM) are shown to a server that asks for a client's certificate; `server_name` is the
    name asked for (SNI) and checked, instead of the address's.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None
    insecure_skip_verify: bool = False

    def __post_init__(self) -> None:
        if self.key_file and not self.cert_file:
            raise ValueError("key_file without cert_file; give both")
        for path in (self.ca_file, self.cert_file, self.key_file):
            if path is not None and not path.startswith("/"):
                raise ValueError(f'"{path}" is no absolute path')


def context(config: TlsConfig) -> ssl.SSLContext:
    """The context of a setting. Raises `Found` (*error*) where a file cannot be used."""
    try:
        return _make(config)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        named = [path for path in (config.ca_file, config.cert_file, config.key_file) if path]
        missing = [path for path in named if not _readable(path)]
        what = f"{missing[0]} is not readable" if missing else f"{' or '.join(named)} is not valid PEM: {error}"
        raise Found((Kind.ERROR, f"TLS settings: {what}")) from None


def forget() -> None:
    """Make every context anew when it is next needed."""
    _make.cache_clear()


@lru_cache(maxsize=128)
def _make(config: TlsConfig) -> ssl.SSLContext:
    if config.insecure_skip_verify:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    else:
        made = ssl.create_default_context(cafile=config.ca_file)
    if config.cert_file:
        # A password would be asked for on the terminal: an encrypted key is refused instead.
        made.load_cert_chain(config.cert_file, config.key_file, password=lambda: "")
    return made


def _readable(path: str) -> bool:
    try:
        with Path(path).open("rb"):
            return True
    except OSError:
        return False
