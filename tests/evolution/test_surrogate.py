"""The forecast against refitting without each trial, and what it makes of bounds."""

from __future__ import annotations

import random

import numpy as np
import pytest

from evolution.genes import Feature, gene_features
from evolution.genotype import Candidate, Genotype, Trial
from evolution.objectives import Individual, Objective, individuals, parse_objectives
from evolution.sampling import sample
from evolution.space import SearchSpace
from evolution.surrogate import Surrogate, forecast, ridge

PENALTIES = np.logspace(-1, 3, 9)
SMOOTH = Feature("activation", "smooth")


@pytest.mark.parametrize("trials", [6, 40])
@pytest.mark.parametrize("noise", [0.1, 10.0])
def test_ridge_takes_the_penalty_that_predicts_left_out_trials_best(
    trials: int, noise: float
) -> None:
    rng = np.random.default_rng(trials)
    x = rng.normal(size=(trials, 12))
    y = x[:, 0] - 2 * x[:, 1] + noise * rng.normal(size=trials)
    x, y = x - x.mean(axis=0), y - y.mean()

    def slopes(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
        """With an unpenalised intercept, by centring."""
        x, y = x - x.mean(axis=0), y - y.mean()
        solution: np.ndarray = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
        return solution

    def left_out_error(penalty: float) -> float:
        errors = []
        for left_out in range(trials):
            rest = np.arange(trials) != left_out
            slope = slopes(x[rest], y[rest], penalty)
            guess = y[rest].mean() + (x[left_out] - x[rest].mean(axis=0)) @ slope
            errors.append((y[left_out] - guess) ** 2)
        return float(sum(errors))

    best = min(PENALTIES, key=left_out_error)
    np.testing.assert_allclose(ridge(x, y), slopes(x, y, best), atol=1e-9)


def known(objectives: tuple[Objective, ...], count: int = 40) -> list[Individual]:
    rng = random.Random(0)
    scored = []
    for number in range(count):
        genotype = sample(rng, SearchSpace())
        smooth = gene_features(genotype)[SMOOTH]
        values = {"transfer": 0.9 - 0.5 * smooth, "accuracy": 0.5 + 0.2 * smooth, "flat": 1.0}
        scored.append(Trial(Candidate(number, genotype, (), "sample", 0), "Ok", values))
    return individuals(scored, objectives)


def strangers() -> list[Genotype]:
    rng = random.Random(1)
    return [sample(rng, SearchSpace()) for _ in range(30)]


def test_what_depends_on_genes_is_forecast_and_what_is_constant_stays() -> None:
    objectives = parse_objectives("transfer:min,flat:max")
    expected = Surrogate(known(objectives), objectives).predict(strangers())
    truth = [0.9 - 0.5 * gene_features(each)[SMOOTH] for each in strangers()]
    assert np.abs(expected[:, 0] - truth).mean() < 0.05
    np.testing.assert_allclose(expected[:, 1], 1.0)


def test_merit_follows_direction_weight_and_bound() -> None:
    fewer = parse_objectives("transfer:min")
    more = parse_objectives("transfer:max")
    low, high = Surrogate(known(fewer), fewer), Surrogate(known(more), more)
    np.testing.assert_allclose(low.scores(strangers(), [2.0]), -high.scores(strangers(), [2.0]))

    bounded = parse_objectives("transfer:min,accuracy:max>=0.6")
    forecast = Surrogate(known(bounded), bounded)
    accuracy = forecast.predict(strangers())[:, 1]
    scores = forecast.scores(strangers(), [0.0, 0.0])
    spread = np.std([each.fitness.values[1] for each in known(bounded)])
    np.testing.assert_allclose(scores, -3 * np.maximum(0, 0.6 - accuracy) / spread, atol=1e-9)


def test_a_forecast_is_a_line_through_what_is_known_and_departs_by_genes() -> None:
    rng = random.Random(1)
    genotypes = [sample(rng, SearchSpace()) for _ in range(60)]
    smooth = np.array([gene_features(each)[SMOOTH] for each in genotypes])
    early = np.array([[rng.random(), rng.random()] for _ in genotypes])
    late = 0.2 + 0.5 * early
    known = list(range(0, 60, 2))
    numbers = forecast(genotypes, early, known, late[known])
    np.testing.assert_allclose(numbers, late, atol=1e-9)
    late[:, 0] += 0.3 * smooth
    numbers = forecast(genotypes, early, known, late[known])
    np.testing.assert_array_equal(numbers[known], late[known])
    np.testing.assert_allclose(numbers[:, 1], late[:, 1], atol=1e-9)
    error = np.abs(numbers[1::2, 0] - late[1::2, 0]).mean()
    slope = np.polyfit(early[known, 0], late[known, 0], 1)
    assert error < 0.5 * np.abs(np.polyval(slope, early[1::2, 0]) - late[1::2, 0]).mean()
    flat = np.ones((60, 1))  # nothing to draw a line through
    assert np.isfinite(forecast(genotypes, flat, known, late[known][:, :1])).all()
