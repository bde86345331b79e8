"""What holds for every kind of probe."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from watchdog.probes import PROBES

GOOD = {
    "tcp": {"address": "127.0.0.1:80", "send": "x", "tls": True, "tls_config": {"insecure_skip_verify": True}},
    "unix": {"path": "/run/s", "send": "x", "expect": "y"},
    "http": {
        "url": "https://127.0.0.1:8443/build/version",
        "headers": {"X-A": "b"},
        "valid_status_codes": [200],
        "fail_if_header_matches": [{"header": "A", "regexp": "b"}],
        "basic_auth": {"username": "u", "password": {"env": "P"}},
        "certificate_min_validity": "7d",
    },
    "snmp": {
        "address": "127.0.0.1:161",
        "oid": "1.3.6.1.2.1.1.3.0",
        "community": {"credential": "snmp-community"},
        "expect": [1, "up"],
        "strength": "inside",
        "pid_oid": "1.3.6.1.4.1.45751.1.1.1.4",
    },
    "journal": {"within": "1m", "unit": "web.service", "match": ["PRIORITY=6"]},
    "cpu": {"at_least": "1ms", "within": "10s"},
    "file": {"path": "/run/beat", "within": "30s", "strength": "host"},
    "exec": {"command": ["/bin/check", "{pid}"], "strength": "inside"},
}

WRONG = dict.fromkeys(("address", "path", "url", "within", "command"), 1)


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_pydantic_makes_the_settings_from_what_toml_has(kind: str) -> None:
    made = TypeAdapter(PROBES[kind].settings).validate_python(GOOD[kind])
    assert isinstance(made, PROBES[kind].settings)
    assert PROBES[kind].road(made)


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_pydantic_refuses_what_no_setting_is(kind: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(PROBES[kind].settings).validate_python(WRONG)


def test_every_kind_is_tested_here() -> None:
    assert set(GOOD) == set(PROBES)


def test_importing_the_registry_loads_no_heavy_library() -> None:
    heavy = ("aiohttp", "pysnmp", "pyasn1", "cryptography", "pydantic", "systemd", "yarl")
    script = f"import sys, watchdog.probes; print([m for m in {heavy} if m in sys.modules])"
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]", done.stderr
