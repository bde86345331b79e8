"""The man pages: nothing in them is wrong to a formatter, and nothing is missing."""

from __future__ import annotations

import gzip
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from tests.docs import tables
from tests.systemd.machine import REPOSITORY
from watchdog import cli

PAGES = ("epoll-watchdog.1", "epoll-watchdog.toml.5", "epoll-watchdog.8")


@pytest.fixture(scope="session")
def pages(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The pages of the package, unpacked."""
    directory = tmp_path_factory.mktemp("man")
    found = {}
    for packed in tree.glob("usr/share/man/man*/*.gz"):
        found[packed.stem] = directory / packed.stem
        found[packed.stem].write_bytes(gzip.decompress(packed.read_bytes()))
    return found


def shown(page: Path) -> str:
    """As man shows it, in one line."""
    command = ["mandoc", "-Tutf8", "-Owidth=1000", str(page)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.sub(r".\x08", "", text)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_fault(pages: Mapping[str, Path], page: str) -> None:
    strict = subprocess.run(["mandoc", "-Tlint", "-Wwarning", pages[page]], capture_output=True, text=True)
    man = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(pages[page])]
    groff = subprocess.run(man, capture_output=True, text=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"})
    assert (strict.returncode, strict.stdout) == (0, "")
    assert (groff.returncode, groff.stderr) == (0, "")


def test_every_command_and_every_option_of_it_is_explained(pages: Mapping[str, Path]) -> None:
    text = shown(pages["epoll-watchdog.1"])
    context = click.Context(cli.main)
    for name in cli.main.list_commands(context):
        command = cli.main.get_command(context, name)
        assert command is not None
        _, _, section = text.partition(f"\n   epoll-watchdog {name}")
        section = re.split(r"\n   epoll-watchdog |\nFILES", section)[0]
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("-")]
        assert options
        assert [option for option in options if option not in section] == []


def test_every_key_of_the_configuration_is_explained(pages: Mapping[str, Path]) -> None:
    text = pages["epoll-watchdog.toml.5"].read_text()
    rows = re.findall(r"^\| `([a-z_]+)` \|", (REPOSITORY / "docs/config.md").read_text(), re.MULTILINE)
    entries = re.findall(r"^\.TP 5n\n\\fB([a-z_]+)\\fR", text, re.MULTILINE)
    assert len(rows) > 50
    assert entries == rows


def test_a_default_and_a_duty_are_told(pages: Mapping[str, Path]) -> None:
    text = shown(pages["epoll-watchdog.toml.5"])
    assert re.search(r'\n       tripwire\n? .*Default: "250ms"\n', text)
    assert re.search(r"\n       url \(required\)\n", text)


TABLES_OF_8 = {"VERDICTS": "verdicts", "HOLDS": "holds", "PASSES": "passes", "PACE": "rounds"}


@pytest.mark.parametrize(("heading", "table"), TABLES_OF_8.items())
def test_the_rows_of_a_table_are_those_of_the_code(pages: Mapping[str, Path], heading: str, table: str) -> None:
    _, *rows = tables.TABLES[table]()
    page = pages["epoll-watchdog.8"]
    written = page.read_text().partition(f"\n.SH\n{heading}\n")[2].partition("\n.SH\n")[0]
    seen = (
        shown(page)
        .partition(f"\n{heading}\n")[2]
        .partition("\n\n\n")[0]
        .replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    section = " ".join(re.split(r"\n[A-Z]{4}", seen)[0].split())

    entries = [" ".join(re.sub(r"[`*]", "", part) for part in row[:2]) for row in rows]
    assert [entry for entry in entries if entry not in section] == []
    assert written.count("\n.TP ") == len(rows)


def test_no_markup_is_left(pages: Mapping[str, Path]) -> None:
    text = "".join(shown(page) for page in pages.values())
    assert [line for line in text.splitlines() if re.search(r"\*\*|`|\]\(|\| ---", line)] == []
