"""Successive halving against its definition, written out the slow way."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolution.genotype import Candidate, Genotype, Trial
from evolution.halving import Halving, rungs
from evolution.objectives import Fitness, parse_objectives
from robustkit.errors import ConfigError
from robustkit.models.blueprint import Block

OBJECTIVES = parse_objectives("accuracy:max>=0.5,transfer:min,macs:min")
SOME = Genotype((Block(),))


def scored(number: int, values: tuple[float, float, float] | None) -> Trial:
    candidate = Candidate(number, SOME, (), "sample", 0)
    if values is None:
        return Trial(candidate, "Diverged", None)
    return Trial(candidate, "Ok", dict(zip(("accuracy", "transfer", "macs"), values, strict=True)))


def fewest_dominators(waiting: list[Trial], all_of: list[Trial]) -> list[int]:
    """Numbers of those waiting that the fewest dominate, by DEAP's pairwise comparison."""

    def fitness(each: Trial) -> Fitness:
        assert each.values is not None
        return Fitness([each.values[o.name] for o in OBJECTIVES], OBJECTIVES)

    counts = {
        each.candidate.number: sum(fitness(other).dominates(fitness(each)) for other in all_of)
        for each in waiting
    }
    return [number for number, count in counts.items() if count == min(counts.values())]


VALUES = st.tuples(*[st.sampled_from((0.1, 0.4, 0.5, 0.6, 0.9))] * 3)


@given(st.lists(st.none() | VALUES, max_size=25), st.integers(2, 4))
def test_the_best_of_so_many_go_on_each_once(
    told: list[tuple[float, float, float] | None], rate: int
) -> None:
    halving = Halving([OBJECTIVES], rate)
    seen: list[Trial] = []
    promoted: list[int] = []
    for number, values in enumerate(told):
        seen.append(scored(number, values))
        halving.tell(seen[-1])
        able = [each for each in seen if each.values is not None]
        while (found := halving.promote()) is not None:
            waiting = [each for each in able if each.candidate.number not in promoted]
            assert found[1] == 1
            assert found[0].number in fewest_dominators(waiting, able)
            promoted.append(found[0].number)
        assert len(promoted) == min(len(seen) // rate, len(able))
    assert len(set(promoted)) == len(promoted)


def test_of_equals_the_most_isolated_goes_first() -> None:
    halving = Halving([parse_objectives("accuracy:max,transfer:min")], 5)
    for number, place in enumerate((0.5, 0.52, 0.54, 0.9, 0.1)):
        halving.tell(scored(number, (place, place, 0.0)))  # none dominates another
    found = halving.promote()
    assert found is not None
    assert found[0].number in (3, 4)  # an end
    assert halving.promote() is None


def test_higher_rungs_go_first_and_failures_never() -> None:
    halving = Halving([OBJECTIVES, OBJECTIVES], 2)
    for number in range(8):
        halving.tell(scored(number, None if number < 5 else (0.5 + number / 100, 0.1, 1)))
    first = [halving.promote() for _ in range(2)]
    assert [each and (each[0].number, each[1]) for each in first] == [(7, 1), (6, 1)]
    for number in (7, 6):
        halving.tell(replace(scored(number, (0.6, number / 100, 1)), rung=1))
    found = halving.promote()
    assert found is not None
    assert (found[0].number, found[1]) == (6, 2)
    halving.tell(replace(scored(6, (0.7, 0, 1)), rung=2))  # the last rung: nothing follows
    found = halving.promote()
    assert found is not None
    assert (found[0].number, found[1]) == (5, 1)  # all that is left of the first rung's four
    assert halving.promote() is None


def test_what_is_told_last_counts_as_much() -> None:
    """However the told are ordered, who dominates whom stays the same."""
    values = [tuple(random.Random(n).choices((0.2, 0.5, 0.8), k=3)) for n in range(30)]
    best = []
    for seed in range(4):
        order = list(range(30))
        random.Random(seed).shuffle(order)
        halving = Halving([parse_objectives("accuracy:max,transfer:min,macs:min")], 30)
        for number in order:
            halving.tell(scored(number, values[number]))  # type: ignore[arg-type]
        found = halving.promote()
        assert found is not None
        best.append(values[found[0].number])
    undominated = [
        each
        for each in values
        if not any(
            (other[0] >= each[0] and other[1] <= each[1] and other[2] <= each[2]) and other != each
            for other in values
        )
    ]
    assert all(each in undominated for each in best)


@given(st.integers(1, 200), st.integers(2, 5))
def test_rungs_divide_the_epochs(epochs: int, rate: int) -> None:
    if epochs < rate:
        with pytest.raises(ConfigError, match="at least"):
            rungs(epochs, rate)
        return
    found = rungs(epochs, rate)
    assert found[-1] == epochs
    assert 1 <= found[0] < rate
    assert all(after // rate == before for before, after in pairwise(found))
    assert len(found) == 1 + math.floor(math.log(epochs + 0.5, rate))


def test_a_forecast_promotes_those_that_catch_up() -> None:
    """Smooth networks start low and end high: the forecast has seen it, the rung has not."""
    late, early = (parse_objectives("accuracy:max"),) * 2
    slow, fast = (Genotype((Block(activation=each),)) for each in ("silu", "relu"))

    def trial(number: int, accuracy: float, rung: int = 0) -> Trial:
        genotype = slow if number % 2 else fast
        candidate = Candidate(number, genotype, (), "sample", 0)
        return Trial(candidate, "Ok", {"accuracy": accuracy}, rung=rung)

    promoted = []
    for forecast in ((), late):
        halving = Halving([early], 2, forecast=forecast)
        for number in range(16):
            halving.tell(trial(number, 0.3 + number / 1000 - 0.1 * (number % 2)))
        for _ in range(7):
            found = halving.promote()
            assert found is not None
            number = found[0].number
            halving.tell(trial(number, 0.5 + number / 1000 + 0.2 * (number % 2), rung=1))
        # Of what has ended on the last rung only the fast ones are known without the forecast.
        for number in (1, 3, 5):
            halving.tell(trial(number, 0.7 + number / 1000, rung=1))
        found = halving.promote()
        assert found is not None
        promoted.append(found[0].number)
    assert promoted[0] % 2 == 0
    assert promoted[1] % 2 == 1
