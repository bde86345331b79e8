"""A real Prometheus on loopback, with the installed scrape job and rules, and what a test asks of it.

Prometheus' HTTP API: https://prometheus.io/docs/prometheus/latest/querying/api
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers import free_port, running, until, wait_ready

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGED = REPOSITORY / "packaging/prometheus"
RULES = PACKAGED / "epoll-watchdog.rules.yml"
SCRAPE = PACKAGED / "scrape.example.yml"

PACE_S = 0.5  # between two scrapes, and between two evaluations of the rules
FRAME = """\
global:
  scrape_interval: {pace}ms
  evaluation_interval: {pace}ms
rule_files:
  - {rules}
"""


class Prometheus:
    """A running one."""

    def __init__(self, port: int) -> None:
        self._api = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer. Raises `ValueError` with what Prometheus says of a query that it can't run."""
        url = f"{self._api}/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{parameters}: {error.read().decode()}") from None

    def now(self, query: str) -> list[float]:
        """The values of an instant vector, NaN left out."""
        return _numbers(series["value"] for series in self.get("query", query=query)["result"])

    def over(self, query: str, start: float, end: float) -> list[float]:
        """All values from `start` to `end` (Unix times), NaN left out."""
        step = str(PACE_S)
        found = self.get("query_range", query=query, start=str(start), end=str(end), step=step)["result"]
        return _numbers(sample for series in found for sample in series["values"])

    def wait(self, query: str, within_s: float = 40.0) -> None:
        """Until it returns anything. Raises `TimeoutError`."""
        until(lambda: bool(self.now(query)), within_s, query)

    def rules(self) -> list[Mapping[str, Any]]:
        """The alert and recording rules that it has loaded."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]


def _numbers(samples: Iterator[Sequence[Any]]) -> list[float]:
    return [float(value) for _, value in samples if not math.isnan(float(value))]


@contextmanager
def prometheus(directory: Path, targets: Sequence[str]) -> Iterator[Prometheus]:
    """Debian's prometheus with the packaged scrape job, which is told these targets instead of the default one."""
    home = directory / "prometheus"
    home.mkdir()
    job = SCRAPE.read_text().replace('["127.0.0.1:9797"]', json.dumps(targets))
    job = job.replace("scrape_interval: 15s", f"scrape_interval: {PACE_S * 1000:.0f}ms")
    config = home / "prometheus.yml"
    config.write_text(FRAME.format(pace=int(PACE_S * 1000), rules=RULES) + job)
    port = free_port()
    argv = ["/usr/bin/prometheus", f"--config.file={config}", f"--storage.tsdb.path={home}/data"]
    argv += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with running(argv, home) as server:
        asked = Prometheus(port)
        wait_ready(server, lambda: _answers(asked))
        yield asked


def _answers(asked: Prometheus) -> bool:
    try:
        return bool(asked.get("status/buildinfo"))
    except (OSError, ValueError):
        return False
