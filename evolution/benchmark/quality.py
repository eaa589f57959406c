"""How good the surrogate is on networks it was not fitted on, for the benchmark's card.

    python -m evolution.benchmark.quality --card evolution/benchmark/README.md

writes what follows from the table into the card; without a card it is printed.

The regressor is chosen by a rule: of `ELIGIBLE`, in this order, the first whose mean Kendall's τ
(accuracy and the transfer from every reference, after the last epochs) is behind the best one's by
no more than the standard error, over folds, of what it is behind. Boosted trees are compared but
not eligible: one model for each of fifty targets takes minutes to fit.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau
from sklearn.model_selection import KFold

from evolution.benchmark.features import feature_matrix
from evolution.benchmark.regression import FOLDS, REGRESSORS
from evolution.benchmark.surrogate import REGRESSOR, Column, Surrogate, columns_of, measured
from evolution.benchmark.table import Record, Table, load_table
from robustkit.errors import RunError
from robustkit.reading import read_text
from robustkit.report import markdown_table
from robustkit.runs import atomic_path

Floats = npt.NDArray[np.float64]

ELIGIBLE = ("ridge", "gaussian process", "random forest", "extra trees", "process and trees")
INTERVALS = (0.5, 0.95)
START, END = "<!-- computed from the table -->", "<!-- end -->"


@dataclass(frozen=True)
class Quality:
    """Predictions against measurements of `n` held-out networks in one number of a training.

    `tau` is Kendall's, `r2` the share of variance explained, `covered` the shares of measurements
    inside the 50 % and the 95 % interval. `repeated` is Kendall's τ between two trainings of the
    same networks, both with noise; that of a perfect prediction with one training is higher. None
    with fewer than three.
    """

    column: Column
    n: int
    tau: float
    r2: float
    covered: tuple[float, float]
    repeated: float | None


def held_out_quality(
    table: Table, columns: Sequence[Column], *, good: bool = False, regressor: str = REGRESSOR
) -> list[Quality]:
    """Return the surrogate's quality in `columns`, by five-fold cross-validation over networks.

    All trainings of a network are in one fold, and its parents and offspring are not fitted on when
    it is held out; remoter relatives are.
    """
    return _Held(table, regressor).quality(columns, good=good)


class _Held:
    """Held-out predictions and intervals of all networks of a table."""

    def __init__(self, table: Table, regressor: str) -> None:
        self._columns = columns_of(table.setting)
        records = np.array(table.records, dtype=object)
        self._trained = [measured(record, table.setting) for record in table.records]
        self._first = np.stack([rows[0] for rows in self._trained])
        self._means = np.empty_like(self._first)
        self._ends = [(np.empty_like(self._first), np.empty_like(self._first)) for _ in INTERVALS]
        for train, test in _folds(table.records):
            part = Table(table.setting, tuple(records[train]))
            surrogate = Surrogate(part, regressor=regressor)
            genotypes = [record.genotype for record in records[test]]
            self._means[test] = surrogate.means(genotypes)
            for confidence, (low, high) in zip(INTERVALS, self._ends, strict=True):
                low[test], high[test] = surrogate.interval(genotypes, confidence)

    def quality(self, columns: Sequence[Column], *, good: bool) -> list[Quality]:
        epochs = self._columns[-1].epochs
        accuracy = self._first[:, self._columns.index(Column("accuracy", None, epochs))]
        chosen = accuracy > np.median(accuracy) if good else np.ones(len(accuracy), dtype=bool)
        return [self._of(column, chosen) for column in columns]

    def _of(self, column: Column, chosen: npt.NDArray[np.bool_]) -> Quality:
        index = self._columns.index(column)
        truth, predicted = self._first[chosen, index], self._means[chosen, index]
        pairs = [
            rows[:2, index]
            for rows, counts in zip(self._trained, chosen, strict=True)
            if counts and len(rows) > 1
        ]
        covered = [
            float(((low[chosen, index] <= truth) & (truth <= high[chosen, index])).mean())
            for low, high in self._ends
        ]
        spread = float(((truth - truth.mean()) ** 2).sum())
        return Quality(
            column=column,
            n=len(truth),
            tau=_tau(predicted, truth),
            r2=1 - float(((truth - predicted) ** 2).sum()) / spread if spread else 0.0,
            covered=(covered[0], covered[1]),
            repeated=_tau(*np.array(pairs).T) if len(pairs) > 2 else None,
        )


@dataclass(frozen=True)
class Comparison:
    """A regressor's mean Kendall's τ on held-out networks, in every fold."""

    regressor: str
    taus: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Return the mean over folds."""
        return statistics.mean(self.taus)


def compare_regressors(table: Table) -> list[Comparison]:
    """Return every regressor's τ, means over accuracy and transfers after the last epochs."""
    columns = columns_of(table.setting)
    wanted = [
        index
        for index, column in enumerate(columns)
        if column.epochs == table.setting.epochs[-1] and column.quantity in ("accuracy", "transfer")
    ]
    y = np.stack([measured(each, table.setting)[0, wanted] for each in table.records])
    x = feature_matrix([record.genotype for record in table.records])
    found = []
    for name, fit in REGRESSORS.items():
        taus = []
        for train, test in _folds(table.records):
            centre, spread = x[train].mean(axis=0), x[train].std(axis=0)
            standard = (x - centre) / np.where(spread > 0, spread, 1.0)
            mean, width = y[train].mean(axis=0), y[train].std(axis=0)
            fitted = fit(standard[train], (y[train] - mean) / np.where(width > 0, width, 1.0), 0)
            predicted = fitted.predict(standard[test])
            pairs = zip(predicted.T, y[test].T, strict=True)
            taus.append(statistics.mean(_tau(ours, truth) for ours, truth in pairs))
        found.append(Comparison(name, tuple(taus)))
    return found


def chosen_regressor(compared: Sequence[Comparison]) -> str:
    """Return the name that the rule of this module chooses."""
    eligible = {each.regressor: each for each in compared if each.regressor in ELIGIBLE}
    best = max(eligible.values(), key=lambda each: each.mean)

    def equal(other: Comparison) -> bool:
        behind = [ahead - tau for ahead, tau in zip(best.taus, other.taus, strict=True)]
        return bool(statistics.mean(behind) <= statistics.stdev(behind) / len(behind) ** 0.5)

    return next(name for name in ELIGIBLE if equal(eligible[name]))


def fidelity(table: Table) -> list[tuple[Column, float]]:
    """Return Kendall's τ of accuracy and transfers after fewer epochs with those after the last."""
    columns = columns_of(table.setting)
    last = table.setting.epochs[-1]
    rows = np.stack([measured(record, table.setting)[0] for record in table.records])
    return [
        (
            column,
            _tau(rows[:, index], rows[:, columns.index(column._replace(epochs=last))]),
        )
        for index, column in enumerate(columns)
        if column.epochs < last and column.quantity in ("accuracy", "transfer")
    ]


def computed(table: Table) -> str:
    """Return in Markdown what the card says of its table: size, quality, choice of regressor."""
    setting = table.setting
    epochs = setting.epochs[-1]
    wanted = [
        Column("accuracy", None, epochs),
        *(Column(name, i, epochs) for name in ("transfer", "unseen") for i in _references(table)),
        *(Column(name, 0, epochs) for name in ("cosine_abs",)),
        Column("norm", None, epochs),
        Column("seconds", None, epochs),
    ]
    held = _Held(table, REGRESSOR)
    compared = compare_regressors(table)
    parts = [
        _size(table),
        f"Quality on held-out networks ({FOLDS}-fold cross-validation), {REGRESSOR}:",
    ]
    for good, title in ((False, "all networks"), (True, "networks above the median accuracy")):
        rows = [_row(each, setting.references) for each in held.quality(wanted, good=good)]
        head = [title, "n", "τ", "τ of two trainings", "R²", "in 50 %", "in 95 %"]
        parts.append(markdown_table(head, rows))
    parts.append(
        f"The rule chooses {chosen_regressor(compared)}. Mean τ of accuracy and transfers, with "
        "the standard error over folds:"
    )
    parts.append(
        markdown_table(
            ["regressor", "τ", "standard error"],
            [
                [
                    each.regressor,
                    f"{each.mean:.3f}",
                    f"{statistics.stdev(each.taus) / len(each.taus) ** 0.5:.3f}",
                ]
                for each in compared
            ],
        )
    )
    parts.append(f"Kendall's τ of fewer epochs with {epochs}, measured:")
    parts.append(
        markdown_table(
            ["", "epochs", "τ"],
            [
                [_label(column, setting.references), str(column.epochs), f"{tau:.2f}"]
                for column, tau in fidelity(table)
            ],
        )
    )
    return "\n\n".join(parts)


def _size(table: Table) -> str:
    last = [rungs[-1] for record in table.records for rungs in record.trainings if rungs]
    replicated = sum(len(each.trainings) > 1 for each in table.records)
    failed = sum(rungs is None for each in table.records for rungs in each.trainings)
    # Numbers are given in order; one that is missing is of a network without any training.
    lost = max(each.number for each in table.records) + 1 - len(table.records)
    accuracy = [rung.accuracy for rung in last]
    low, high = min(accuracy), max(accuracy)
    seconds = sum(rung.seconds for rung in last)
    return (
        f"{len(table.records):,} networks, {replicated} of them trained several times: "
        f"{len(last):,} trainings of {table.setting.epochs[-1]} epochs in {seconds / 3600:.1f} "
        f"CPU hours; λ = {table.setting.lam:g}. Left the finite numbers in training, so that they "
        f"are missing: {lost} further networks, and {failed} trainings of those that are here. "
        f"Accuracy {100 * low:.1f} to {100 * high:.1f} %, median "
        f"{100 * statistics.median(accuracy):.1f} %."
    )


def write_card(path: Path, text: str) -> None:
    """Put `text` between the marks of the card; raises `RunError` for a file without them."""
    card = read_text(path, error=RunError)
    if START not in card or END not in card.partition(START)[2]:
        raise RunError(f"{path}: no place for the figures, which is from {START} to {END}")
    before, _, rest = card.partition(START)
    after = rest.partition(END)[2]
    with atomic_path(path) as temporary:
        temporary.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}")


def _row(quality: Quality, references: Sequence[str]) -> list[str]:
    return [
        _label(quality.column, references),
        str(quality.n),
        f"{quality.tau:.2f}",
        "–" if quality.repeated is None else f"{quality.repeated:.2f}",
        f"{quality.r2:.2f}",
        *(f"{100 * share:.0f} %" for share in quality.covered),
    ]


_WORDS: dict[str, str] = {
    "unseen": "transfer from a second {}",
    "transfer": "transfer from {}",
    "cosine_abs": "mean abs. cosine with {}",
    "norm": "gradient norm",
    "seconds": "CPU seconds",
}


def _label(column: Column, references: Sequence[str]) -> str:
    word = _WORDS.get(column.quantity, column.quantity)
    return word if column.reference is None else word.format(references[column.reference])


def _references(table: Table) -> range:
    return range(len(table.setting.references))


def _folds(records: Sequence[Record]) -> Iterator[tuple[npt.NDArray[np.int64], ...]]:
    """Yield rows to fit on and rows held out; of those, parents and offspring are in neither."""
    rows = {record.number: row for row, record in enumerate(records)}
    kin: list[set[int]] = [set() for _ in records]
    for row, record in enumerate(records):
        for parent in (rows[number] for number in record.parents if number in rows):
            kin[row].add(parent)
            kin[parent].add(row)
    for train, test in KFold(FOLDS, shuffle=True, random_state=0).split(np.arange(len(records))):
        relatives = set().union(*(kin[row] for row in test))
        yield np.array([row for row in train if row not in relatives]), test


def _tau(first: Floats, second: Floats) -> float:
    tau = float(kendalltau(first, second).statistic)
    return 0.0 if np.isnan(tau) else tau  # one of them is constant


def main(arguments: Sequence[str] | None = None, show: Callable[[str], object] = print) -> int:
    """Write the card's figures, or show them."""
    parser = argparse.ArgumentParser(prog="python -m evolution.benchmark.quality")
    parser.add_argument("table", nargs="?", type=Path, help="by default the package's own")
    parser.add_argument("--card", type=Path, help="write what is computed into this file")
    options = parser.parse_args(arguments)
    text = computed(load_table(options.table))
    if options.card is None:
        show(text)
    else:
        write_card(options.card, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
