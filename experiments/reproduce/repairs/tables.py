"""Our tables beside the published ones, in Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from experiments.reproduce.repairs.published import FOLDS, MODELS
from experiments.reproduce.repairs.published import ROWS as PUBLISHED
from experiments.reproduce.repairs.result import Cell, Figure, Summary, Where
from experiments.reproduce.repairs.rows import BEYOND, TABLES

Models = Mapping[str, Mapping[str, Mapping[str, Cell]]]
FIGURES: tuple[Figure, ...] = ("acc_after", "rr", "br")


def render(summary: Summary) -> str:
    """Everything that there is of: the models, Tables 3 to 7, what lies beyond."""
    models: Models = summary["models"]
    parts = [
        "# Repair by training history",
        "ACC / RR / BR in percent: the mean over runs, ± one standard deviation of the runs; as in "
        "the publication, repaired and scored on the same test images (Table 7 apart). *published* "
        "stands below ours.",
        _subjects(models),
    ]
    for number, (title, rows) in TABLES.items():
        parts += [f"## Table {number}. {title}", _table(models, rows, "repaired")]
    if any(set(folds) - {"all"} for folds in models.values()):
        parts += ["## Table 7. RQ5: two-fold", _folds(models)]
    parts += [
        "## On images not repaired on",
        "The same patches on the validation images, which no repair has seen.",
        _table(models, [*PUBLISHED, *BEYOND], "held_out", published=False),
        "## Beyond the paper",
        "Repaired and scored on the test images, as in Tables 3 to 6.",
        _table(models, ["history", "arachne", *BEYOND], "repaired", published=False),
        "## Seconds of a run",
        "Localisation and search, on one core that other work shares.",
        _seconds(models),
        "## Arachne's repair rate at the history method's break rate",
        "Which methods repair no less than Arachne and break no more than the history method, on "
        "the images repaired on and on those held out.",
        _reached(models),
    ]
    return "\n\n".join(parts)


def _subjects(models: Models) -> str:
    lines = [
        "| model | images | ACC before | pos | neg | deg | imp |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, folds in models.items():
        cells = [each for each in _whole(folds).values() if "failed" not in each]
        if not cells:
            lines.append(f"| {name} | – | – | – | – | – | – |")
            continue
        # Gradient descent does not look at the previous checkpoint, and knows of no such sets.
        cell = max(cells, key=lambda each: (each["sets"]["deg"] or 0) + (each["sets"]["imp"] or 0))
        sets = " | ".join(f"{cell['sets'][key] or 0:,}" for key in ("pos", "neg", "deg", "imp"))
        lines.append(f"| {name} | {cell['n']:,} | {100 * cell['before']:.2f} | {sets} |")
    return "\n".join(lines)


def _table(models: Models, rows: Iterable[str], where: Where, *, published: bool = True) -> str:
    lines = ["| | " + " | ".join(models) + " |", "|---" * (len(models) + 1) + "|"]
    before = [_before(models, name, where) for name in models]
    lines.append("| before | " + " | ".join(before) + " |")
    for row in _present(models, rows):
        ours = [_shown(_whole(models[name]).get(row), where) for name in models]
        lines.append(f"| **{row}** | " + " | ".join(ours) + " |")
        if published:
            lines += _theirs(models, PUBLISHED[row])
    return "\n".join(lines)


def _whole(folds: Mapping[str, Mapping[str, Cell]]) -> Mapping[str, Cell]:
    """The rows repaired on all test images: an exhibit may have none."""
    return folds.get("all", {})


def _theirs(models: Models, figures: Sequence[Sequence[float]]) -> list[str]:
    """The published line, where any model has one."""
    if not set(models) & set(MODELS):
        return []
    cells = [
        f"*{_triple(figures[MODELS.index(name)])}*" if name in MODELS else "–" for name in models
    ]
    return ["| *published* | " + " | ".join(cells) + " |"]


def _present(models: Models, rows: Iterable[str]) -> list[str]:
    """The rows that any model has: a rehearsal has few."""
    return [row for row in rows if any(row in _whole(folds) for folds in models.values())]


def _before(models: Models, name: str, where: Where) -> str:
    cells = (each for each in _whole(models[name]).values() if "failed" not in each)
    cell = next(cells, None)
    if cell is None:
        return "–"
    value = cell["before" if where == "repaired" else "held_out_before"]
    count = cell["n" if where == "repaired" else "held_out_n"]
    return f"{100 * value:.2f} (n = {count:,})"


def _folds(models: Models) -> str:
    lines = ["| repaired on -> scored on | " + " | ".join(models) + " |"]
    lines.append("|---" * (len(models) + 1) + "|")
    for pair, figures in FOLDS.items():
        fold, other = pair.split(" -> ")
        where: Where = "repaired" if fold == other else "held_out"
        ours = [_with_before(models[name].get(fold, {}).get("history"), where) for name in models]
        lines.append(f"| **{pair}** | " + " | ".join(ours) + " |")
        lines += _theirs(models, figures)
    return "\n".join(lines)


def _with_before(cell: Cell | None, where: Where) -> str:
    if cell is None or "failed" in cell:
        return _shown(cell, where)
    before = cell["before" if where == "repaired" else "held_out_before"]
    return f"{_shown(cell, where)} (before {100 * before:.2f})"


def _shown(cell: Cell | None, where: Where) -> str:
    if cell is None:
        return "–"
    if "failed" in cell:
        return f"no repair: {cell['failed'].split(':')[0]}"
    return " / ".join(_mean(cell, where, figure) for figure in FIGURES)


def _mean(cell: Cell, where: Where, figure: Figure) -> str:
    values = [100 * value for value in _values(cell, figure, where)]
    if not values:
        return "–"
    digits = 3 if figure == "br" else 2
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def _triple(figures: Sequence[float]) -> str:
    return " / ".join(f"{each:.3f}" for each in figures)


def mean_of(cell: Cell, figure: Figure, where: Where = "repaired") -> float:
    """The mean over a cell's runs, a fraction; NaN, which no claim holds of, without any."""
    values = _values(cell, figure, where)
    return float(statistics.mean(values)) if values else math.nan


def _values(cell: Cell, figure: Figure, where: Where) -> list[float]:
    """A figure of every run that has one."""
    values = [run[where][figure] for run in cell["runs"]]
    return [value for value in values if value is not None]


def _seconds(models: Models) -> str:
    lines = ["| | " + " | ".join(models) + " |", "|---" * (len(models) + 1) + "|"]
    for row in _present(models, [*PUBLISHED, *BEYOND]):
        cells = [_whole(models[name]).get(row, {}) for name in models]
        shown = [f"{cell['seconds']:.0f}" if "seconds" in cell else "–" for cell in cells]
        lines.append(f"| {row} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _reached(models: Models) -> str:
    lines = ["| | " + " | ".join(models) + " |", "|---" * (len(models) + 1) + "|"]
    for row in _present(models, [*PUBLISHED, *BEYOND]):
        if row not in ("history", "arachne"):
            shown = [_where_reached(_whole(models[name]), row) for name in models]
            lines.append(f"| {row} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _where_reached(rows: Mapping[str, Cell], row: str) -> str:
    cell, history, arachne = (
        rows.get(name, {"failed": ""}) for name in (row, "history", "arachne")
    )
    if any("failed" in each for each in (cell, history, arachne)):
        return "–"
    told: dict[Where, str] = {"repaired": "repaired on", "held_out": "held out"}
    found = [words for where, words in told.items() if reaches(cell, history, arachne, where)]
    return ", ".join(found) or "no"


def reaches(cell: Cell, history: Cell, arachne: Cell, where: Where) -> bool:
    """Whether a method repairs as much as Arachne and breaks no more than history, in the mean."""
    repairs = mean_of(cell, "rr", where) >= mean_of(arachne, "rr", where)
    return repairs and mean_of(cell, "br", where) <= mean_of(history, "br", where)
