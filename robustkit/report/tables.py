"""Tables and cards, in HTML and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from robustkit.report.format import NOTHING, Cell, number

_NUMERIC = re.compile(r"[+−-]?\d")


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    caption: str = "",
    strong: Iterable[int] = (),
    sortable: bool = False,
) -> Markup:
    """Return a table: columns of numbers aligned as such, the rows numbered in `strong` bold.

    The first column names its row. Headers that are all empty are left out. One that is `sortable`
    can be sorted and filtered on the page, and is as it stands on paper. Raises `ValueError`
    for a row of another length than `headers`.
    """
    body = [list(row) for row in rows]
    for row in body:
        if len(row) != len(headers):
            raise ValueError(f"a row of {len(row)} cells under {len(headers)} headers: {row}")
    classes = [_column_class([row[i] for row in body]) for i in range(len(headers))]
    kind = "scroll sortable" if sortable else "scroll"
    parts = [Markup('<div class="{}"><table>').format(kind)]
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
    """Return the few numbers of a report that matter most, each as (label, value, detail)."""
    one = Markup('<div class="card"><dt>{}</dt><dd>{}</dd><p>{}</p></div>')
    inside = Markup("\n").join(
        one.format(label, _shown(value), detail) for label, value, detail in facts
    )
    return Markup('<dl class="cards">') + inside + Markup("</dl>")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; cells are taken as they are.

    >>> print(markdown_table(["net", "n"], [["R", "3"]]))
    | net | n |
    |---|---|
    | R | 3 |
    """
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


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
    present = [cell for cell in cells if cell not in (None, "", NOTHING)]
    numeric = [not isinstance(cell, str) or _NUMERIC.match(cell) for cell in present]
    return "number" if numeric and all(numeric) else "text"
