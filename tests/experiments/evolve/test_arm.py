"""A search arm: the same questions whatever order the answers come in; failures never chosen."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from evolution.candidate import Scored
from evolution.objectives import parse_objectives
from evolution.pareto import front
from evolution.space import SearchSpace
from evolution.strategies import STRATEGIES, SearchSettings, Strategy, open_strategy
from experiments.evolve import arm
from experiments.evolve.agenda import Agenda
from experiments.evolve.arm import SearchArm, candidate_task, promotion_task
from experiments.evolve.jobs import TrainNet
from experiments.evolve.selection import Contender
from robustkit.compute import Diverged, Lost, Ok, Outcome, OutOfMemory, Timeout, derive_seed
from robustkit.runs import Ledger, Trial
from tests.experiments.evolve.executor import Shuffled

SETTINGS = SearchSettings(
    space=SearchSpace(min_blocks=1, max_blocks=3, max_params=50_000, max_macs=2_000_000),
    input_shape=(1, 8, 8),
    num_classes=3,
    objectives=parse_objectives("accuracy:max,transfer:min,macs:min"),
    population=6,
    generations=4,
    screen=4,
)
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

    def __init__(
        self, folder: Path, strategy: str, order: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.told: list[list[int]] = []
        self.scored: list[Scored] = []
        self.contenders: list[list[Contender]] = []
        self.completed: list[str] = []
        monkeypatch.setattr(arm, "open_strategy", self._spied)
        executor = Shuffled(order, outcome=made_up)
        with Ledger.create(folder / f"{strategy}-{order}.sqlite") as ledger:
            agenda = Agenda(executor, ledger, lambda trial: self.completed.append(trial.id))
            SearchArm(
                "evolve",
                strategy,
                SETTINGS,
                "run",
                agenda,
                seed=5,
                priority=0,
                done=self.contenders.append,
            ).advance()
            agenda.work()
            self.trials: list[Trial] = ledger.trials()

    def _spied(self, name: str, settings: SearchSettings) -> Strategy:
        strategy = open_strategy(name, settings)
        tell = strategy.tell

        def listening(results: Mapping[int, Scored]) -> None:
            self.told.append(list(results))
            self.scored += results.values()
            tell(results)

        strategy.tell = listening  # type: ignore[method-assign]
        return strategy


def findings(trials: list[Trial]) -> list[tuple[Any, ...]]:
    return [(each.id, each.key, each.payload, each.outcome, each.result) for each in trials]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_order_of_completion_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    searches = [Searched(tmp_path, strategy, order, monkeypatch) for order in range(3)]
    first = searches[0]
    assert len(first.trials) == SETTINGS.budget
    for other in searches:
        assert findings(other.trials) == findings(first.trials)
        assert other.contenders == first.contenders
        assert [number for told in other.told for number in told] == list(range(SETTINGS.budget))
    if strategy != "ageing":  # which asks for one at a time after the first generation
        assert len({tuple(search.completed) for search in searches}) > 1


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_what_failed_is_told_and_never_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    search = Searched(tmp_path, strategy, 0, monkeypatch)
    ok = [int(trial.payload["number"]) for trial in search.trials if trial.outcome == "Ok"]
    assert 0 < len(ok) < len(search.trials)
    (contenders,) = search.contenders
    assert [each.candidate.number for each in contenders] == ok
    best = [each.candidate.number for each in front(search.scored, SETTINGS.objectives)]
    assert best
    assert set(best) <= set(ok)
    for each in search.scored:
        assert (each.values is not None) == (each.outcome_kind == "Ok")
    parents = {number for trial in search.trials for number in trial.payload["parents"]}
    assert parents <= set(ok)


def test_a_front_has_no_candidate_that_is_not_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = Searched(tmp_path, "random", 0, monkeypatch).scored
    nan = {name: float("nan") for name in ("accuracy", "transfer", "macs")}
    spoilt = [Scored(each.candidate, "Ok", nan) for each in scored[:10]] + scored[10:]
    best = [each.candidate.number for each in front(spoilt, SETTINGS.objectives)]
    assert best
    assert min(best) >= 10


def test_a_trial_is_named_and_seeded_by_what_it_is() -> None:
    candidates = open_strategy("random", SETTINGS).ask()
    one, promoted = (
        make("evolve", candidates[0], "run", 5) for make in (candidate_task, promotion_task)
    )
    elsewhere = candidate_task("random", candidates[0], "run", 5)
    key = candidates[0].genotype.key()
    assert (one.id, one.arm, one.key) == ("evolve/0000", "evolve", f"{key}/0")
    assert (promoted.id, promoted.arm, promoted.key) == (
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
