"""A service's last hours as pictures: SVG that is part of the page, and says in words what it shows.

Rules of this file: no style and no script within, for the page's Content-Security-Policy allows none; the style sheet
knows the parts by their classes. A strip tells kinds by height as well as by colour: what is well is a low line. What
is alike in a row is one shape, so a healthy service costs next to nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from markupsafe import Markup, escape

from watchdog.history import Backlog, Span, Track
from watchdog.model import Kind
from watchdog.web.words import kind_tone, lasting, o_clock, printable

HEIGHT = 100
STRIP = 20
HEIGHTS = {"good": 5, "rest": 10, "wait": 13, "bad": 20}  # of a strip's runs, by tone
LEAST_TOP = 10  # connections that a plot of a queue shows at least room for


def strip(name: str, track: Track, span: Span, now: float | None = None) -> Markup:
    """What a probe found over a span. With the time `now` (of the wall clock) up to which that is, it tells when."""
    parts, lasted = [], Counter[str]()
    for kind, start, count in track.runs():
        word = str(kind) if kind is not None else "not looked at"
        lasted[word] += count * span.width
        if kind is not None:
            when = "" if now is None or kind is Kind.ALIVE else _when(start, count, span, now, track.ends_in)
            parts.append(_run(kind, start, count, when))
    told = ", ".join(f"{word} {lasting(seconds)}" for word, seconds in _worst_first(lasted))
    return _svg("strip", span.count, STRIP, f"{name}, last {lasting(span.seconds)}: {told}", parts)


def _run(kind: Kind, start: int, count: int, when: str) -> str:
    tone = kind_tone(kind)
    height = HEIGHTS[tone]
    shape = f'<rect class="{tone}" x="{start}" y="{STRIP - height}" width="{count}" height="{height}"'
    return f"{shape}><title>{kind}, {when}</title></rect>" if when else f"{shape}/>"


def _when(start: int, count: int, span: Span, now: float, ends_in: float) -> str:
    """From when to when, as exactly as buckets tell: those of a minute in minutes."""
    first = now + ends_in - span.seconds
    begin = o_clock(first + start * span.width, span.width)
    end = o_clock(min(first + (start + count) * span.width, now), span.width)
    return f"{begin} to {end}" if end != begin else begin


def _worst_first(lasted: Counter[str]) -> Iterator[tuple[str, float]]:
    """What was well and what nobody saw come last."""
    last = {str(Kind.ALIVE): 1, "not looked at": 2}
    yield from sorted(lasted.items(), key=lambda item: (last.get(item[0], 0), -item[1]))


def latency(name: str, track: Track, span: Span) -> tuple[Markup, str, str]:
    """How long a probe took, on a logarithmic scale; and what its top and its bottom stand for."""
    known = [seconds for seconds in track.latencies() if seconds is not None]
    if not known:
        return Markup(""), "", ""
    bottom = math.floor(math.log10(min(known)))
    top = max(bottom + 1, math.ceil(math.log10(max(known))))
    heights = [
        None if seconds is None else round(HEIGHT * (top - math.log10(seconds)) / (top - bottom))
        for seconds in track.latencies()
    ]
    told = f"{name}, longest wait in each {lasting(span.width)} of the last {lasting(span.seconds)}: "
    told += f"{lasting(min(known))} to {lasting(max(known))}, lately {lasting(known[-1])}"
    shape = f'<path class="line" d="{_steps(heights)}"/>'
    return _svg("plot", span.count, HEIGHT, told, [shape]), lasting(10.0**top), lasting(10.0**bottom)


def _steps(heights: Sequence[int | None]) -> str:
    """A path that stays at each height as long as it is the same, and is interrupted where there is none."""
    parts, place, drawing = [], 0, False
    for height, run in groupby(heights):
        count = sum(1 for _ in run)
        if height is not None:
            parts.append(f"{'V' if drawing else f'M{place} '}{height}H{place + count}")
        drawing = height is not None
        place += count
    return "".join(parts)


def queue(backlog: Backlog, limit: int | None, span: Span) -> tuple[Markup, str]:
    """The longest accept queue over a span; and what the top stands for: the limit that all of them have, where it is
    not far.
    """
    longest = max(backlog.longest, default=0) - 1
    if longest < 0:
        return Markup(""), ""
    top = limit if limit is not None and longest <= limit < 4 * longest else _round_up(max(longest, LEAST_TOP))
    parts, place = [], 0
    for (length, full), run in groupby(zip(backlog.longest, backlog.full, strict=True)):
        count = sum(1 for _ in run)
        if length > 1:
            height = max(2, round(HEIGHT * (length - 1) / top))
            tone = "bad" if full else "wait"
            parts.append(f'<rect class="{tone}" x="{place}" y="{HEIGHT - height}" width="{count}" height="{height}"/>')
        place += count
    told = f"accept queue, longest in each {lasting(span.width)} of the last {lasting(span.seconds)}: up to {longest}"
    told += f" of {limit}" if limit is not None else ""
    told += f", full {lasting(sum(backlog.full) * span.width)}" if any(backlog.full) else ""
    return _svg("plot", span.count, HEIGHT, told, parts), str(top)


def _round_up(number: int) -> int:
    """To 1, 2 or 5 times a power of ten."""
    power: int = 10 ** (len(str(number)) - 1)
    return next(power * step for step in (1, 2, 5, 10) if power * step >= number)


def _svg(kind: str, width: int, height: int, told: str, parts: Sequence[str]) -> Markup:
    label = escape(printable(told))
    # What is within comes from numbers and from words of ours.
    return Markup(
        f'<svg class="{kind}" role="img" aria-label="{label}" viewBox="0 0 {width} {height}"'
        f' preserveAspectRatio="none"><title>{label}</title>{"".join(parts)}</svg>'
    )
