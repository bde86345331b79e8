"""The dashboard's file, and its queries as Grafana would send them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.prometheus.server import REPOSITORY

FILE = REPOSITORY / "packaging/grafana/epoll-watchdog.json"

BOARD: Mapping[str, Any] = json.loads(FILE.read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel. An `instant` one is asked for the end of the shown time only."""

    panel: str
    ref: str
    expression: str
    instant: bool

    def __str__(self) -> str:
        return f"{self.panel} {self.ref}"

    def filled(self, variables: Mapping[str, str]) -> str:
        """With every variable replaced, the longest name first: `$name` begins others."""
        expression = self.expression
        for name in sorted(variables, key=len, reverse=True):
            expression = expression.replace(f"${name}", variables[name])
        return expression


def queries() -> Iterator[Query]:
    """Of all panels."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield Query(panel["title"], target["refId"], target["expr"], target["instant"])
