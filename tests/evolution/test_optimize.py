"""A search for any function: its course depends on the seed alone, and failures never win."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from evolution import Objective, SearchSpace, Study, Trial, optimize
from evolution.strategies import STRATEGIES
from robustkit.errors import ConfigError, RunError
from robustkit.jobs import DivergedError, open_executor
from robustkit.models import Blueprint, build, cost
from robustkit.runs import Ledger

SHAPE = (1, 16, 16)
SPACE = SearchSpace(max_blocks=4, max_params=60_000, max_macs=2_000_000)
WANTED = (Objective("wide", "max"), Objective("params", "min"))


def measure(blueprint: Blueprint) -> dict[str, float]:
    """A cheap stand-in for training, in part random."""
    wide = sum(block.channels for block in blueprint.blocks) + float(torch.rand(()))
    return {"wide": wide, "params": cost(blueprint, SHAPE, 10).params}


def with_failures(blueprint: Blueprint) -> Mapping[str, float]:
    """Every kind of failure, by the number of blocks and channels."""
    values = measure(blueprint)
    kind = sum(block.channels for block in blueprint.blocks) // 8 % 5
    if kind == 0:
        raise KeyError("no such layer")
    if kind == 1:
        raise DivergedError("the loss is not finite")
    if kind == 2:
        return {**values, "wide": math.nan}
    return {**values, "beside": math.inf if kind == 3 else 1.0}


def accuracy(blueprint: Blueprint) -> float:
    return 1 / len(blueprint.blocks)


@dataclass(frozen=True)
class Sleepy:
    """Takes a minute over one network, and tells its process for the others."""

    over: Blueprint

    def __call__(self, blueprint: Blueprint) -> float:
        """The process it ran in."""
        if blueprint == self.over:
            time.sleep(60)
        return float(os.getpid())


def run(
    evaluate: Callable[[Blueprint], float | Mapping[str, float]] = measure, **more: object
) -> Study:
    settings: dict[str, object] = {
        "space": SPACE,
        "objectives": WANTED,
        "budget": 14,
        "population": 4,
        "seed": 3,
        "screen": 4,
        "input_shape": SHAPE,
    }
    return optimize(evaluate, **{**settings, **more})  # type: ignore[arg-type]


def told(study: Study) -> list[tuple[object, ...]]:
    return [(each.candidate, each.outcome, each.values, each.reason) for each in study.trials]


def dominates(one: Trial, other: Trial) -> bool:
    assert one.values is not None
    assert other.values is not None
    first = (one.values["wide"], -one.values["params"])
    second = (other.values["wide"], -other.values["params"])
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_study_has_all_trials_and_the_front_of_them(strategy: str) -> None:
    study = run(strategy=strategy)
    assert [each.number for each in study.trials] == list(range(14))
    keys = {each.candidate.genotype.key() for each in study.trials}
    assert len(keys) == 14
    assert all(SPACE.fits(each.candidate.genotype, SHAPE, 10) for each in study.trials)
    expected = [
        each for each in study.trials if not any(dominates(other, each) for other in study.trials)
    ]
    assert list(study.front) == expected
    assert told(run(strategy=strategy)) == told(study)
    assert told(run(strategy=strategy, seed=4)) != told(study)


def test_a_blueprint_is_what_is_built() -> None:
    def trained(blueprint: Blueprint) -> float:
        net = build(blueprint, num_classes=10, in_channels=1, image_size=16)
        return float(net(torch.zeros(1, 1, 16, 16)).sum().detach())

    study = run(trained, objectives=[Objective("sum", "max")], budget=4)
    best = max(study.trials, key=lambda each: (each.values or {})["sum"])
    assert study.front == (best,)
    assert told(run(trained, objectives=[Objective("sum", "max")], budget=4)) == told(study)


def test_two_workers_find_what_one_does() -> None:
    assert told(run(with_failures, workers=2)) == told(run(with_failures))


def test_failures_are_recorded_and_never_win() -> None:
    study = run(with_failures, budget=20)
    outcomes = {each.outcome for each in study.trials}
    assert outcomes == {"Ok", "Invalid", "Diverged"}
    assert {each.reason for each in study.trials} == {
        "",
        "KeyError: 'no such layer'",
        "the loss is not finite",
        "wide is nan",
    }
    assert all((each.values is None) == (each.outcome != "Ok") for each in study.trials)
    assert all(each.outcome == "Ok" for each in study.front)
    # What is beside the objectives is kept where it is a number.
    assert {len(each.values) for each in study.trials if each.values is not None} == {2, 3}
    nothing = run(lambda blueprint: math.inf, objectives=[Objective("x", "max")], budget=4)
    assert nothing.front == ()


def test_a_stopped_search_goes_on_from_its_ledger(tmp_path: Path) -> None:
    calls: list[Blueprint] = []

    def stopping(blueprint: Blueprint) -> Mapping[str, float]:
        calls.append(blueprint)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return with_failures(blueprint)

    path = tmp_path / "ledger.sqlite"
    with pytest.raises(KeyboardInterrupt):
        run(stopping, ledger=path)
    study = run(stopping, ledger=path)
    assert len(calls) == 7 + 8
    assert told(study) == told(run(with_failures))
    assert run(stopping, ledger=path) == study
    assert len(calls) == 15
    larger = run(with_failures, ledger=path, budget=17)
    assert told(larger) == told(run(with_failures, budget=17))
    with Ledger.open(path) as kept:
        assert len(kept.trials()) == 17


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 4},
        {"strategy": "random"},
        {"objectives": WANTED[::-1]},
        {"space": SearchSpace(max_blocks=5)},
        {"population": 5},
    ],
)
def test_a_ledger_of_another_search_is_refused(other: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    run(budget=4, ledger=path)
    with pytest.raises(RunError, match=r"ledger.sqlite is of another search: give the same space"):
        run(**{"budget": 4, "ledger": path, **other})  # type: ignore[arg-type]


def test_what_cannot_be_given_to_a_process_runs_here_and_is_said() -> None:
    with pytest.warns(RuntimeWarning, match="cannot be given to worker processes") as caught:
        study = run(lambda blueprint: measure(blueprint), workers=2, budget=4)
    assert "\n" not in str(caught[0].message)
    assert told(study) == told(run(budget=4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(lambda blueprint: measure(blueprint), budget=4)
    with pytest.raises(ConfigError, match="define it in a module, or leave out timeout"):
        run(lambda blueprint: measure(blueprint), timeout=3.0)


@pytest.mark.slow
def test_a_trial_is_stopped_after_its_time() -> None:
    wanted = [Objective("pid", "max")]
    _, second = run(accuracy, objectives=wanted, budget=2).trials
    study = run(
        Sleepy(second.blueprint), objectives=wanted, budget=2, timeout=20.0
    )  # the first imports all
    assert [each.outcome for each in study.trials] == ["Ok", "Timeout"]
    assert study.trials[1].reason == "no result within 20 seconds"
    (best,) = study.front
    assert best.values is not None
    assert best.values["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        (
            lambda blueprint: 1.0,
            "returned float, not a mapping with a number for each of",
        ),
        (lambda blueprint: {"wide": 1.0}, "nothing for the objective 'params'"),
        (lambda blueprint: {"wide": 1, "parms": 2}, "'params'; did you mean 'parms'"),
        (lambda blueprint: {"wide": "much", "params": 1}, "returned str for 'wide', not a number"),
        (lambda blueprint: {"wide": torch.zeros(2), "params": 1}, "returned Tensor for 'wide'"),
    ],
)
def test_what_is_no_value_stops_the_search(
    evaluate: Callable[[Blueprint], float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(evaluate)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 0}, "budget must be at least 1, not 0"),
        ({"workers": 0}, "workers must be at least 1, not 0"),
        ({"objectives": []}, "objectives must be distinct and at least one"),
        ({"objectives": [WANTED[0], WANTED[0]]}, "objectives must be distinct"),
        ({"strategy": "nsga3"}, "unknown strategy 'nsga3'; did you mean 'nsga2'"),
        ({"timeout": 0.0}, "timeout must be above 0 seconds"),
        ({"population": 1}, "population must be at least 2"),
        ({"population": 0}, "population must be at least 2"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_settings_that_cannot_be_used_are_said(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(**settings)  # type: ignore[arg-type]


def test_every_trial_is_told_when_it_ends() -> None:
    seen: list[Trial] = []
    study = run(accuracy, objectives=[Objective("accuracy", "max")], on_trial=seen.append)
    assert tuple(seen) == study.trials
    assert optimize(accuracy, space=SPACE, budget=1).trials[0].values == {
        "accuracy": 1 / len(optimize(accuracy, space=SPACE, budget=1).trials[0].blueprint.blocks)
    }


def test_a_study_is_kept_as_json() -> None:
    study = run(with_failures)
    again = Study.from_json(study.to_json())
    assert again == study
    assert again.front == study.front
    for text in ("{", "[]", '{"format": 1}', study.to_json().replace('"kind"', '"kin"')):
        with pytest.raises(RunError, match="no study"):
            Study.from_json(text)
    newer = {**json.loads(study.to_json()), "format": 9}
    with pytest.raises(RunError, match="study of format 9; this robustkit reads format 1"):
        Study.from_json(json.dumps(newer))


@pytest.mark.parametrize("mode", ["generational", "steady"])
def test_a_search_runs_on_an_executor_of_the_caller(mode: str) -> None:
    with open_executor("inline") as executor:
        study = run(executor=executor, mode=mode)
    assert told(study) == told(run(mode=mode))
    assert [each.number for each in study.trials] == list(range(14))


def test_a_steady_search_goes_on_from_its_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    begun = run(mode="steady", in_flight=3, budget=6, ledger=path)
    seen: list[Trial] = []
    larger = run(mode="steady", in_flight=3, ledger=path, on_trial=seen.append)
    assert larger.trials[:6] == begun.trials
    assert sorted(each.number for each in seen) == list(range(6, 14))
    assert run(mode="steady", in_flight=3, ledger=path) == larger
    with pytest.raises(RunError, match="is of another search"):
        run(mode="steady", in_flight=2, ledger=path)
    with pytest.raises(RunError, match="is of another search"):
        run(ledger=path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "stedy"}, "did you mean 'steady'"),
        ({"in_flight": 2}, "in_flight is of mode 'steady' and at least 1, not 2 in mode 'gen"),
        ({"mode": "steady", "in_flight": 0}, "at least 1, not 0"),
        ({"executor": open_executor("inline"), "workers": 2}, "your executor's; leave them out"),
    ],
)
def test_modes_that_cannot_be_used_are_said(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(**settings)  # type: ignore[arg-type]
