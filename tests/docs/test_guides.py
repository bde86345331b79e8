"""The guides: their configurations are sound, their links lead somewhere, and what they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.docs.tables import MANUAL
from watchdog import cli
from watchdog.cli.check_config import command

DOCS = MANUAL.parent
README = DOCS.parent / "README.md"
NAMES = (
    *("quick-start", "how-it-decides", "guarding", "rolling-out", "security"),
    *("status-page", "troubleshooting", "upgrade"),
)
GUIDES = tuple(DOCS / f"{name}.md" for name in NAMES)
BLOCK = re.compile(r"(?ms)^```toml\n(.*?)^```$")
LINK = re.compile(r"\[[^]]*\]\(([^)#]*)(?:#([^)]*))?\)")
CREDENTIAL = re.compile(r'credential = "([^"]+)"')
COMMAND = re.compile(r"epoll-watchdog ([a-z]+(?:-[a-z]+)*)(?= |`|$)", re.MULTILINE)
NO_COMMANDS = {"epoll-watchdog-helper"}  # `systemd-analyze security epoll-watchdog epoll-watchdog-helper`


CONFIGURATIONS = [
    pytest.param(found[1], id=f"{guide.stem}-{number}")
    for guide in GUIDES
    for number, found in enumerate(BLOCK.finditer(guide.read_text()), 1)
]


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_a_configuration_is_sound_and_warns_of_nothing(text: str, tmp_path: Path) -> None:
    config, credentials = tmp_path / "config.toml", tmp_path / "credentials"
    config.write_text(text)
    credentials.mkdir()
    for name in CREDENTIAL.findall(text):
        (credentials / f"epoll-watchdog_{name}").write_text("https://secret.example.org/")

    done = CliRunner(env={"CREDENTIALS_DIRECTORY": str(credentials)}).invoke(command, [str(config)])

    assert (done.exit_code, done.stderr) == (0, "")
    assert "warning" not in done.stdout.lower()


def test_there_is_a_configuration_for_each_kind_of_service() -> None:
    text = (DOCS / "guarding.md").read_text()

    assert len(BLOCK.findall(text)) == 6


@pytest.mark.parametrize("guide", [*GUIDES, README], ids=[*NAMES, "README"])
def test_a_link_leads_to_a_page_and_a_heading_of_it(guide: Path) -> None:
    inner = [found for found in LINK.findall(guide.read_text()) if not found[0].startswith("http")]
    pages = [((guide.parent / page).resolve() if page else guide, anchor) for page, anchor in inner]

    assert [str(page) for page, _ in pages if not page.is_file()] == []
    assert [f"{page}#{anchor}" for page, anchor in pages if anchor and anchor not in anchors(page)] == []


@pytest.mark.parametrize("guide", GUIDES, ids=NAMES)
def test_a_command_that_is_named_is_one(guide: Path) -> None:
    named = set(COMMAND.findall(guide.read_text())) - NO_COMMANDS

    assert named <= set(cli.main.list_commands(click.Context(cli.main)))


@pytest.mark.parametrize("name", NAMES)
def test_the_man_page_names_every_guide(name: str) -> None:
    assert f"`{name}.md`" in (DOCS.parent / "packaging/man/epoll-watchdog.8.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_leads_to_every_guide(name: str) -> None:
    assert f"(docs/{name}.md)" in README.read_text()
