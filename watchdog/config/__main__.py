"""The short-lived child: `python -m watchdog.config FILE`. It checks, hands the values back on its output, and ends.

Exit status 0: the configuration is sound. 1: it is not; the errors stand on stderr, a line each. With --pickle, which
is what `watchdog.config.load` asks for, both are handed back as values and the status is 0.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from watchdog.config import Config, ConfigError, ConfigInvalid
from watchdog.config.check import check, check_tables
from watchdog.config.secrets import Secrets
from watchdog.model import Policy, Rung


def main() -> int:
    """Run one check."""
    parser = argparse.ArgumentParser(prog="python -m watchdog.config", description="Check a configuration.")
    parser.add_argument("file", type=Path, nargs="?", help="the TOML file; conf.d/*.toml beside it belongs to it")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--pickle", action="store_true", help="write the values, or the errors, for the daemon")
    what.add_argument("--for-helper", action="store_true", help="write what the helper must know, as JSON")
    what.add_argument("--schema", action="store_true", help="write the JSON schema of the file")
    asked = parser.parse_args()
    if asked.schema:
        from watchdog.config.schema import schema

        print(json.dumps(schema(), indent=2))
        return 0
    if asked.file is None:
        parser.error("give FILE")
    if asked.pickle:
        pickle.dump(_values(asked.file), sys.stdout.buffer)
        return 0
    try:
        if asked.for_helper:
            print(json.dumps(for_helper(asked.file)))
        else:
            check(asked.file)
    except ConfigInvalid as invalid:
        print(invalid, file=sys.stderr)
        return 1
    return 0


def _values(path: Path) -> Config | tuple[ConfigError, ...]:
    try:
        return check(path)
    except ConfigInvalid as invalid:
        return invalid.errors


def for_helper(path: Path) -> dict[str, Any]:
    """What root's helper must know, as plain values; durations are seconds. `conf.d` is named even while it is missing:
    once it is there, it counts.
    """
    config, tables = check_tables(path, Secrets.SKIP)
    services = {
        name: {
            **asdict(service.target),
            "mode": service.policy.mode,
            "budget": _budgets(service.policy),
        }
        for name, service in config.services.items()
    }
    return {"files": [str(file) for file in (*tables.files, tables.directory)], "services": services}


def _budgets(policy: Policy) -> dict[str, dict[str, float]]:
    """None of a remedy that the service's mode forbids: the helper is not to believe the brain that it is allowed."""
    each = {Rung.NUDGE: policy.budget.nudge, Rung.RESTART: policy.budget.restart, Rung.CAPTURE: policy.budget.capture}
    return {
        rung: {"burst": 0 if policy.mode.forbids(rung) else budget.burst, "interval": budget.interval}
        for rung, budget in each.items()
    }


if __name__ == "__main__":
    sys.exit(main())
