"""The web configuration: the words of exporter-toolkit, and what is said where they can't be kept."""

from __future__ import annotations

from pathlib import Path

import bcrypt
import pytest
import trustme

from tests.web.certified import written
from watchdog.config import Config, ConfigInvalid
from watchdog.config.check import check
from watchdog.config.secrets import Secrets
from watchdog.config.web import REQUIRED, Rate

SALT = b"$2b$04$" + b"." * 22  # the same each time: it is a part of test names
HASH = bcrypt.hashpw(b"secret", SALT).decode()
SERVICE = '[service.web]\nunit = "web.service"\n[service.web.probe.tcp]\ntype = "tcp"\naddress = "127.0.0.1:80"\n'
TLS = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    written(authority, directory)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    return directory


def read(directory: Path, content: str, listen: str = '"127.0.0.1:9797"', secrets: Secrets = Secrets.READ) -> Config:
    """A config that names such a file, in the directory of the certificates."""
    (directory / "web.yml").write_text(content)
    http = f'[http]\nlisten = {listen}\nweb_config = "{directory}/web.yml"\n'
    (directory / "config.toml").write_text(f"{http}{SERVICE}send = 'x'\n")
    return check(directory / "config.toml", secrets)


def test_what_the_toolkit_has_is_read(certificates: Path) -> None:
    web = read(
        certificates,
        f"""{TLS}  client_ca_file: ca.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [a.example.org]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP384]
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
    Content-Security-Policy: ""
basic_auth_users:
  prometheus: {HASH}
rate_limit:
  interval: 500ms
  burst: 5
""",
    ).web
    assert web.tls is not None
    assert web.tls.cert.file == f"{certificates}/cert.pem"
    assert (web.tls.client_auth, web.tls.client_allowed_sans, web.tls.curve) == (
        REQUIRED,
        ("a.example.org",),
        "CurveP384",
    )
    assert (web.users, web.headers) == ({"prometheus": HASH}, {"X-Frame-Options": "deny"})
    assert web.rate == Rate(interval=0.5, burst=5)
    assert HASH not in repr(web)


@pytest.mark.parametrize("content", ["", "# nothing\n", "tls_server_config: {}\n", "basic_auth_users:\n"])
def test_a_file_with_nothing_in_it_changes_nothing(certificates: Path, content: str) -> None:
    web = read(certificates, content).web
    assert (web.tls, dict(web.users), web.authenticates) == (None, {}, False)


TLS_KEY = "tls_server_config"
WRONG = [
    ("tls_server_confg: {}", 'tls_server_confg: is no key; did you mean "tls_server_config"?'),
    ("- a", "is no mapping; write keys"),
    ("a: [", "is no YAML at line"),
    ("a: &x 1\nb: *x", "is no YAML at line 2"),
    ("a: 1\na: 2", "has a key twice in one mapping"),
    ("tls_server_config: {cert_file: cert.pem}", f"{TLS_KEY}: has no key; give key_file"),
    ("tls_server_config: {cert_file: no.pem, key_file: key.pem}", f"{TLS_KEY}.cert_file: "),
    ("tls_server_config: {cert_file: ca.pem, key_file: key.pem}", "cert_file: is no certificate of key_file's key"),
    (f"{TLS}  cert: x", f"{TLS_KEY}.cert: stands beside cert_file"),
    (f"{TLS}  client_auth_type: RequestClientCert", "takes certificates that nobody verified"),
    (f"{TLS}  client_auth_type: RequireAnyClientCert", "takes certificates that nobody verified"),
    (f"{TLS}  client_auth_type: RequireAndVerifyClient", 'did you mean "RequireAndVerifyClientCert"?'),
    (f"{TLS}  client_auth_type: VerifyClientCertIfGiven", "needs the CA of the clients' certificates"),
    (f"{TLS}  client_ca_file: ca.pem", "is given, and no client is asked"),
    (f"{TLS}  client_ca_file: key.pem\n  client_auth_type: VerifyClientCertIfGiven", "holds no certificate in PEM"),
    (f"{TLS}  client_allowed_sans: [a]", "client_allowed_sans: needs a client that has a certificate"),
    (f"{TLS}  min_version: TLS10", '"TLS10" is not spoken here'),
    (f"{TLS}  min_version: TLS13\n  max_version: TLS12", "is above max_version"),
    (f"{TLS}  cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]", "cipher_suites[0]: "),
    (f"{TLS}  cipher_suites: [TLS_AES_128_GCM_SHA256]", "names none for TLS 1.2"),
    (f"{TLS}  curve_preferences: [X25519, CurveP256]", "names several"),
    (f"{TLS}  curve_preferences: [P256]", "curve_preferences[0]: "),
    (f"{TLS}  min_version: 1.2", "min_version: 1.2 is no string"),
    ("http_server_config: {http2: true}", "HTTP/2 is not spoken here"),
    ("http_server_config: {headers: {Set-Cookie: x}}", "headers.Set-Cookie: can't be set"),
    ("http_server_config: {headers: {X-Frame-Options: no}}", "is no string"),
    ("http_server_config: {headers: {X-Frame-Options: 'no'}}", '"no" is not taken; write deny or sameorigin'),
    ('http_server_config: {headers: {X-XSS-Protection: "a\\nb"}}', "has a line break"),
    ("basic_auth_users: {a: geheim}", "basic_auth_users.a: is no bcrypt hash"),
    (f"basic_auth_users: {{'a:b': {HASH}}}", "has a name that no client can send"),
    ("rate_limit: {interval: 1s}", "would let nothing through"),
    ("rate_limit: {interval: soon, burst: 1}", "'soon' is no duration"),
]


@pytest.mark.parametrize(("content", "told"), WRONG)
def test_what_is_wrong_is_told_at_its_place(certificates: Path, content: str, told: str) -> None:
    with pytest.raises(ConfigInvalid) as raised:
        read(certificates, content)
    text = str(raised.value)
    assert told in text
    assert text.startswith(f"{certificates}/web.yml: ")
    assert "geheim" not in text


def test_a_file_that_is_not_there_is_told_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'[http]\nweb_config = "{tmp_path}/no.yml"\n{SERVICE}')
    with pytest.raises(ConfigInvalid, match=r"http\.web_config: .*no\.yml can't be read: No such file"):
        check(tmp_path / "config.toml")


def test_the_helper_looks_at_no_web_configuration(certificates: Path) -> None:
    assert not read(certificates, "nonsense: [", secrets=Secrets.SKIP).web.users


@pytest.mark.parametrize(
    ("listen", "content", "warned"),
    [
        ('"0.0.0.0:9797"', "", "whoever reaches 0.0.0.0:9797 may read"),
        ('["127.0.0.1:1", "[::]:9797"]', "", "http.listen[1]: whoever reaches [::]:9797"),
        ('"host.example.org:1"', "", "whoever reaches"),
        ('"0.0.0.0:9797"', f"basic_auth_users: {{a: {HASH}}}", "passwords come to 0.0.0.0:9797 unencrypted"),
        ('"0.0.0.0:9797"', f"{TLS}basic_auth_users: {{a: {HASH}}}", ""),
        ('["127.0.0.2:1", "[::1]:1", "localhost:1", "unix:/run/x/web.sock", "systemd"]', "", ""),
        ('"127.0.0.1:1"', f"basic_auth_users: {{a: {HASH[:4]}17{HASH[6:]}}}", "its first request takes seconds"),
    ],
)
def test_an_open_door_is_warned_of(certificates: Path, listen: str, content: str, warned: str) -> None:
    told = [text for text in read(certificates, content, listen).warnings if "witness" not in text]
    assert len(told) == bool(warned)
    assert warned in "".join(told)


@pytest.mark.parametrize(
    ("listen", "told"),
    [
        ('"unix:web.sock"', '"web.sock" is no absolute path'),
        ("[]", "is empty; give one address"),
        ('["127.0.0.1:1", "systemd:1x"]', "http.listen[1]: "),
    ],
)
def test_an_address_that_is_none_is_told(certificates: Path, listen: str, told: str) -> None:
    with pytest.raises(ConfigInvalid) as raised:
        read(certificates, "", listen)
    assert told in str(raised.value)
