"""What the reading commands print with, where nobody looks but a program."""

from __future__ import annotations

import pytest

from watchdog.cli.terminal import bullets, console, plain, table


def test_in_a_file_no_line_ends_with_blanks_and_what_stands_within_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    made = table("SERVICE", "WHY")
    made.add_row("a", "answered")
    made.add_row("longer", "")
    console().print(made)
    console().print(bullets([plain("first"), plain("a  second")]))

    assert capsys.readouterr().out == "SERVICE  WHY\na        answered\nlonger\n- first\n- a  second\n"


def test_a_name_can_t_make_the_terminal_do_anything(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(plain("a\x1b[2Jb\u202ec"))

    assert capsys.readouterr().out == "a\\x1b[2Jb\\u202ec\n"


def test_a_colour_that_is_wanted_in_a_file_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console().print(plain("well", "green"))

    assert capsys.readouterr().out == "\x1b[32mwell\x1b[0m\n"
