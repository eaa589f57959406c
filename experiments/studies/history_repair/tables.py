"""The published tables, and ours beside them in Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from msgspec import UnsetType

from experiments.studies.history_repair.jobs import BEYOND, Cell, Models, Part, Score, Summary
from robustkit.report import markdown_table

Triple = tuple[float, float, float]
SCORES: tuple[Score, ...] = ("acc_after", "rr", "br")
MODELS = ("gtsrb(5)", "gtsrb(10)", "cifar(5)", "cifar(10)")

# Table 1: accuracy before.
BEFORE = {"gtsrb(5)": 96.120, "gtsrb(10)": 96.572, "cifar(5)": 67.430, "cifar(10)": 74.290}

# Tables 3 to 6, by the name of our row, in the order of MODELS.
PUBLISHED_ROWS: dict[str, tuple[Triple, ...]] = {
    "history": (
        (96.425, 9.776, 0.077),
        (96.779, 7.691, 0.058),
        (67.556, 0.869, 0.233),
        (74.447, 1.225, 0.213),
    ),
    "arachne": (
        (95.559, 10.225, 0.997),
        (96.070, 11.778, 0.938),
        (64.210, 8.299, 8.784),
        (71.924, 12.653, 7.564),
    ),
    "forward": (
        (96.371, 10.551, 0.165),
        (96.774, 8.845, 0.104),
        (67.558, 0.470, 0.037),
        (74.354, 0.568, 0.110),
    ),
    "backward": (
        (96.388, 13.000, 0.246),
        (96.816, 10.092, 0.106),
        (67.642, 1.756, 0.534),
        (74.618, 2.707, 0.495),
    ),
    "deg - imp": (
        (96.379, 16.571, 0.400),
        (96.923, 13.718, 0.123),
        (67.442, 3.433, 1.640),
        (74.489, 3.201, 0.840),
    ),
    "deg & diff": (
        (96.438, 11.816, 0.147),
        (96.805, 8.291, 0.052),
        (67.616, 1.142, 0.276),
        (74.492, 1.715, 0.322),
    ),
    "last": (
        (96.413, 10.245, 0.110),
        (96.755, 6.236, 0.032),
        (67.533, 0.669, 0.171),
        (74.433, 2.205, 0.571),
    ),
    "before-last": (
        (96.367, 8.306, 0.079),
        (96.712, 4.804, 0.025),
        (67.514, 0.384, 0.061),
        (74.412, 0.720, 0.085),
    ),
}

# Table 7: repaired on one half of the test images, scored on one half.
FOLDS: dict[str, tuple[Triple, ...]] = {
    "1 -> 2": (
        (96.356, 5.438, 0.126),
        (96.549, 1.374, 0.092),
        (67.894, 1.297, 0.569),
        (73.864, 2.592, 1.792),
    ),
    "2 -> 1": (
        (96.166, 6.034, 0.214),
        (96.708, 2.713, 0.137),
        (67.460, 2.711, 0.865),
        (74.290, 0.873, 0.314),
    ),
    "1 -> 1": (
        (96.358, 8.320, 0.104),
        (96.751, 4.313, 0.111),
        (67.184, 1.887, 0.568),
        (73.670, 4.060, 2.050),
    ),
    "2 -> 2": (
        (96.314, 9.472, 0.166),
        (96.793, 11.802, 0.110),
        (68.366, 5.673, 2.023),
        (74.516, 1.346, 0.360),
    ),
}


TABLES = {
    "3": ("RQ1: history against Arachne", ("history", "arachne")),
    "4": ("RQ2: which impact", ("history", "forward", "backward")),
    "5": ("RQ3: which data", ("history", "deg - imp", "deg & diff")),
    "6": ("RQ4: which layer", ("history", "last", "before-last")),
}


def render(summary: Summary) -> str:
    """Return everything that there is of: the models, Tables 3 to 7, what lies beyond."""
    models = summary.models
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
        _table(models, [*PUBLISHED_ROWS, *BEYOND], "held_out", published=False),
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
    rows: list[list[str]] = []
    for name, folds in models.items():
        cells = [cell for cell in _whole(folds).values() if cell.failed is None]
        if not cells:
            rows.append([name, *["–"] * 6])
            continue
        cell = max(cells, key=_compared)
        assert not isinstance(cell.sets, UnsetType)  # checked when the summary was read
        counts = (cell.sets.pos, cell.sets.neg, cell.sets.deg, cell.sets.imp)
        sets = [f"{count or 0:,}" for count in counts]
        rows.append([name, f"{cell.n:,}", f"{100 * cell.before:.2f}", *sets])
    return markdown_table(["model", "images", "ACC before", "pos", "neg", "deg", "imp"], rows)


def _compared(cell: Cell) -> int:
    """Return the number of images that the previous checkpoint classified otherwise.

    Gradient descent does not look at the previous checkpoint, and knows of no such sets.
    """
    assert not isinstance(cell.sets, UnsetType)  # checked when the summary was read
    return (cell.sets.deg or 0) + (cell.sets.imp or 0)


def _table(models: Models, rows: Iterable[str], where: Part, *, published: bool = True) -> str:
    lines = [["before", *(_before(models, name, where) for name in models)]]
    for row in _present(models, rows):
        ours = [_shown(_whole(models[name]).get(row), where) for name in models]
        lines.append([f"**{row}**", *ours])
        if published:
            lines += _theirs(models, PUBLISHED_ROWS[row])
    return _by_model("", models, lines)


def _by_model(first: str, models: Models, rows: Iterable[Sequence[str]]) -> str:
    """Return a table with a column for each model, the rows' names in the first."""
    return markdown_table([first, *models], rows).replace("|  |", "| |", 1)


def _whole(folds: Mapping[str, Mapping[str, Cell]]) -> Mapping[str, Cell]:
    """Return the rows repaired on all test images: a single item of the paper may have none."""
    return folds.get("all", {})


def _theirs(models: Models, values: Sequence[Sequence[float]]) -> list[list[str]]:
    """Return the row of published values, where any model has one."""
    if not set(models) & set(MODELS):
        return []
    cells = [
        f"*{_triple(values[MODELS.index(name)])}*" if name in MODELS else "–" for name in models
    ]
    return [["*published*", *cells]]


def _present(models: Models, rows: Iterable[str]) -> list[str]:
    """Return the rows that any model has: a rehearsal has few."""
    return [row for row in rows if any(row in _whole(folds) for folds in models.values())]


def _before(models: Models, name: str, where: Part) -> str:
    cells = (cell for cell in _whole(models[name]).values() if cell.failed is None)
    cell = next(cells, None)
    if cell is None:
        return "–"
    count = cell.n if where == "repaired" else cell.held_out_n
    return f"{100 * accuracy_before(cell, where):.2f} (n = {count:,})"


def _folds(models: Models) -> str:
    rows = []
    for pair, values in FOLDS.items():
        fold, other_fold = pair.split(" -> ")
        where: Part = "repaired" if fold == other_fold else "held_out"
        ours = [_with_before(models[name].get(fold, {}).get("history"), where) for name in models]
        rows += [[f"**{pair}**", *ours], *_theirs(models, values)]
    return _by_model("repaired on -> scored on", models, rows)


def _with_before(cell: Cell | None, where: Part) -> str:
    if cell is None or cell.failed is not None:
        return _shown(cell, where)
    return f"{_shown(cell, where)} (before {100 * accuracy_before(cell, where):.2f})"


def accuracy_before(cell: Cell, where: Part) -> float:
    """Return the accuracy before the repair on the images repaired on, or on those held out."""
    return cell.before if where == "repaired" else cell.held_out_before


def _shown(cell: Cell | None, where: Part) -> str:
    if cell is None:
        return "–"
    if cell.failed is not None:
        return f"no repair: {cell.failed.split(':')[0]}"
    return " / ".join(_mean(cell, where, score) for score in SCORES)


def _mean(cell: Cell, where: Part, score: Score) -> str:
    values = [100 * value for value in _values(cell, score, where)]
    if not values:
        return "–"
    digits = 3 if score == "br" else 2
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def _triple(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.3f}" for value in values)


def mean_of(cell: Cell, score: Score, where: Part = "repaired") -> float:
    """Return the mean over a cell's runs, a fraction.

    NaN, for which no claim holds, without any.
    """
    values = _values(cell, score, where)
    return float(statistics.mean(values)) if values else math.nan


def _values(cell: Cell, score: Score, where: Part) -> list[float]:
    """Return a score of every run that has one."""
    runs = [run.repaired if where == "repaired" else run.held_out for run in cell.runs]
    values: list[float | None] = [getattr(run, score) for run in runs if run is not None]
    return [value for value in values if value is not None]


def _seconds(models: Models) -> str:
    rows = []
    for row in _present(models, [*PUBLISHED_ROWS, *BEYOND]):
        cells = [_whole(models[name]).get(row) for name in models]
        shown = [
            "–" if cell is None or cell.failed is not None else f"{cell.seconds:.0f}"
            for cell in cells
        ]
        rows.append([row, *shown])
    return _by_model("", models, rows)


def _reached(models: Models) -> str:
    rows = []
    for row in _present(models, [*PUBLISHED_ROWS, *BEYOND]):
        if row not in ("history", "arachne"):
            shown = [_where_reached(_whole(models[name]), row) for name in models]
            rows.append([row, *shown])
    return _by_model("", models, rows)


def _where_reached(rows: Mapping[str, Cell], row: str) -> str:
    cell, history, arachne = (
        rows.get(name, Cell(failed="")) for name in (row, "history", "arachne")
    )
    if any(cell_of_three.failed is not None for cell_of_three in (cell, history, arachne)):
        return "–"
    parts: dict[Part, str] = {"repaired": "repaired on", "held_out": "held out"}
    reached = [words for where, words in parts.items() if reaches(cell, history, arachne, where)]
    return ", ".join(reached) or "no"


def reaches(cell: Cell, history: Cell, arachne: Cell, where: Part) -> bool:
    """Return whether a method repairs as much as Arachne and breaks no more than history."""
    repairs = mean_of(cell, "rr", where) >= mean_of(arachne, "rr", where)
    return repairs and mean_of(cell, "br", where) <= mean_of(history, "br", where)
