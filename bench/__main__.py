"""`python -m bench [a|b|c|d ...] [--quick]`: run the sections, print them, and write `RESULTS.md` after a full run.

Exit status: 0, or 1 where a section could not be measured or what must hold did not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping

from bench import healing, memory, nudge, probes
from bench.needs import Missing
from bench.report import RESULTS, Section, machine, write

SECTIONS: Mapping[str, Callable[..., Section]] = {"a": nudge.run, "b": probes.run, "c": memory.run, "d": healing.run}


def main() -> int:
    """Run what was asked for."""
    options = _options()
    chosen = sorted(set(options.sections)) or list(SECTIONS)
    host = machine()
    print(f"{host}\n", flush=True)
    found: list[Section] = []
    for name in chosen:
        began = time.monotonic()
        try:
            section = SECTIONS[name](quick=options.quick)
        except Missing as missing:
            print(f"bench: section {name} FAILED: {missing}\n", file=sys.stderr, flush=True)
            continue
        found.append(section)
        print(f"{section}\n(section {name} took {time.monotonic() - began:.0f} s)\n", flush=True)
    if len(found) < len(SECTIONS) or options.quick:
        print(f"{RESULTS} is written by a full run alone (every section, without --quick), and stays as it is.")
    else:
        write(host, found)
        print(f"Written to {RESULTS}.")
    return 0 if len(found) == len(chosen) and all(section.held for section in found) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What the watchdog costs.")
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], metavar="|".join(SECTIONS), help="all if none")
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it works, and measures little")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
