"""Searches on the benchmark: their scores by definition, their cost, and that draws are noise."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from evolution.benchmark import Surrogate
from evolution.benchmark.config import BenchmarkConfig
from evolution.benchmark.measure import CLASSES, INPUT_SHAPE, SPACE, vgg5_genotype
from evolution.benchmark.result import read_searches, summarise
from evolution.benchmark.search import (
    Searched,
    Spent,
    baseline,
    run_searches,
    seen_front,
    selected,
)
from evolution.genotype import Candidate, Genotype, Trial
from evolution.objectives import dominated_area
from robustkit.errors import ConfigError
from robustkit.models.blueprint import Block
from robustkit.runs import Ledger
from tests.evolution.benchmark.synthetic import synthetic_table

SMALL = BenchmarkConfig(population=4, generations=3, screen=4, promote=2)
STEADY = replace(SMALL, mode="steady")
HALVED = replace(STEADY, generations=5, halving=2)


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    return Surrogate(synthetic_table(60))


def spent(number: int, accuracy: float, transfer: float) -> Spent:
    candidate = Candidate(number, Genotype((Block(),)), (), "sample", 0)
    values = {"accuracy": accuracy, "transfer": transfer, "macs": 1.0, "params": 1.0}
    return Spent(Trial(candidate, "Ok", values), values, 4, 4 * (number + 1))


def test_the_area_is_that_of_the_union_of_rectangles() -> None:
    rng = random.Random(0)
    for _ in range(20):
        points = [(rng.random(), rng.random()) for _ in range(6)]
        corner, grid = 0.3, 400
        inside = sum(
            any(
                a >= corner + 0.7 * (i + 0.5) / grid and 1 - t >= (j + 0.5) / grid
                for a, t in points
            )
            for i in range(grid)
            for j in range(0, grid, 8)
        )
        slow = 100 * 0.7 * inside / (grid * grid / 8)
        assert dominated_area(points, corner) == pytest.approx(slow, abs=0.8)
    assert dominated_area([(0.2, 0.0)], 0.3) == 0
    assert dominated_area([], 0.3) == 0


def test_front_and_selection_are_by_what_was_drawn() -> None:
    rng = random.Random(1)
    trials = [spent(n, rng.random(), rng.random()) for n in range(30)]

    def beaten(each: Spent) -> bool:
        return any(
            other.seen["accuracy"] >= each.seen["accuracy"]
            and other.seen["transfer"] <= each.seen["transfer"]
            and other is not each
            for other in trials
        )

    assert {each.trial.number for each in seen_front(trials)} == {
        each.trial.number for each in trials if not beaten(each)
    }
    best = selected(trials, 0.5)
    accurate = [each for each in trials if each.seen["accuracy"] >= 0.5]
    assert best.seen["transfer"] == min(each.seen["transfer"] for each in accurate)
    assert selected(trials, 1.1).seen["accuracy"] == max(e.seen["accuracy"] for e in trials)


@pytest.mark.parametrize("config", [SMALL, STEADY, HALVED, replace(SMALL, strategy="ageing")])
def test_both_searches_spend_the_same_and_propose_networks_of_the_space(
    config: BenchmarkConfig, surrogate: Surrogate
) -> None:
    found = run_searches(config, surrogate)
    for name, search in found.items():
        own = [each for each in search.trials if not each.promoted]
        assert sum(each.epochs for each in own) == own[-1].total
        assert own[-1].total <= config.search_epochs
        if config.halving is None or name == "random":
            assert own[-1].total == config.search_epochs
            assert len(search.whole) == config.population * config.generations
        else:
            assert own[-1].total > config.search_epochs - sum(config.rungs)
            assert {each.epochs for each in own} == {1, 2, 4}
        assert len(search.promoted) == config.promote
        for each in search.trials:
            assert SPACE.fits(each.trial.candidate.genotype, INPUT_SHAPE, CLASSES)
    operators = [each.trial.candidate.operator for each in found["evolve"].trials]
    assert operators[:3] == ["preset", "preset", "sample"]  # half of a generation
    assert found["evolve"].trials[0].trial.candidate.genotype.key() == vgg5_genotype().key()
    control = {each.trial.candidate for each in found["random"].trials}
    firsts = {each.trial.candidate for each in found["evolve"].trials[:2]}
    assert {each for each in control if each.number < 2} == firsts
    assert {each.operator for each in control - firsts} == {"sample"}


def test_a_search_is_the_same_again_and_another_with_another_seed(surrogate: Surrogate) -> None:
    first, again = run_searches(SMALL, surrogate), run_searches(SMALL, surrogate)
    assert _values(first) == _values(again)
    assert _values(run_searches(replace(SMALL, seed=1), surrogate)) != _values(first)


@pytest.mark.parametrize("config", [SMALL, HALVED])
def test_a_ledger_that_was_cut_gives_the_same_search(
    config: BenchmarkConfig, surrogate: Surrogate, tmp_path: Path
) -> None:
    with Ledger.create(tmp_path / "whole.sqlite") as ledger:
        whole = run_searches(config, surrogate, ledger)
        entries = ledger.in_order()
    with Ledger.create(tmp_path / "cut.sqlite") as ledger:
        for entry in entries[: len(entries) // 3]:
            ledger.record(entry)
        drawn: list[str] = []
        again = run_searches(config, surrogate, ledger, lambda entry: drawn.append(entry.id))
        assert _values(again) == _values(whole)
        assert sorted(drawn) == sorted(entry.id for entry in entries)
        assert _values(read_searches(ledger.in_order(), config)) == _values(whole)


def test_expected_values_are_the_surrogates_and_the_summary_is_by_them(
    surrogate: Surrogate,
) -> None:
    found = run_searches(SMALL, surrogate)
    level = baseline(surrogate, 4)
    summary = summarise(found, SMALL, level, networks=60, table="", seconds=0)
    for result in (summary.evolve, summary.random):
        search = found["evolve" if result is summary.evolve else "random"]
        chosen = next(e for e in search.promoted if e.trial.number == result.selected.number)
        expected = surrogate.expected(chosen.trial.candidate.genotype).rungs[-1]
        assert result.selected.expected.accuracy == expected.accuracy
        assert result.selected.expected.transfer == pytest.approx(sum(expected.transfer) / 3)
        assert result.selected.seen != result.selected.expected
        trial = next(e for e in search.whole if e.trial.number == result.selected.number)
        assert trial.seen["accuracy"] != chosen.seen["accuracy"]  # another training
    assert summary.threshold == pytest.approx(level["accuracy"] - 0.01)
    gain = summary.random.selected.expected.transfer - summary.evolve.selected.expected.transfer
    assert summary.transfer_gain == pytest.approx(100 * gain)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 3}, "nothing was measured after 3 epochs, only after 1, 2, 4"),
        ({"strategy": "nsga3"}, "unknown strategy 'nsga3'"),
        ({"kernels": (3, 9)}, "kernels: '9' is outside the benchmark's space"),
        ({"channels": (8, 256)}, "channels: '256' is outside"),
        ({"max_macs": 10**7}, "max_macs: 10000000 is outside"),
        ({"max_blocks": 20}, "max_blocks: 20 is outside"),
        ({"min_blocks": 1}, "min_blocks: 1 is outside"),
        ({"halving": 2}, "go with mode 'steady'"),
        ({"halving": 2, "mode": "steady", "generations": 1, "population": 2}, "raise generations"),
        ({"objectives": "accuracy:max,unseen:min", "epochs": 2}, "is measured after 4 epochs"),
        ({"objectives": "accuracy:max,transfer_vgg:min"}, "did you mean 'transfer_vgg5'"),
        ({"population": 1}, "population must be at least 2"),
        ({"floor": 2.0}, "floor must be in"),
    ],
)
def test_settings_outside_the_benchmark_are_one_line(
    settings: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        BenchmarkConfig(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_objectives_may_be_of_one_reference_and_of_unseen_sources(surrogate: Surrogate) -> None:
    config = replace(SMALL, objectives="accuracy:max,transfer_small:min,unseen:min")
    found = run_searches(config, surrogate, searches=("evolve",))
    assert len(found["evolve"].whole) == 12


def _values(found: dict[str, Searched]) -> list[tuple[object, ...]]:
    return [
        (name, each.trial.number, each.epochs, each.total, each.seen["accuracy"], each.promoted)
        for name, search in found.items()
        for each in search.trials
    ]
