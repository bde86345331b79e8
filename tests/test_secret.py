"""Secrets are read from where the config says, and never told."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchdog import secret
from watchdog.secret import SecretUnreadable, forget, reveal
from watchdog.settings import Secret


@pytest.fixture(autouse=True)
def anew() -> None:
    forget()


def test_a_credential_is_a_file_in_the_directory_of_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "community").write_text("public\n")
    assert reveal(Secret(credential="community")) == "public"


def test_a_file_of_the_directory_that_the_unit_loads_as_a_whole_is_a_credential_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "epoll-watchdog_community").write_text("of the directory\n")
    assert reveal(Secret(credential="community")) == "of the directory"


def test_a_credential_that_was_passed_by_its_own_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "community").write_text("its own")
    (tmp_path / "epoll-watchdog_community").write_text("of the directory")
    assert reveal(Secret(credential="community")) == "its own"


@pytest.mark.parametrize("directory", [None, ""])
def test_who_runs_a_command_by_hand_reads_the_directory_himself(
    directory: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret, "CREDENTIALS", tmp_path)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    if directory is not None:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", directory)
    (tmp_path / "community").write_text("public\n")
    assert reveal(Secret(credential="community")) == "public"


def test_a_unit_does_not_look_where_only_root_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret, "CREDENTIALS", tmp_path)
    (tmp_path / "community").write_text("public")
    (tmp_path / "passed").mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "passed"))
    with pytest.raises(SecretUnreadable, match="was not passed to the unit"):
        reveal(Secret(credential="community"))


def test_a_file_is_read_without_its_last_newline_only(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(" two\nlines \n\n")
    assert reveal(Secret(file=str(tmp_path / "s"))) == " two\nlines \n"


def test_the_environment_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", " value ")
    assert reveal(Secret(env="A_SECRET")) == " value "


def test_a_value_is_read_anew_only_when_it_was_forgotten(tmp_path: Path) -> None:
    secret = Secret(file=str(tmp_path / "s"))
    (tmp_path / "s").write_text("old")
    first = reveal(secret)
    (tmp_path / "s").write_text("new")
    kept = reveal(secret)
    forget()
    assert (first, kept, reveal(secret)) == ("old", "old", "new")


def test_a_missing_file_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(SecretUnreadable, match=f"{tmp_path}/s: No such file or directory; the file must be readable"):
        reveal(Secret(file=str(tmp_path / "s")))


def test_a_missing_variable_is_told_with_its_name() -> None:
    with pytest.raises(SecretUnreadable, match="the environment variable NOBODY_SETS_THIS is not set"):
        reveal(Secret(env="NOBODY_SETS_THIS"))


def test_a_missing_credential_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(SecretUnreadable, match=r"put it into /etc/epoll-watchdog/credentials/hook .*and restart"):
        reveal(Secret(credential="hook"))


def test_a_credential_missing_outside_a_unit_is_told_with_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret, "CREDENTIALS", tmp_path)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(SecretUnreadable, match=f'^the credential "hook": {tmp_path}/hook: No such file.*; put it into'):
        reveal(Secret(credential="hook"))


@pytest.mark.parametrize(
    ("content", "message"), [(b"\n", "is empty"), (b"\xff\xfe", "not UTF-8"), (b"x" * (1 << 21), "1 MiB")]
)
def test_what_is_no_secret_is_refused_without_its_content(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(SecretUnreadable, match=message) as refused:
        reveal(Secret(file=str(tmp_path / "s")))
    assert len(str(refused.value)) < 300
