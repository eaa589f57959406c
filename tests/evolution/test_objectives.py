"""Objectives: how they are written, and what a failed trial is worth."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolution.objectives import Objective, fitness_of, parse_objectives
from robustkit.errors import ConfigError


def test_the_full_syntax() -> None:
    text = "accuracy:max:2>=0.6, transfer:min,macs:min<=2e7"
    assert parse_objectives(text, known=("accuracy", "transfer", "macs")) == (
        Objective("accuracy", "max", 2.0, 0.6),
        Objective("transfer", "min"),
        Objective("macs", "min", 1.0, 2e7),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy", "cannot read 'accuracy': expected name:max or name:min"),
        ("", "cannot read ''"),
        ("accuracy:max,", "cannot read ''"),
        ("accuracy:maxx", r"unknown direction 'maxx'; did you mean 'max'\?"),
        ("acuracy:max", r"unknown name 'acuracy'; did you mean 'accuracy'\?"),
        ("accuracy:max,accuracy:min", "'accuracy' is given twice"),
        ("accuracy:max:x", "'x' is not a number"),
        ("accuracy:max:0", "weight must be a positive number, not 0.0"),
        ("accuracy:max:nan", "weight must be a positive number, not nan"),
        ("accuracy:max>=inf", "bound must be finite, not inf"),
        ("accuracy:max<=0.5", "a bound here is >=, in 'accuracy:max<=0.5'"),
        ("macs:min>=5", "a bound here is <="),
    ],
)
def test_unusable_objectives_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_objectives(text, known=("accuracy", "macs"))


OBJECTIVES = parse_objectives("accuracy:max,macs:min")


@given(st.floats(), st.floats())
def test_whatever_is_not_finite_has_no_fitness(accuracy: float, macs: float) -> None:
    fitness = fitness_of({"accuracy": accuracy, "macs": macs, "other": math.nan}, OBJECTIVES)
    if math.isfinite(accuracy) and math.isfinite(macs):
        assert fitness == (accuracy, macs)
    else:
        assert fitness is None


def test_no_values_no_fitness_and_a_missing_one_is_a_bug() -> None:
    assert fitness_of(None, OBJECTIVES) is None
    with pytest.raises(KeyError, match="macs"):
        fitness_of({"accuracy": 0.5}, OBJECTIVES)


def test_a_violation_is_relative_to_the_bound() -> None:
    accuracy = Objective("accuracy", "max", bound=0.8)
    assert accuracy.violation(0.8) == accuracy.violation(0.9) == 0
    assert accuracy.violation(0.6) == pytest.approx(0.25)
    assert Objective("macs", "min", bound=100).violation(150) == 0.5
    assert Objective("cos", "min", bound=0).violation(0.3) == 0.3
