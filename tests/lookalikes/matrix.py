"""The confusion matrix: conditions down, verdicts across, in each cell how often; then the remedies that were used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.lookalikes.condition import Row
from watchdog.model import Certainty, Verdict


def text(rows: Sequence[Row]) -> str:
    """The whole of it, with a legend. `!` marks a verdict that is not the right one, `?` one that is only suspected."""
    names = list(dict.fromkeys(_name(row) for row in rows))
    verdicts = [verdict for verdict in Verdict if any(row.judged[0] is verdict for row in rows)]
    codes = {verdict: chr(ord("a") + index) for index, verdict in enumerate(verdicts)}
    wide = max(map(len, names))
    head = " ".join(f"{code:>3}" for code in codes.values())
    lines = [f"{'':{wide}}  {head}    ok  within  remedies"]
    for name in names:
        mine = [row for row in rows if _name(row) == name]
        cells = " ".join(f"{_cell(mine, verdict):>3}" for verdict in verdicts)
        good = f"{sum(row.ok for row in mine)}/{len(mine)}"
        lines.append(f"{name:{wide}}  {cells}  {good:>4}  {_slowest(mine):>6}  {_remedies(mine)}")
    legend = ", ".join(f"{code} {verdict}" for verdict, code in codes.items())
    wrong = [f"{_name(row)}: {complaint}" for row in rows for complaint in row.complaints]
    total = f"{sum(row.ok for row in rows)} of {len(rows)} runs as they must be"
    return "\n".join([*lines, legend, "! not the right verdict, ? only suspected", total, *wrong])


def _name(row: Row) -> str:
    return f"{row.condition.name}{' (busy)' if row.busy else ''}"


def _cell(rows: Sequence[Row], verdict: Verdict) -> str:
    told = [row for row in rows if row.judged[0] is verdict]
    if not told:
        return "·"
    mark = "!" if any(verdict not in row.condition.right for row in told) else ""
    mark += "?" if any(row.judged[1] is Certainty.SUSPECTED for row in told) and verdict is not Verdict.HEALTHY else ""
    return f"{len(told)}{mark}"


def _slowest(rows: Sequence[Row]) -> str:
    took = [row.took_s for row in rows if row.took_s is not None]
    return f"{max(took):.1f} s" if took else "–"


def _remedies(rows: Sequence[Row]) -> str:
    acts = Counter(f"{rung} {outcome}" for row in rows for rung, outcome in row.acts)
    return ", ".join(f"{count} × {act}" for act, count in acts.items()) or "none"
