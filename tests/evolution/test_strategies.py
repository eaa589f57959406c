"""What every strategy has to keep, and what makes each the one it is."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from evolution.genotype import Candidate, Trial
from evolution.objectives import Objective, front, individuals, parse_objectives
from evolution.space import SearchSpace
from evolution.strategies import STRATEGIES, SearchSettings, Strategy, open_strategy
from evolution.strategies.base import rate
from robustkit.errors import ConfigError
from robustkit.models import cost

SHAPE = (1, 16, 16)
SETTINGS = SearchSettings(
    space=SearchSpace(max_blocks=5, max_macs=3_000_000, max_params=100_000),
    input_shape=SHAPE,
    num_classes=10,
    objectives=parse_objectives("accuracy:max,transfer:min,macs:min"),
    population=6,
    generations=4,
    seed=3,
    screen=4,
)
Judge = Callable[[Candidate], Trial]
every = pytest.mark.parametrize("name", sorted(STRATEGIES))


def judge(candidate: Candidate) -> Trial:
    """A cheap stand-in for training: it depends on the genotype alone."""
    blocks = candidate.genotype.blueprint().blocks
    smooth = sum(block.activation in ("gelu", "silu") for block in blocks) / len(blocks)
    wide = sum(block.channels for block in blocks) / 1000
    macs = cost(candidate.genotype.blueprint(), SHAPE, 10).macs
    values = {"accuracy": wide, "transfer": 1 - smooth, "macs": macs}
    return Trial(candidate, "Ok", values)


def failing(kind: str, every_nth: int) -> Judge:
    def judged(candidate: Candidate) -> Trial:
        if candidate.number % every_nth:
            return judge(candidate)
        bad = {"accuracy": math.nan, "transfer": math.nan, "macs": math.nan}
        return Trial(candidate, kind, bad if kind == "Ok" else None)

    return judged


def play(search: Strategy, judged: Judge = judge, shuffled: int | None = None) -> list[Trial]:
    told: list[Trial] = []
    while asked := search.ask():
        batch = [judged(candidate) for candidate in asked]
        told += batch
        if shuffled is not None:
            random.Random(shuffled).shuffle(batch)
        search.tell({each.candidate.number: each for each in batch})
    return told


@every
@pytest.mark.parametrize("screen", [1, 8])
def test_exactly_the_budget_of_distinct_fitting_networks(name: str, screen: int) -> None:
    told = play(open_strategy(name, replace(SETTINGS, screen=screen)))
    candidates = [each.candidate for each in told]
    assert [each.number for each in candidates] == list(range(SETTINGS.budget))
    assert [each.generation for each in candidates] == [
        number // SETTINGS.population for number in range(SETTINGS.budget)
    ]
    assert len({each.genotype.key() for each in candidates}) == SETTINGS.budget
    assert all(SETTINGS.space.fits(each.genotype, SHAPE, 10) for each in candidates)


@every
def test_the_same_seed_asks_the_same_in_whatever_order_it_is_told(name: str) -> None:
    told = play(open_strategy(name, SETTINGS))
    assert play(open_strategy(name, SETTINGS), shuffled=1) == told
    assert play(open_strategy(name, replace(SETTINGS, seed=4))) != told


@every
def test_global_generators_are_left_alone(name: str) -> None:
    def states() -> tuple[Any, ...]:
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()

    before = states()
    play(open_strategy(name, SETTINGS))
    assert states() == before


@every
def test_parents_are_earlier_candidates_that_did_not_fail(name: str) -> None:
    for kind in ("Ok", "Diverged"):
        told = play(open_strategy(name, SETTINGS), failing(kind, every_nth=2))
        for each in told:
            child = each.candidate
            assert all(parent < child.number and parent % 2 for parent in child.parents)
            assert len(set(child.parents)) == len(child.parents)
            assert (child.operator == "sample") == (not child.parents)
            assert child.operator.startswith("crossover") == (len(child.parents) == 2)


@every
def test_a_search_in_which_everything_fails_samples_on(name: str) -> None:
    told = play(open_strategy(name, SETTINGS), failing("Timeout", every_nth=1))
    assert len(told) == SETTINGS.budget
    assert {each.candidate.operator for each in told} == {"sample"}


@every
def test_a_single_survivor_is_mutated(name: str) -> None:
    def only_the_first(candidate: Candidate) -> Trial:
        return judge(candidate) if candidate.number == 0 else Trial(candidate, "Lost")

    told = play(open_strategy(name, SETTINGS), only_the_first)
    bred = told[SETTINGS.population :]
    assert {each.candidate.parents for each in bred} == ({()} if name == "random" else {(0,)})


def test_all_strategies_start_from_the_same_networks() -> None:
    firsts = [
        [each.genotype for each in open_strategy(name, SETTINGS).ask()] for name in STRATEGIES
    ]
    assert all(first == firsts[0] for first in firsts)


@every
def test_asking_and_telling_out_of_turn_are_bugs(name: str) -> None:
    search = open_strategy(name, SETTINGS)
    asked = search.ask()
    with pytest.raises(RuntimeError, match="6 candidates have not been told yet"):
        search.ask()
    with pytest.raises(ValueError, match=r"expected candidates \[0, 1, 2, 3, 4, 5\], not \[0\]"):
        search.tell({0: judge(asked[0])})


@every
def test_a_space_too_small_says_so(name: str) -> None:
    tiny = replace(SETTINGS, space=replace(SETTINGS.space, max_macs=10))
    message = "found 0 of 24 distinct networks within max_params 100000 and max_macs 10 for 1×16×16"
    with pytest.raises(ConfigError, match=message):
        open_strategy(name, tiny).ask()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"population": 1}, "population must be at least 2, not 1"),
        ({"generations": 0}, "generations must be at least 1, not 0"),
        ({"crossover": 1.5}, r"crossover must be in \[0, 1\], not 1.5"),
        ({"screen": 0}, "screen must be at least 1, not 0"),
        ({"objectives": ()}, "at least one objective is needed"),
    ],
)
def test_settings_are_checked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SETTINGS, **fields)


def test_an_unknown_strategy_gets_a_hint() -> None:
    with pytest.raises(ConfigError, match=r"unknown strategy 'nsga3'; did you mean 'nsga2'\?"):
        open_strategy("nsga3", SETTINGS)


BOUNDED = parse_objectives("accuracy:max:2>=0.06,transfer:min,macs:min")
third_generation = pytest.mark.parametrize(
    ("objectives", "seed"),
    [(SETTINGS.objectives, 0), (SETTINGS.objectives, 1), (BOUNDED, 2), (BOUNDED, 3)],
)


def two_generations_and_their_children(
    name: str, objectives: tuple[Objective, ...], seed: int
) -> tuple[list[Trial], set[int]]:
    told = play(open_strategy(name, replace(SETTINGS, objectives=objectives, seed=seed)))
    size = SETTINGS.population
    children = [each.candidate for each in told[2 * size : 3 * size]]
    return told[: 2 * size], {parent for child in children for parent in child.parents}


@third_generation
def test_nsga2_breeds_from_the_first_fronts(objectives: tuple[Objective, ...], seed: int) -> None:
    """Fronts are peeled off until they fill the population; what is left has no children."""
    rest, parents = two_generations_and_their_children("nsga2", objectives, seed)
    survivors: list[Trial] = []
    while len(survivors) < SETTINGS.population:
        peeled = front(rest, objectives)
        survivors += peeled
        rest = [each for each in rest if each not in peeled]
    assert rest
    assert parents <= {each.candidate.number for each in survivors}


@third_generation
def test_mu_plus_lambda_breeds_from_the_best(objectives: tuple[Objective, ...], seed: int) -> None:
    told, parents = two_generations_and_their_children("mu_plus_lambda", objectives, seed)
    table = [[each.values[o.name] for o in objectives] for each in told if each.values]
    spans = [(min(column), max(column)) for column in zip(*table, strict=True)]

    def merit(row: list[float]) -> tuple[float, float]:
        missed = sum(o.violation(value) for o, value in zip(objectives, row, strict=True))
        shares = [
            (value - low) / (high - low) if o.direction == "max" else (high - value) / (high - low)
            for o, value, (low, high) in zip(objectives, row, spans, strict=True)
        ]
        weighted = [o.weight * share for o, share in zip(objectives, shares, strict=True)]
        return -missed, sum(weighted)

    ranked = sorted(range(len(told)), key=lambda number: merit(table[number]), reverse=True)
    assert parents <= set(ranked[: SETTINGS.population])


def test_random_search_is_told_nothing() -> None:
    asked = [each.candidate for each in play(open_strategy("random", SETTINGS))]
    unscreened = replace(SETTINGS, screen=1)
    failed = play(open_strategy("random", unscreened), failing("Lost", every_nth=1))
    assert asked == [each.candidate for each in failed]


def test_screening_steers_the_children_of_the_same_parents() -> None:
    """Transfer is 1 - the share of two activations here: a forecast sees that, chance does not."""

    def smoothness(screen: int) -> float:
        aims = parse_objectives("transfer:min")
        settings = replace(SETTINGS, objectives=aims, population=12, generations=2, screen=screen)
        children = play(open_strategy("nsga2", settings))[12:]
        return sum(each.values["transfer"] for each in children if each.values)

    assert smoothness(32) < smoothness(1)


def test_ageing_forgets_the_oldest() -> None:
    told = play(open_strategy("ageing", replace(SETTINGS, generations=6)))
    size, batch = SETTINGS.population, 2
    for each in told[size:]:
        number = each.candidate.number
        youngest = number - (number - size) % batch
        assert all(parent >= youngest - size for parent in each.candidate.parents)


def test_a_local_search_goes_on_from_the_best_alone() -> None:
    start = open_strategy("random", SETTINGS).ask()[0].genotype
    search = open_strategy("local", replace(SETTINGS, screen=1, presets=(start,)))
    trials: dict[int, Trial] = {}
    while asked := search.ask():
        objectives = SETTINGS.objectives
        if trials:
            known = individuals(trials.values(), objectives)
            rate(known, objectives)
            best = max(known, key=lambda each: each.rating).trial.number
            assert {each.parents for each in asked} == {(best,)}
        else:
            assert asked[0].genotype == start
            assert all(each.operator.startswith("preset") for each in asked)
        told = {each.number: judge(each) for each in asked}
        search.tell(told)
        trials |= told
    assert len(trials) == SETTINGS.budget
