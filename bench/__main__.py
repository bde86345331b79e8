"""`python -m bench [SECTION ...] [--quick]`: run the sections, print them, and write `RESULTS.md` after a full run.

Exit status: 0, or 1 where a section could not be measured or what must hold did not.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping

from bench import beside_monit, evidence, healing, memory, nudge, probes, scrape, traffic
from bench.needs import Missing
from bench.report import RESULTS, Section, machine, write

SECTIONS: Mapping[str, Callable[..., Section]] = {
    "a": nudge.run,
    "b": probes.run,
    "c": memory.run,
    "d": healing.run,
    "e": traffic.run,
    "f": beside_monit.run,
    "g": evidence.run,
    "h": scrape.run,
}


def main() -> int:
    """Run what was asked for."""
    options = _options()
    chosen = sorted(set(options.sections)) or list(SECTIONS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything started is ended
    host = machine()
    print(f"{host}\n", flush=True)
    found = [section for name in chosen if (section := _measured(name, quick=options.quick))]
    if len(found) < len(SECTIONS) or options.quick:
        print(f"{RESULTS} is written by a full run alone (every section, without --quick), and stays as it is.")
    else:
        write(host, found)
        print(f"Written to {RESULTS}.")
    return 0 if len(found) == len(chosen) and all(section.held for section in found) else 1


def _measured(name: str, *, quick: bool) -> Section | None:
    """A section, printed; None, and why, where it failed: the others are still measured."""
    began = time.monotonic()
    try:
        section = SECTIONS[name](quick=quick)
    except Missing as missing:
        print(f"bench: section {name} FAILED: {missing}\n", file=sys.stderr, flush=True)
        return None
    except Exception:
        traceback.print_exc()
        print(f"bench: section {name} FAILED\n", file=sys.stderr, flush=True)
        return None
    print(f"{section}\n(section {name} took {time.monotonic() - began:.0f} s)\n", flush=True)
    return section


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What the watchdog costs.")
    parser.add_argument(
        "sections", nargs="*", type=_section, metavar="SECTION", help=f"{', '.join(SECTIONS)}; all if none"
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it works, and measures little")
    return parser.parse_args()


def _section(name: str) -> str:
    if name not in SECTIONS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SECTIONS)}")
    return name


if __name__ == "__main__":
    sys.exit(main())
