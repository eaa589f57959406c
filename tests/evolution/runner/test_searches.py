"""Searches: the same candidates in whichever order trials end; failures are never selected."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evolution.genotype import Trial
from evolution.objectives import front, parse_objectives
from evolution.protocol.jobs import TrainNet
from evolution.protocol.search import CandidateTasks, Search
from evolution.runner import Scheduler, generational, steady
from evolution.space import SearchSpace
from evolution.strategies import STRATEGIES, SearchSettings, Strategy, open_strategy
from robustkit.compute import derive_seed
from robustkit.errors import RunError
from robustkit.jobs import Diverged, Lost, Ok, Outcome, OutOfMemory, Timeout
from robustkit.runs import Entry, Ledger
from tests.evolution.runner.executor import Shuffled

SETTINGS = SearchSettings(
    space=SearchSpace(min_blocks=1, max_blocks=3, max_params=50_000, max_macs=2_000_000),
    input_shape=(1, 8, 8),
    num_classes=3,
    objectives=parse_objectives("accuracy:max,transfer:min,macs:min"),
    population=6,
    generations=4,
    screen=4,
)
SEARCH = Search(name="evolve", run_path="run", seed=5)
FAILURES = (Diverged("nan"), Timeout("slow"), OutOfMemory("big"), Lost("killed"))


def made_up(job: TrainNet) -> Outcome:
    """An outcome that depends on the job alone, as a real one does; a third are failures."""
    rng = random.Random(job.seed)
    if rng.random() < 1 / 3:
        return rng.choice(FAILURES)
    names = ("accuracy", "transfer", "cos_abs", "grad_norm")
    return Ok({name: rng.random() for name in names} | {"macs": rng.randrange(9), "params": 1})


class Searched:
    """One search with made-up outcomes that come in an order drawn from `order`."""

    def __init__(self, folder: Path, strategy: str, order: int) -> None:
        self.told: list[list[int]] = []
        self.completed: list[str] = []
        executor = Shuffled(order, outcome=made_up)
        with Ledger.create(folder / f"{strategy}-{order}.sqlite") as ledger:
            scheduler = Scheduler(executor, ledger, lambda entry: self.completed.append(entry.id))
            tasks = CandidateTasks(SEARCH)
            running = generational(self._spied(strategy), scheduler, tasks.trial)
            self.trials: list[Trial] = scheduler.run(running)
            self.entries: list[Entry] = ledger.trials()

    def _spied(self, name: str) -> Strategy:
        strategy = open_strategy(name, SETTINGS)
        tell = strategy.tell

        def listening(trials: Mapping[int, Trial]) -> None:
            self.told.append(list(trials))
            tell(trials)

        strategy.tell = listening  # type: ignore[method-assign]
        return strategy


def findings(entries: list[Entry]) -> list[tuple[Any, ...]]:
    return [(each.id, each.key, each.payload, each.outcome, each.result) for each in entries]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_order_of_completion_changes_nothing(tmp_path: Path, strategy: str) -> None:
    searches = [Searched(tmp_path, strategy, order) for order in range(3)]
    first = searches[0]
    assert len(first.entries) == SETTINGS.budget
    for other in searches:
        assert findings(other.entries) == findings(first.entries)
        assert other.trials == first.trials
        assert [number for told in other.told for number in told] == list(range(SETTINGS.budget))
    if strategy != "ageing":  # which asks for one at a time after the first generation
        assert len({tuple(search.completed) for search in searches}) > 1


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_what_failed_is_told_and_never_selected(tmp_path: Path, strategy: str) -> None:
    search = Searched(tmp_path, strategy, 0)
    ok = [int(each.payload["number"]) for each in search.entries if each.outcome == "Ok"]
    assert 0 < len(ok) < len(search.entries)
    assert [each.number for each in search.trials if each.values is not None] == ok
    best = [each.number for each in front(search.trials, SETTINGS.objectives)]
    assert best
    assert set(best) <= set(ok)
    for each in search.trials:
        assert (each.values is not None) == (each.outcome == "Ok") == (each.reason == "")
    parents = {number for each in search.entries for number in each.payload["parents"]}
    assert parents <= set(ok)


def test_a_front_has_no_candidate_that_is_not_a_number(tmp_path: Path) -> None:
    trials = Searched(tmp_path, "random", 0).trials
    nan = {name: float("nan") for name in ("accuracy", "transfer", "macs")}
    spoilt = [Trial(each.candidate, "Ok", nan) for each in trials[:10]] + trials[10:]
    best = [each.number for each in front(spoilt, SETTINGS.objectives)]
    assert best
    assert min(best) >= 10


def test_a_trial_is_named_and_seeded_by_what_it_is() -> None:
    candidates = open_strategy("random", SETTINGS).ask()
    tasks = CandidateTasks(SEARCH)
    one, promoted = tasks.trial(candidates[0]), tasks.promotion(candidates[0])
    elsewhere = CandidateTasks(replace(SEARCH, name="random")).trial(candidates[0])
    key = candidates[0].genotype.key()
    assert (one.id, one.stage, one.key) == ("evolve/0000", "evolve", f"{key}/0")
    assert (promoted.id, promoted.stage, promoted.key) == (
        "promote-evolve/0000",
        "promote-evolve",
        f"{key}/1",
    )
    assert elsewhere.job == one.job
    assert elsewhere.key == one.key
    assert isinstance(one.job, TrainNet)
    assert isinstance(promoted.job, TrainNet)
    assert one.job.seed == derive_seed(5, key, 0) != promoted.job.seed
    assert (one.job.part, promoted.job.part) == ("trial", "train")  # never val, never test


class Steady:
    """A search without generations on a ledger that may hold the beginning of it."""

    def __init__(self, path: Path, strategy: str, order: int, in_flight: int = 3) -> None:
        executor = Shuffled(order, workers=in_flight, outcome=made_up)
        with Ledger.open(path) if path.exists() else Ledger.create(path) as ledger:
            scheduler = Scheduler(executor, ledger)
            running = steady(
                open_strategy(strategy, SETTINGS),
                scheduler,
                CandidateTasks(SEARCH).trial,
                in_flight=in_flight,
                recorded=ledger.in_order("evolve"),
            )
            self.ended: list[Trial] = scheduler.run(running)
            self.trials = ledger.in_order()
        self.started = [job.seed for job in executor.started]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_steady_search_goes_on_as_it_was_asked(tmp_path: Path, strategy: str) -> None:
    whole = Steady(tmp_path / "whole.sqlite", strategy, order=1)
    assert len(whole.trials) == SETTINGS.budget
    assert len({each.key for each in whole.trials}) == SETTINGS.budget
    assert [each.number for each in whole.ended] == [e.payload["number"] for e in whole.trials]
    assert [each.outcome for each in whole.ended] == [each.outcome for each in whole.trials]
    for kept in (0, 1, 7, 15, SETTINGS.budget):
        path = tmp_path / f"{kept}.sqlite"
        with Ledger.create(path) as ledger:
            for each in whole.trials[:kept]:
                ledger.record(each)
        again = Steady(path, strategy, order=9)
        # What was recorded stays, what was under way is asked for again, the very same.
        assert findings(again.trials[:kept]) == findings(whole.trials[:kept])
        assert len(again.started) == SETTINGS.budget - kept
        under_way = {each.key for each in whole.trials} - {e.key for e in whole.trials[:kept]}
        assert kept == 0 or len({e.key for e in again.trials[kept:]} & under_way) >= 2 or kept > 20
        assert sorted(each.number for each in again.ended) == list(range(SETTINGS.budget))


def test_a_steady_search_is_bred_from_what_has_ended(tmp_path: Path) -> None:
    searches = [Steady(tmp_path / f"{n}.sqlite", "nsga2", order=n) for n in range(3)]
    first = {each.payload["number"]: each.key for each in searches[0].trials}
    assert all(len(each.trials) == SETTINGS.budget for each in searches)
    others = [{t.payload["number"]: t.key for t in each.trials} for each in searches[1:]]
    # The sampled population is the same; what is bred depends on the order of endings.
    sampled = range(SETTINGS.population)
    assert all(first[n] == other[n] for other in others for n in sampled)
    assert any(first != other for other in others)
    for each in searches:
        ended: set[int] = set()
        for trial in each.trials:
            assert all(parent in ended for parent in trial.payload["parents"])
            ended.add(trial.payload["number"])


def test_a_ledger_of_another_steady_search_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    Steady(path, "nsga2", order=0)
    with pytest.raises(RunError, match="is not what this search would have asked for"):
        Steady(path, "ageing", order=0)
