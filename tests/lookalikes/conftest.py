"""The runs that pytest has selected, and the confusion matrix at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests import servers
from tests.lookalikes import matrix
from tests.lookalikes.condition import Row, Stage
from tests.lookalikes.programs import build
from tests.lookalikes.suite import Run, Suite
from tests.stall import build_shim

ROWS = pytest.StashKey[list[Row]]()
TOLD = pytest.StashKey[list[tuple[str, str]]]()
Tell = Callable[[str, str], None]


@pytest.fixture(scope="session")
def suite(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, snmpd: servers.Snmpd
) -> Iterator[Suite]:
    """All of them; each is begun as soon as there is room."""
    base = tmp_path_factory.mktemp("lookalikes")
    parameters = [getattr(getattr(item, "callspec", None), "params", {}) for item in request.session.items]
    chosen = [found["wanted"] for found in parameters if isinstance(found.get("wanted"), Run)]
    suite = Suite(Stage(base, build(base), build_shim(base), snmpd), chosen)
    request.config.stash[ROWS] = suite.rows
    try:
        yield suite
    finally:
        suite.end()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Prints a title and a text at the end of the session."""
    told = request.config.stash.setdefault(TOLD, [])
    return lambda title, text: told.append((title, text))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The confusion matrix, and what else is to be told."""
    told = [*config.stash.setdefault(TOLD, [])]
    if rows := config.stash.get(ROWS, []):
        told.append(("confusion matrix of the look-alikes", matrix.text(rows)))
    for title, text in told:
        terminalreporter.section(title)
        terminalreporter.write_line(text)
