"""The short-lived child that renders a channel's templates: `python -m watchdog.alerts.jinja`.

On its input JSON, `{"templates": {KEY: SOURCE}, "facts": {…}}`; on its output the words by key, or `{"error": …}`.
Without facts the templates are tried with samples, and nothing but an error is told.
The sandbox keeps a template from Python's inside, the limits of this process from memory and time without end.
"""

from __future__ import annotations

import difflib
import json
import re
import resource
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from watchdog.alerts.message import TEXT, Facts, Remedy, Words, cut
from watchdog.alerts.outgoing import Unusable
from watchdog.alerts.template import context

CPU = 2  # s
MEMORY = 256 * 2**20  # bytes of address space
SOURCE = 16384  # characters of a template
RANGE = 1000  # items


def main() -> int:
    """Render once."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU, CPU))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    asked = json.load(sys.stdin)
    try:
        if "facts" in asked:
            answer = _all(asked["templates"], asked["facts"])
        else:
            try_out(asked["templates"])
            answer = {}
    except Unusable as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)
    return 0


def _all(templates: Mapping[str, str], known: dict[str, Any]) -> dict[str, str]:
    for key in ("labels", "annotations"):
        known[key] = Words(known[key])
    return {key: render(key, source, known) for key, source in templates.items()}


def try_out(templates: Mapping[str, str]) -> None:
    """Render each for the samples. Raises `Unusable` with the key and the line."""
    for key, source in templates.items():
        for known in (FULL, SPARSE):
            words = render(key, source, context(known))
        if not words.strip():
            raise Unusable(f"{key}: says nothing; leave it out for the default words")


def render(key: str, source: str, known: Mapping[str, Any]) -> str:
    """The words, at most `TEXT` characters. Raises `Unusable`."""
    template = compiled(key, source)
    try:
        words = ""
        for part in template.generate(known):
            words += part[: TEXT + 1]
            if len(words) > TEXT:
                break
        return cut(words, TEXT)
    except MemoryError:
        raise Unusable(f"{key}: its words take more memory than there is for them") from None
    except Exception as error:  # a template can divide by zero, and whatever else an expression can
        raise Unusable(f"{key}: line {_line(error)}: {_words(error)}") from None


def compiled(key: str, source: str) -> Template:
    """Raises `Unusable`."""
    if len(source) > SOURCE:
        raise Unusable(f"{key}: has {len(source)} characters, more than {SOURCE}")
    environment = ImmutableSandboxedEnvironment(autoescape=False, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals["range"] = _range
    try:
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        raise Unusable(f"{key}: line {error.lineno}: {_words(error)}") from None
    except (TemplateError, MemoryError, OverflowError, RecursionError) as error:
        raise Unusable(f"{key}: {_words(error)}") from None


def _range(*args: int) -> range:
    made = range(*args)
    if len(made) > RANGE:
        raise OverflowError(f"a range has at most {RANGE} items")
    return made


def _line(error: BaseException) -> int:
    """The template's line that raised: Jinja2 rewrites tracebacks, so that frames of a template bear its lines."""
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    name = re.fullmatch(r"'(\w+)' is undefined", text)
    near = difflib.get_close_matches(name[1], context(FULL), n=1) if name else []
    return f'{text}; did you mean "{near[0]}"?' if near else text


# --- what a template is tried with ------------------------------------------------------------------------------------

FULL = Facts(
    service="web",
    host="host.example.org",
    kind="restarted",
    severity="warning",
    incident="01j9zq3v5k",
    event="restart done: web.service was restarted",
    time="2026-01-02 03:04:05 UTC",
    verdict="epoll_stall",
    certainty="confirmed",
    meaning="a wake-up was lost: its loop sleeps in epoll_wait",
    reasons=("sockets dark, a witness alive", "an accept queue grew, and nobody woke"),
    since="2026-01-02 03:03:05 UTC",
    lasted="1m",
    done=(Remedy("03:04:05", "restart", "done", "web.service was restarted"),),
    times_30d=3,
    kernel=("this kernel loses wake-ups (fixed in 5.4.226)",),
    runbook_url="https://runbooks.example.org/web",
    commands=("epoll-watchdog diagnose web",),
    labels=Words(team="web"),
    annotations=Words(runbook_url="https://runbooks.example.org/web"),
    merged=2,
)
SPARSE = replace(
    FULL,
    kind="paused",
    severity="info",
    incident="",
    verdict="",
    certainty="",
    meaning="",
    reasons=(),
    since="",
    lasted="",
    done=(),
    times_30d=None,
    kernel=(),
    runbook_url="",
    labels=Words(),
    annotations=Words(),
    merged=0,
)

if __name__ == "__main__":
    sys.exit(main())
