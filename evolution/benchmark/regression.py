"""Regressors of the benchmark's surrogate: several targets at once, with held-out predictions.

Each is fitted on standardised targets and says, beside its predictions for new networks, what it
would have predicted for every network it was fitted on had that one, or its fold, been left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from scipy.spatial.distance import cdist
from sklearn.ensemble import (
    ExtraTreesRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.multioutput import MultiOutputRegressor

from evolution.surrogate import ridge
from robustkit.errors import ConfigError
from robustkit.registry import Registry

Floats = npt.NDArray[np.float64]

TREES = 100
_LEAF = 2  # rows of a leaf
_FEATURES = 0.5  # share of the features that a split chooses from
_NOISES = np.logspace(-3, 2, 16)  # variance of the noise over that of the process
_WIDTHS = (0.5, 1.0, 2.0, 4.0)  # length scales, in median distances between networks
_SUBSET = 500  # rows on which the length scale is chosen
FOLDS = 5


class Regressor(Protocol):
    """A fitted regression; `held_out` (n, targets) are predictions of rows that were left out.

    One by one, in folds, or by the trees that did not see them.
    """

    held_out: Floats

    def predict(self, x: Floats) -> Floats:
        """Return predictions (networks, targets) for features (networks, features)."""
        ...


Fit = Callable[[Floats, Floats, int], Regressor]
"""Fit features (n, features) to targets (n, targets), both standardised, with a seed."""

REGRESSORS: Registry[Fit] = Registry("regressor", ConfigError)


class _Ridge:
    """Ridge regression; the penalty of each target has the least leave-one-out error."""

    def __init__(self, x: Floats, y: Floats) -> None:
        self._slopes = np.stack([ridge(x, target) for target in y.T], axis=1)
        folds = KFold(FOLDS, shuffle=True, random_state=0)
        self.held_out = np.empty_like(y)
        for train, test in folds.split(x):
            for column, target in enumerate(y.T):
                self.held_out[test, column] = x[test] @ ridge(x[train], target[train])

    def predict(self, x: Floats) -> Floats:
        predicted: Floats = x @ self._slopes
        return predicted


class _GaussianProcess:
    """Gaussian process with a Matérn 5/2 kernel and a noise of its own for every target.

    Length scale and noises are those of the least leave-one-out error, which follows from one
    eigendecomposition (Rasmussen and Williams 2006, section 5.4.2).
    """

    def __init__(self, x: Floats, y: Floats, seed: int) -> None:
        subset = np.random.default_rng(seed).permutation(len(x))[:_SUBSET]
        some = x[subset]
        distances = cdist(some, some)
        median = float(np.median(distances[np.triu_indices(len(some), 1)])) or 1.0
        errors = [
            float(
                ((_leave_one_out(_matern(distances / (width * median)), y[subset])[0]) ** 2).sum()
            )
            for width in _WIDTHS
        ]
        self._scale = median * _WIDTHS[int(np.argmin(errors))]
        self._x = x
        residuals, self._weights = _leave_one_out(_matern(cdist(x, x) / self._scale), y)
        self.held_out = y - residuals

    def predict(self, x: Floats) -> Floats:
        predicted: Floats = _matern(cdist(x, self._x) / self._scale) @ self._weights
        return predicted


def _matern(distance: Floats) -> Floats:
    scaled = np.sqrt(5.0) * distance
    kernel: Floats = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return kernel


def _leave_one_out(kernel: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return residuals of rows left out one by one, and weights of kernel rows, both (n, targets).

    Of every target at the noise with the least sum of squares.
    """
    values, vectors = eigh(kernel)
    projected, squares = vectors.T @ y, vectors**2
    best = np.full(y.shape[1], np.inf)
    residuals, weights = np.zeros_like(y), np.zeros_like(y)
    for noise in _NOISES:
        inverse = 1 / (np.maximum(values, 0) + noise)
        solved = vectors @ (inverse[:, None] * projected)
        left_out = solved / (squares @ inverse)[:, None]
        error = (left_out**2).sum(axis=0)
        better = error < best
        best[better] = error[better]
        residuals[:, better], weights[:, better] = left_out[:, better], solved[:, better]
    return residuals, weights


class _Forest:
    """Trees of scikit-learn, their nodes in flat arrays: one network is predicted as fast as many.

    `held_out` of a row is the mean of the trees that did not see it.
    """

    def __init__(self, trees: Any, x: Floats, y: Floats) -> None:
        trees.fit(x, y)
        self.held_out = trees.oob_prediction_.reshape(y.shape)
        parts = [estimator.tree_ for estimator in trees.estimators_]
        starts = np.cumsum([0, *(part.node_count for part in parts)])
        self._roots = starts[:-1]
        # A leaf leads to itself, whatever the comparison says.
        nodes = np.arange(starts[-1])
        left = np.concatenate([part.children_left for part in parts])
        right = np.concatenate([part.children_right for part in parts])
        offset = np.repeat(self._roots, [part.node_count for part in parts])
        leaf = np.concatenate([part.children_left < 0 for part in parts])
        self._children = np.stack(
            [np.where(leaf, nodes, left + offset), np.where(leaf, nodes, right + offset)]
        )
        self._feature = np.concatenate([np.maximum(part.feature, 0) for part in parts])
        self._threshold = np.concatenate([part.threshold for part in parts])
        self._depth = max(part.max_depth for part in parts)
        # Values of leaves alone are looked up.
        self._row = np.cumsum(leaf) - 1
        values = [part.value.reshape(part.node_count, -1) for part in parts]
        self._values = np.concatenate(values)[leaf].astype(np.float32)

    def predict(self, x: Floats) -> Floats:
        single = x.astype(np.float32)  # as scikit-learn does
        at = np.broadcast_to(self._roots, (len(x), len(self._roots)))
        rows = np.arange(len(x))[:, None]
        for _ in range(self._depth):
            right = single[rows, self._feature[at]] > self._threshold[at]
            at = self._children[right.astype(np.intp), at]
        predicted: Floats = self._values[self._row[at]].mean(axis=1, dtype=np.float64)
        return predicted


class _Boosting:
    """Gradient-boosted trees on histograms, one model for every target."""

    def __init__(self, x: Floats, y: Floats, seed: int) -> None:
        one = HistGradientBoostingRegressor(
            max_iter=150, learning_rate=0.06, max_leaf_nodes=16, random_state=seed % 2**32
        )
        self._model = MultiOutputRegressor(one)
        folds = KFold(FOLDS, shuffle=True, random_state=0)
        self.held_out = cross_val_predict(self._model, x, y, cv=folds)
        self._model.fit(x, y)

    def predict(self, x: Floats) -> Floats:
        predicted: Floats = self._model.predict(x)
        return predicted


class _Mean:
    """The mean of several regressors."""

    def __init__(self, parts: Sequence[Regressor]) -> None:
        self._parts = parts
        self.held_out = np.mean([part.held_out for part in parts], axis=0)

    def predict(self, x: Floats) -> Floats:
        predicted: Floats = np.mean([part.predict(x) for part in self._parts], axis=0)
        return predicted


def _trees(kind: type, x: Floats, y: Floats, seed: int) -> _Forest:
    model = kind(
        n_estimators=TREES,
        min_samples_leaf=_LEAF,
        max_features=_FEATURES,
        bootstrap=True,
        oob_score=True,
        random_state=seed % 2**32,
        n_jobs=1,
    )
    return _Forest(model, x, y)


@REGRESSORS.register("ridge")
def _fit_ridge(x: Floats, y: Floats, seed: int) -> Regressor:
    return _Ridge(x, y)


@REGRESSORS.register("gaussian process")
def _fit_process(x: Floats, y: Floats, seed: int) -> Regressor:
    return _GaussianProcess(x, y, seed)


@REGRESSORS.register("random forest")
def _fit_random_forest(x: Floats, y: Floats, seed: int) -> Regressor:
    return _trees(RandomForestRegressor, x, y, seed)


@REGRESSORS.register("extra trees")
def _fit_extra_trees(x: Floats, y: Floats, seed: int) -> Regressor:
    return _trees(ExtraTreesRegressor, x, y, seed)


@REGRESSORS.register("boosted trees")
def _fit_boosting(x: Floats, y: Floats, seed: int) -> Regressor:
    return _Boosting(x, y, seed)


@REGRESSORS.register("process and trees")
def _fit_both(x: Floats, y: Floats, seed: int) -> Regressor:
    return _Mean([_GaussianProcess(x, y, seed), _trees(ExtraTreesRegressor, x, y, seed)])
