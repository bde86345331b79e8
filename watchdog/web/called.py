"""What a listener of this host alone may be called by its clients: a guard against DNS rebinding.

Rules of this file. A website's name can be made to lead to 127.0.0.1, and then its script reads what a browser is
answered there; the browser still says in `Host` whom it means. So a listener that only this host reaches (loopback, a
Unix socket), and that asks for neither a password nor TLS, answers to an IP address, to localhost, and to what it is
called in the configuration. One that others reach may have any name. Who sends no `Host` is no browser.

Facts: RFC 9110, 7.2 (Host) and 15.5.20 (421); RFC 6761, 6.3 (localhost and what is below it).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

REFUSED = "it is not called so here; a proxy before it must send the address that it asks as Host, or localhost"


def is_called(header: str | None, names: Collection[str]) -> bool:
    """Whether a request with this `Host` is meant for a listener with these names, in lower case."""
    if header is None:
        return True
    try:
        host = (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return False
    return host == "localhost" or host.endswith(".localhost") or host in names or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False
