"""The web configuration as plain values, and the TLS context they make: what `web_config` names, once it was checked.

The file is that of Prometheus' exporters (github.com/prometheus/exporter-toolkit, docs/web-configuration.md);
`web_file.py` reads it. This is what the resident process has of it: no YAML.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

NONE, IF_GIVEN, REQUIRED = "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
VERSIONS: Mapping[str, ssl.TLSVersion] = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
CURVES: Mapping[str, str] = {  # Go's names (crypto/tls, CurveID) and OpenSSL's
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
CIPHERS: Mapping[str, str] = {  # Go's names of what its tls.CipherSuites() has for TLS 1.2, and OpenSSL's
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
OF_TLS13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""May be named too, and are always on: neither Go nor Python lets a program choose among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pem:
    """Something in PEM: in a file, or as it stands in the web configuration. `key` is the name of its key there."""

    key: str
    file: str | None = None
    text: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The table `tls_server_config`. `client_auth` is one of `NONE`, `IF_GIVEN`, `REQUIRED`."""

    cert: Pem
    key: Pem
    client_ca: Pem | None = None
    client_auth: str = NONE
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Those that are read anew when they change."""
        return tuple(pem.file for pem in (self.cert, self.key, self.client_ca) if pem is not None and pem.file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The table `rate_limit`: a token bucket that holds `burst` and gets one each `interval` seconds."""

    interval: float
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Web:
    """The whole file. `users` are names with their passwords' bcrypt hashes; `headers` go to each answer."""

    tls: Tls | None = None
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    rate: Rate | None = None

    @property
    def authenticates(self) -> bool:
        """Whether nobody is answered who did not say who he is."""
        return bool(self.users) or (self.tls is not None and self.tls.client_auth == REQUIRED)


class TlsUnusable(Exception):
    """No context can be made. `key` is the name of the setting that is at fault; the text says why."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key, self.why = key, why


def context(tls: Tls) -> ssl.SSLContext:
    """What a server speaks TLS with. It reads files, so it may wait. Raises `TlsUnusable`."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version, made.maximum_version = VERSIONS[tls.min_version], VERSIONS[tls.max_version]
    made.set_alpn_protocols(["http/1.1"])
    if tls.prefer_server_cipher_suites:
        made.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        made.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if suites := [CIPHERS[suite] for suite in tls.cipher_suites if suite in CIPHERS]:
        made.set_ciphers(":".join(suites))
    if tls.curve is not None:
        try:
            made.set_ecdh_curve(CURVES[tls.curve])
        except (ssl.SSLError, ValueError):  # X25519, before Python 3.12
            raise TlsUnusable("curve_preferences", f"{tls.curve} can't be chosen with this Python's ssl") from None
    with _named(tls.cert) as cert, _named(tls.key) as key:
        try:
            made.load_cert_chain(cert, key, password=_no_password)
        except ssl.SSLError as error:
            raise TlsUnusable(tls.cert.key, f"is no certificate of {tls.key.key}'s key ({_reason(error)})") from None
        except (OSError, ValueError) as error:
            raise TlsUnusable(tls.key.key, str(error)) from None
    if tls.client_auth != NONE and tls.client_ca is not None:
        with _named(tls.client_ca) as authority:
            try:
                made.load_verify_locations(authority)
            except (ssl.SSLError, OSError) as error:
                raise TlsUnusable(tls.client_ca.key, f"holds no certificate in PEM ({_reason(error)})") from None
        made.verify_mode = ssl.CERT_REQUIRED if tls.client_auth == REQUIRED else ssl.CERT_OPTIONAL
    return made


def _no_password() -> str:
    raise ValueError("the key is encrypted, and nobody is there to type its password; write it without one")


@contextlib.contextmanager
def _named(pem: Pem) -> Iterator[str]:
    """A path that OpenSSL can open: for a text, of a file that only this process has."""
    if pem.file is not None:
        try:
            os.close(os.open(pem.file, os.O_RDONLY | os.O_CLOEXEC))
        except (OSError, ValueError) as error:
            raise TlsUnusable(pem.key, f"{pem.file} can't be read: {getattr(error, 'strerror', error)}") from None
        yield pem.file
        return
    with open(os.memfd_create(pem.key), "wb", buffering=0) as file:  # noqa: PTH123 (a descriptor has no Path)
        file.write((pem.text or "").encode())
        yield f"/proc/self/fd/{file.fileno()}"


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or "unreadable"
