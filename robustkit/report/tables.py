"""Numbers and tables for readers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from robustkit.stats import Estimate

Cell = str | float | None
"""What a table shows: text or markup, a number (bool: yes or no), or None for nothing."""

_NUMERIC = re.compile(r"[+−-]?\d")
_DASH = "–"


def number(value: Cell) -> str:
    """`value` for a reader: thousands in groups, four digits of a fraction, a dash for None."""
    if value is None:
        return _DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else value


def percent(
    rate: float | None,
    low: float | None = None,
    high: float | None = None,
    n: int | None = None,
    *,
    digits: int = 1,
) -> Markup:
    """Return a rate in [0, 1] as a percentage, with its interval and its number of cases."""
    if rate is None:
        return Markup(_DASH)
    details = []
    if low is not None and high is not None:
        details.append(f"[{100 * low:.{digits}f}, {100 * high:.{digits}f}]")
    if n is not None:
        details.append(f"n = {n:,}")
    small = Markup(" <small>{}</small>").format(", ".join(details)) if details else Markup()
    return Markup(f"{100 * rate:.{digits}f} %") + small


def estimate(found: Estimate, *, with_n: bool = False) -> Markup:
    """Return an estimate of a rate as `percent` shows it; with the `n` it comes from if asked."""
    return percent(found.value, found.low, found.high, found.n if with_n else None)


def duration(seconds: float) -> str:
    """A time span in its two largest units: `4.2 s`, `3 min 20 s`, `1 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    caption: str = "",
    strong: Iterable[int] = (),
) -> Markup:
    """A table; columns of numbers are aligned as such, the rows numbered in `strong` stand out.

    The first column names its row. Headers that are all empty are left out. Raises `ValueError`
    for a row of another length than `headers`.
    """
    body = [list(row) for row in rows]
    for row in body:
        if len(row) != len(headers):
            raise ValueError(f"a row of {len(row)} cells under {len(headers)} headers: {row}")
    classes = [_column_class([row[i] for row in body]) for i in range(len(headers))]
    parts = [Markup('<div class="scroll"><table>')]
    if caption:
        parts.append(Markup("<caption>{}</caption>").format(caption))
    if any(headers):
        parts.append(Markup("<thead>") + _row(headers, classes, "col") + Markup("</thead>"))
    parts.append(Markup("<tbody>"))
    outstanding = set(strong)
    for index, row in enumerate(body):
        parts.append(_row(row, classes, "row", "strong" if index in outstanding else ""))
    parts.append(Markup("</tbody></table></div>"))
    return Markup("\n").join(parts)


def cards(facts: Iterable[tuple[str, Cell, str]]) -> Markup:
    """The few numbers of a report that matter most, each as (label, value, detail)."""
    one = Markup('<div class="card"><dt>{}</dt><dd>{}</dd><p>{}</p></div>')
    inside = Markup("\n").join(
        one.format(label, _shown(value), detail) for label, value, detail in facts
    )
    return Markup('<dl class="cards">') + inside + Markup("</dl>")


def _row(cells: Sequence[Cell], classes: list[str], scope: str, row_class: str = "") -> Markup:
    html = []
    for index, (cell, column_class) in enumerate(zip(cells, classes, strict=True)):
        heading = scope == "col" or index == 0
        tag = Markup(f'th scope="{scope}"') if heading else Markup("td")
        end = "th" if heading else "td"
        html.append(Markup(f'<{tag} class="{column_class}">{_shown(cell)}</{end}>'))
    return Markup(f'<tr class="{row_class}">') + Markup().join(html) + Markup("</tr>")


def _shown(cell: Cell) -> Markup:
    return escape(cell if isinstance(cell, str) else number(cell))


def _column_class(cells: list[Cell]) -> str:
    """`number` where every cell is a number, or text that starts like one, or missing."""
    present = [cell for cell in cells if cell not in (None, "", _DASH)]
    numeric = [not isinstance(cell, str) or _NUMERIC.match(cell) for cell in present]
    return "number" if numeric and all(numeric) else "text"
