"""The answers to RQ1 to RQ5, model by model, by rules on means over runs.

The publication compares means of ten runs without intervals, and so do these rules; spreads are in
the tables. Part two means are the same, neither is the larger: such a model decides nothing. What
the paper says of its four models is asked of its two nets' data sets here; other nets have the
claims of RQ1, the publication's future work, without a published score.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.studies.base import NOT_GIVEN, Claim, everywhere
from experiments.studies.history_repair.jobs import Cell, Models, Score, Summary
from experiments.studies.history_repair.tables import (
    BEFORE,
    FOLDS,
    MODELS,
    PUBLISHED_ROWS,
    SCORES,
    mean_of,
)

RQ = {number: f"history-repair-rq{number}" for number in range(1, 6)}
BEYOND = "history-repair-vgg16"
FACTOR, LEAST, BOUND = 10, 0.01, 0.02


def claims(summary: Summary) -> list[Claim]:
    """Return all claims of which any score is there."""
    models = summary.models
    paper = {name: folds for name, folds in models.items() if name in MODELS}
    return [
        *_against_arachne(models),
        *_impacts(paper),
        *_data(paper),
        *_layers(paper),
        *_folds(paper),
    ]


def _against_arachne(models: Models) -> Iterator[Claim]:
    """Yield RQ1: BR at most a tenth of Arachne's, accuracy not lower, 1 to 10 % of failures."""
    for name, folds in models.items():
        history, arachne = _cell(folds, "history"), _cell(folds, "arachne")
        if history is None or arachne is None:
            continue
        ours, theirs = (_triple(cell) for cell in (history, arachne))
        rows = (
            (f"BR is at most 1/{FACTOR} of Arachne's", "br", ours[2] <= theirs[2] / FACTOR),
            ("ACC is not below that before", "acc", ours[0] >= history.before),
            ("ACC is above Arachne's", "acc", ours[0] > theirs[0]),
            (f"RR is at least {100 * LEAST:g} %", "rr", ours[1] >= LEAST),
        )
        for claim, score, holds in rows:
            index = {"acc": 0, "rr": 1, "br": 2}[score]
            values = f"{score.upper()} {_percent(ours[index])}, Arachne {_percent(theirs[index])}"
            published = _published(name, ("history", "arachne"), index)
            if "before" in claim:
                values = f"{_percent(history.before)} → {_percent(ours[0])}"
                published = _course(name)
            yield Claim(
                item=RQ[1] if name in MODELS else BEYOND,
                what=f"{name}: {claim}",
                published=published,
                ours=f"{values} ({_counted(history)})",
                holds=bool(holds),
            )


def _impacts(models: Models) -> Iterator[Claim]:
    """Yield RQ2: with the backward impact alone BR is highest; no variant is best everywhere."""
    yield from _extremes(
        models,
        2,
        ("history", "forward", "backward"),
        "BR is highest with the backward impact alone",
        ("br", max, "backward"),
    )
    best = _winners(models, ("history", "forward", "backward"), "acc_after", max)
    if best:
        yield Claim(
            item=RQ[2],
            what="no choice of impact has the best ACC on every model",
            published="history on gtsrb(5), backward on the others",
            ours=_listed(best),
            holds=not set.intersection(*map(set, best.values()))
            if len(best) == len(MODELS)
            else None,
        )


def _data(models: Models) -> Iterator[Claim]:
    """Yield RQ3: all data break least but on one model; without the difference RR is highest."""
    rows = ("history", "deg - imp", "deg & diff")
    least = _winners(models, rows, "br", min)
    if least:
        holds = [_alone(rows, "history") for rows in least.values()]
        count, possible = holds.count(True), len(holds) - holds.count(False)
        decided = len(least) == len(MODELS) and (count >= 3 or possible < 3)
        yield Claim(
            item=RQ[3],
            what="all data together break least on most models",
            published="on three of four",
            ours=f"{count} of {len(least)}: {_listed(least)}",
            holds=count >= 3 if decided else None,
        )
    yield from _extremes(
        models, 3, rows, "RR is highest without the weights' difference", ("rr", max, "deg - imp")
    )


def _layers(models: Models) -> Iterator[Claim]:
    """Yield RQ4: both layers have the best ACC; the last has more RR and BR than the other."""
    yield from _extremes(
        models,
        4,
        ("history", "last", "before-last"),
        "ACC is highest with both layers",
        ("acc_after", max, "history"),
    )
    for score in SCORES[1:]:
        yield from _extremes(
            models,
            4,
            ("last", "before-last"),
            f"{score.upper()} is higher in the last layer than in the one before",
            (score, max, "last"),
        )


def _extremes(
    models: Models, number: int, rows: Sequence[str], text: str, rule: tuple[Score, Any, str]
) -> Iterator[Claim]:
    """Yield a claim over all models: which of `rows` has the extreme mean of a score."""
    score, extreme, expected = rule
    winners = _winners(models, rows, score, extreme)
    if not winners:
        return
    holds = [_alone(winning, expected) for winning in winners.values()]
    index = SCORES.index(score)
    theirs = {
        name: extreme(rows, key=lambda row: PUBLISHED_ROWS[row][column][index])
        for column, name in enumerate(MODELS)
    }
    yield Claim(
        item=RQ[number],
        what=f"{text}, on every model",
        published=f"{sum(row == expected for row in theirs.values())} of {len(theirs)}",
        ours=f"{holds.count(True)} of {len(holds)}: {_listed(winners)}",
        holds=everywhere(holds) if len(winners) == len(MODELS) else None,
    )


def _alone(rows: Sequence[str], expected: str) -> bool | None:
    """Return whether `expected` is the extreme one; None where it shares that with another row."""
    if expected not in rows:
        return False
    return True if len(rows) == 1 else None


def _winners(
    models: Models, rows: Sequence[str], score: Score, extreme: Any
) -> dict[str, tuple[str, ...]]:
    """Return, by model, the rows with the extreme mean; models that lack a row are left out."""
    winners = {}
    for name, folds in models.items():
        cells = {row: _cell(folds, row) for row in rows}
        means = {row: mean_of(cell, score) for row, cell in cells.items() if cell is not None}
        if len(means) == len(rows) and not any(map(math.isnan, means.values())):
            end = extreme(means.values())
            winners[name] = tuple(row for row, value in means.items() if value == end)
    return winners


def _folds(models: Models) -> Iterator[Claim]:
    """Yield RQ5: on the other half BR is at most 2 % and RR at least 1 %, in every case."""
    across = [(pair, *pair.split(" -> ")) for pair in FOLDS]
    cases = [
        (name, pair, folds.get(fold, {}).get("history"))
        for name, folds in models.items()
        for pair, fold, other_fold in across
        if fold != other_fold
    ]
    if all(cell is None for _, _, cell in cases):
        return
    repaired = {
        f"{name} {pair}": cell
        for name, pair, cell in cases
        if cell is not None and cell.failed is None
    }
    missing = len(cases) - len(repaired)
    rows: tuple[tuple[Score, str], ...] = (
        ("br", "at most 2 % (1.8 % in its table)"),
        ("rr", "at least 1 % (0.9 % in its table)"),
    )
    for score, published in rows:
        means = {case: mean_of(cell, score, "held_out") for case, cell in repaired.items()}
        holds: list[bool | None] = [
            value <= BOUND if score == "br" else value >= LEAST for value in means.values()
        ]
        ends = [_percent(end(means.values())) for end in (min, max)] if means else ["–", "–"]
        right = sum(answer is True for answer in holds)
        without = f", {missing} without a repair" if missing else ""
        yield Claim(
            item=RQ[5],
            what=f"{score.upper()} on the other half is {published.split(' (')[0]}, in every case",
            published=published,
            ours=f"{right} of {len(means)}, {ends[0]} to {ends[1]}{without}",
            holds=everywhere([*holds, *[None] * missing]),
        )


def _cell(folds: Mapping[str, Mapping[str, Cell]], row: str) -> Cell | None:
    cell = folds.get("all", {}).get(row)
    return None if cell is None or cell.failed is not None else cell


def _triple(cell: Cell) -> tuple[float, ...]:
    return tuple(mean_of(cell, score) for score in SCORES)


def _published(model: str, rows: Sequence[str], index: int) -> str:
    if model not in MODELS:
        return NOT_GIVEN
    column = MODELS.index(model)
    ours, theirs = (PUBLISHED_ROWS[row][column][index] for row in rows)
    return f"{ours:g} %, Arachne {theirs:g} %"


def _course(model: str) -> str:
    """Return the published accuracy before and after."""
    if model not in MODELS:
        return NOT_GIVEN
    return f"{BEFORE[model]:g} % → {PUBLISHED_ROWS['history'][MODELS.index(model)][0]:g} %"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _counted(cell: Cell) -> str:
    return f"n = {cell.n:,}, {len(cell.runs)} runs"


def _listed(winners: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{name} {' = '.join(rows)}" for name, rows in winners.items())
