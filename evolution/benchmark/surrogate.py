"""The benchmark's surrogate: predicts the training and measurement of any network of its space.

Not to be confused with `evolution.surrogate`, the model that a search fits to its own trials to
preselect children. This one stands in for the trainings themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from sklearn.covariance import LedoitWolf

from evolution.benchmark.features import feature_matrix, network_cost
from evolution.benchmark.measure import CLASSES, INPUT_SHAPE, SPACE, Measurement, Rung
from evolution.benchmark.regression import REGRESSORS
from evolution.benchmark.table import Record, Setting, Table, load_table
from evolution.genotype import Genotype
from robustkit.compute import derive_seed
from robustkit.errors import ConfigError, RunError
from robustkit.jobs import cached_per_process

Floats = npt.NDArray[np.float64]

REGRESSOR = "process and trees"
"""The default, by the rule of `evolution.benchmark.quality`."""

FEWEST_NETWORKS = 30
FEWEST_REPLICATED = 3
_BINS = 4  # of predicted accuracy, within each of which errors have a scale of their own
_PRIOR = 20.0  # networks' worth of belief that all scales are equal
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
_REMEMBERED = 20_000  # predictions kept


class Column(NamedTuple):
    """One number of a training: a field of `Rung`, its reference's index or None, the epochs."""

    quantity: str
    reference: int | None
    epochs: int


@dataclass(frozen=True)
class _Scale:
    """A transformation in which a quantity's noise is about the same everywhere."""

    to: Callable[[Floats], Floats]
    back: Callable[[Floats], Floats]


_LEAST = 1e-6

# Shares are counted, and the angle has a variance that does not depend on the share (Anscombe
# 1948); norms, losses and times vary by a factor.
_ANGLE = _Scale(
    lambda share: np.arcsin(np.sqrt(share)),
    lambda angle: np.sin(np.clip(angle, 0.0, np.pi / 2)) ** 2,
)
_LOG = _Scale(lambda value: np.log(np.maximum(value, _LEAST)), lambda log: np.exp(log))
_PLAIN = _Scale(lambda value: value, lambda value: np.clip(value, -1.0, 1.0))

_SCALES = {
    "accuracy": _ANGLE,
    "transfer": _ANGLE,
    "transfer_n": _ANGLE,  # as a share of the images
    "unseen": _ANGLE,
    "cosine": _PLAIN,
    "cosine_abs": _ANGLE,
    "loss": _LOG,
    "norm": _LOG,
    "seconds": _LOG,
}
_PER_REFERENCE = ("transfer", "transfer_n", "cosine", "cosine_abs")


def columns_of(setting: Setting) -> tuple[Column, ...]:
    """Return the numbers of a training, by epochs; `unseen` is measured after the last ones."""
    references = range(len(setting.references))
    columns: list[Column] = []
    for epochs in setting.epochs:
        columns += [Column(name, None, epochs) for name in ("accuracy", "loss", "norm", "seconds")]
        named = (*_PER_REFERENCE, "unseen") if epochs == setting.epochs[-1] else _PER_REFERENCE
        columns += [Column(name, reference, epochs) for name in named for reference in references]
    return tuple(columns)


def measured(record: Record, setting: Setting) -> Floats:
    """Return the successful trainings of a network of a table, (trainings, columns)."""
    columns = columns_of(setting)
    return np.array([[_value(rungs, column) for column in columns] for rungs in _trainings(record)])


@dataclass(frozen=True)
class _Predicted:
    """Of one network, in transformed units (columns,): mean, and sd of noise and of any error."""

    mean: Floats
    noise: Floats
    error: Floats


class Surrogate:
    """A regression on a benchmark's table, with the noise of trainings as it was measured.

    `expected` is the mean over trainings of a network, `draw` one training, `interval` where a
    training of the network would lie if it were run: the noise and the regression's own error. The
    noise is a normal one in transformed units (shares as angles, norms, losses and times as
    logarithms), with the covariance of all numbers of a training, all epochs together, among the
    trainings of networks that were trained several times.

    With `deviations` every network departs from the regression by an amount of its own, drawn once
    from the regression's error on networks left out: the landscape is then as rugged as the
    measured one, though what near relatives share of their departure is lost. Without, it is as
    smooth as the regression.

    Raises `RunError` for a table with too few networks, and `ConfigError` for a network outside
    the benchmark's space.
    """

    def __init__(
        self, table: Table, *, regressor: str = REGRESSOR, deviations: bool = False, seed: int = 0
    ) -> None:
        records = table.records
        replicated = sum(len(_trainings(record)) > 1 for record in records)
        if len(records) < FEWEST_NETWORKS or replicated < FEWEST_REPLICATED:
            raise RunError(
                f"benchmark: {len(records)} networks, of which {replicated} were trained more than "
                f"once; at least {FEWEST_NETWORKS} and {FEWEST_REPLICATED} are needed"
            )
        self.setting = table.setting
        self.columns = columns_of(table.setting)
        self._by_scale = [
            (scale, [i for i, each in enumerate(self.columns) if _SCALES[each.quantity] is scale])
            for scale in (_ANGLE, _LOG, _PLAIN)
        ]
        # Counts are transformed as shares of the images.
        counted = [each.quantity == "transfer_n" for each in self.columns]
        self._units = np.where(counted, self.setting.val_images, 1)
        self._deviations, self._seed = deviations, seed
        self._remembered: dict[str, _Predicted] = {}
        trained = [self._transformed(record) for record in records]
        y = np.stack([rows.mean(axis=0) for rows in trained])
        x = feature_matrix([record.genotype for record in records])
        self._centre, self._spread = x.mean(axis=0), _spread(x)
        self._mean, self._width = y.mean(axis=0), _spread(y)
        standard = (x - self._centre) / self._spread
        fit = REGRESSORS.find(regressor)
        self._regressor = fit(standard, (y - self._mean) / self._width, derive_seed(seed, "fit"))
        held_out = self._regressor.held_out * self._width + self._mean
        self._fit_errors(trained, held_out)

    def _fit_errors(self, trained: Sequence[Floats], held_out: Floats) -> None:
        """Estimate the errors of held-out predictions, and the noise of trainings."""
        accuracy = held_out[:, self._accuracy]
        error = np.stack([rows[0] for rows in trained]) - held_out
        self._error = _Errors(error, accuracy, self.columns)
        several = [index for index, rows in enumerate(trained) if len(rows) > 1]
        noise = np.concatenate(
            [
                (trained[index] - trained[index].mean(axis=0))
                * np.sqrt(len(trained[index]) / (len(trained[index]) - 1))
                for index in several
            ]
        )
        repeated = np.repeat(several, [len(trained[index]) for index in several])
        self._noise = _Errors(noise, accuracy[repeated], self.columns)

    @property
    def _accuracy(self) -> int:
        """Return the column of the accuracy after the last epoch."""
        return self.columns.index(Column("accuracy", None, self.setting.epochs[-1]))

    def check(self, genotype: Genotype) -> None:
        """Raise `ConfigError` for a network outside the benchmark's space."""
        if SPACE.fits(genotype, INPUT_SHAPE, CLASSES):
            return
        spent, name = network_cost(genotype), genotype.key()
        for what, value, limit in (
            ("parameters", spent.params, SPACE.max_params),
            ("MACs", spent.macs, SPACE.max_macs),
        ):
            if value > limit:
                raise ConfigError(
                    f"network {name} is outside the benchmark's space: {value:,} {what}, and at "
                    f"most {limit:,} are allowed"
                )
        raise ConfigError(
            f"network {name} is outside the benchmark's space: {SPACE.min_blocks} blocks with "
            f"weights at least and {SPACE.max_blocks} blocks at most, with the default choices "
            "for every gene"
        )

    def expected(self, genotype: Genotype) -> Measurement:
        """Return the mean over trainings of a network."""
        return self._measurement(genotype, self.means([genotype])[0])

    def draw(self, genotype: Genotype, seed: int) -> Measurement:
        """Return one training of a network: the same for the same network and seed.

        Trainings of two networks with one seed have independent noise.
        """
        [predicted] = self._predicted([genotype])
        rng = np.random.default_rng(derive_seed(seed, "benchmark training", genotype.key()))
        drawn = predicted.mean + predicted.noise * self._noise.standard(rng)
        return self._measurement(genotype, self._raw(drawn[None])[0])

    def means(self, genotypes: Sequence[Genotype]) -> Floats:
        """Return the means over trainings, (networks, columns); see `columns`."""
        predicted = self._predicted(genotypes)
        total = np.zeros((len(genotypes), len(self.columns)))
        mean = np.stack([each.mean for each in predicted])
        noise = np.stack([each.noise for each in predicted])
        for node, weight in zip(_NODES, _NODE_WEIGHTS, strict=True):
            total += weight * self._raw(mean + node * noise)
        means: Floats = total / _NODE_WEIGHTS.sum()
        return means

    def interval(
        self, genotypes: Sequence[Genotype], confidence: float = 0.95
    ) -> tuple[Floats, Floats]:
        """Return both ends of the interval for one training, (networks, columns) each."""
        predicted = self._predicted(genotypes)
        mean = np.stack([each.mean for each in predicted])
        reach = norm.ppf(0.5 + confidence / 2) * np.stack([each.error for each in predicted])
        return self._raw(mean - reach), self._raw(mean + reach)

    def _predicted(self, genotypes: Sequence[Genotype]) -> list[_Predicted]:
        keys = [genotype.key() for genotype in genotypes]
        unknown = {
            key: genotype
            for key, genotype in zip(keys, genotypes, strict=True)
            if key not in self._remembered
        }
        if unknown:
            for genotype in unknown.values():
                self.check(genotype)
            if len(self._remembered) + len(unknown) > _REMEMBERED:
                self._remembered = {k: v for k, v in self._remembered.items() if k in keys}
            x = (feature_matrix(list(unknown.values())) - self._centre) / self._spread
            mean = self._regressor.predict(x) * self._width + self._mean
            noise = self._noise.sd(mean[:, self._accuracy])
            error = self._error.sd(mean[:, self._accuracy])
            for row, key in enumerate(unknown):
                place = mean[row]
                if self._deviations:
                    place = place + self._deviation(key, noise[row], error[row])
                self._remembered[key] = _Predicted(place, noise[row], error[row])
        return [self._remembered[key] for key in keys]

    def _deviation(self, key: str, noise: Floats, error: Floats) -> Floats:
        """Return by how much a network departs from the regression."""
        rng = np.random.default_rng(derive_seed(self._seed, "deviation", key))
        own: Floats = np.sqrt(np.maximum(error**2 - noise**2, 0.0))
        return own * self._error.standard(rng)

    def _transformed(self, record: Record) -> Floats:
        raw = measured(record, self.setting) / self._units
        transformed = np.empty_like(raw)
        for scale, columns in self._by_scale:
            transformed[:, columns] = scale.to(raw[:, columns])
        return transformed

    def _raw(self, transformed: Floats) -> Floats:
        """Return numbers (networks, columns) in the units of `Rung`."""
        raw = np.empty_like(transformed)
        for scale, columns in self._by_scale:
            raw[:, columns] = scale.back(transformed[:, columns])
        units: Floats = raw * self._units
        return units

    def _measurement(self, genotype: Genotype, row: Floats) -> Measurement:
        spent = network_cost(genotype)
        rungs: list[Rung] = []
        seconds = 0.0
        for epochs in self.setting.epochs:
            found: dict[str, list[float]] = {}
            for column, value in zip(self.columns, row, strict=True):
                if column.epochs == epochs:
                    # Rounded, so that the last bits of a machine's arithmetic decide nothing.
                    found.setdefault(column.quantity, []).append(float(f"{value:.9g}"))
            seconds = max(seconds, found["seconds"][0])
            rungs.append(
                Rung(
                    epochs=epochs,
                    accuracy=found["accuracy"][0],
                    loss=found["loss"][0],
                    transfer=found["transfer"],
                    transfer_n=[round(count) for count in found["transfer_n"]],
                    unseen=found.get("unseen", []),
                    cosine=found["cosine"],
                    cosine_abs=found["cosine_abs"],
                    norm=found["norm"][0],
                    seconds=seconds,
                )
            )
        return Measurement(params=spent.params, macs=spent.macs, rungs=rungs)


class _Errors:
    """Errors (rows, columns) in transformed units: their covariance, and how it scales.

    Their size depends on the accuracy that is predicted for the network, in steps of `_BINS`
    between which is interpolated; it does so in the same way for all columns of one quantity.
    """

    def __init__(self, errors: Floats, accuracy: Floats, columns: Sequence[Column]) -> None:
        self._sd = np.sqrt((errors**2).mean(axis=0))
        self._sd[self._sd == 0] = _LEAST
        edges = np.quantile(accuracy, np.linspace(0, 1, _BINS + 1)[1:-1])
        bins = np.searchsorted(edges, accuracy)
        squares = (errors / self._sd) ** 2
        names = [column.quantity for column in columns]
        self._centres = np.array([_mean(accuracy[bins == each]) for each in range(_BINS)])
        filled = ~np.isnan(self._centres)
        ratios = np.empty((_BINS, len(names)))
        for name in set(names):
            chosen = [index for index, each in enumerate(names) if each == name]
            for each in range(_BINS):
                inside = squares[bins == each][:, chosen].mean(axis=1)
                ratios[each, chosen] = (inside.sum() + _PRIOR) / (len(inside) + _PRIOR)
        self._centres, self._ratios = self._centres[filled], ratios[filled]
        scaled = errors / self.sd(accuracy)
        covariance = LedoitWolf(assume_centered=True).fit(scaled).covariance_
        unit = np.sqrt(np.diag(covariance))
        self._root = np.linalg.cholesky(covariance / np.outer(unit, unit))

    def sd(self, accuracy: Floats) -> Floats:
        """Return the standard deviations (networks, columns) at predicted accuracies."""
        ratios = [np.interp(accuracy, self._centres, column) for column in self._ratios.T]
        scale: Floats = self._sd * np.sqrt(np.stack(ratios, axis=1))
        return scale

    def standard(self, rng: np.random.Generator) -> Floats:
        """Return one error (columns,) in standard deviations, correlated as the errors are."""
        drawn: Floats = self._root @ rng.standard_normal(len(self._root))
        return drawn


@cached_per_process(size=2)
def open_surrogate(
    path: str | None = None, *, deviations: bool = False, seed: int = 0
) -> Surrogate:
    """Return the surrogate of the table at `path`, by default of the package's own.

    Another `seed` has other deviations. It is fitted once in a process. Raises what `load_table`
    and `Surrogate` raise.
    """
    return Surrogate(load_table(Path(path) if path else None), deviations=deviations, seed=seed)


def _trainings(record: Record) -> list[tuple[Rung, ...]]:
    return [rungs for rungs in record.trainings if rungs is not None]


def _value(rungs: Sequence[Rung], column: Column) -> float:
    rung = next(each for each in rungs if each.epochs == column.epochs)
    value = getattr(rung, column.quantity)
    return float(value if column.reference is None else value[column.reference])


def _spread(values: Floats) -> Floats:
    spread = values.std(axis=0)
    return np.where(spread > 0, spread, 1.0)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else np.nan
