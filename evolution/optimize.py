"""A search over architectures for any function that says how good a network is."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evolution.genotype import Candidate, Genotype, Scored
from evolution.objectives import Objective, front
from evolution.space import SearchSpace
from evolution.strategies import SearchSettings, open_strategy
from robustkit.compute import derive_seed
from robustkit.compute.seeds import check_seed, isolated_rng
from robustkit.errors import ConfigError, RobustkitError, RunError, did_you_mean, first_line
from robustkit.jobs import (
    DivergedError,
    InvalidCandidateError,
    Ok,
    Outcome,
    classify,
    open_executor,
)
from robustkit.models import Blueprint
from robustkit.reading import parse_json, printable
from robustkit.runs import Entry, Ledger

FORMAT = 1


@dataclass(frozen=True)
class StudyTrial:
    """A network that was evaluated: `values` by name where its `outcome` is "Ok", else `reason`.

    `outcome` is the kind of an outcome: Ok, Diverged (a value is not finite), Invalid (the function
    raised), OutOfMemory, Timeout or Lost. `seconds` is what the evaluation took.
    """

    candidate: Candidate
    outcome: str
    values: Mapping[str, float] | None
    reason: str = ""
    seconds: float = 0.0

    @property
    def number(self) -> int:
        """Its place in the order asked, from 0."""
        return self.candidate.number

    @property
    def blueprint(self) -> Blueprint:
        """The network."""
        return self.candidate.genotype.blueprint()


@dataclass(frozen=True)
class Study:
    """Every trial of a search, by number, and what it was after."""

    objectives: tuple[Objective, ...]
    trials: tuple[StudyTrial, ...]

    @cached_property
    def front(self) -> tuple[StudyTrial, ...]:
        """The trials that no other one dominates, by number; failed ones are never among them."""
        scored = [Scored(each.candidate, each.outcome, each.values) for each in self.trials]
        best = {each.candidate.number for each in front(scored, self.objectives)}
        return tuple(each for each in self.trials if each.number in best)

    def to_json(self) -> str:
        """Return the study as JSON that `from_json` reads."""
        plain = {
            "format": FORMAT,
            "objectives": [asdict(each) for each in self.objectives],
            "trials": [
                {**described(each.candidate), **_ended(each), "seconds": each.seconds}
                for each in self.trials
            ],
        }
        return json.dumps(plain, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Study:
        """Return the study that `to_json` wrote; raises `RunError` for anything else."""
        try:
            plain = parse_json(text, "no study", error=RunError)
            if plain["format"] != FORMAT:
                raise RunError(
                    f"study of format {printable(plain['format'])}; "
                    f"this robustkit reads format {FORMAT}"
                )
            objectives = tuple(Objective(**each) for each in plain["objectives"])
            trials = tuple(
                StudyTrial(
                    candidate_of(each),
                    each["outcome"],
                    each["values"],
                    each["reason"],
                    each["seconds"],
                )
                for each in plain["trials"]
            )
        except RunError:
            raise
        except (ValueError, KeyError, TypeError, RobustkitError) as error:
            raise RunError(f"no study: {first_line(error)}") from None
        return cls(objectives, trials)


def described(candidate: Candidate) -> dict[str, Any]:
    """The candidate as plain values."""
    return {
        "number": candidate.number,
        "genotype": candidate.genotype.to_dict(),
        "parents": list(candidate.parents),
        "operator": candidate.operator,
        "generation": candidate.generation,
    }


def candidate_of(plain: Mapping[str, Any]) -> Candidate:
    """The inverse of `described`; raises `ModelError` for no genotype."""
    genotype = Genotype.from_dict(plain["genotype"])
    parents = tuple(plain["parents"])
    return Candidate(plain["number"], genotype, parents, plain["operator"], plain["generation"])


def _ended(trial: StudyTrial) -> dict[str, Any]:
    values = None if trial.values is None else dict(trial.values)
    return {"outcome": trial.outcome, "values": values, "reason": trial.reason}


_ARM = "optimize"

Evaluate = Callable[[Blueprint], float | Mapping[str, float]]
"""What says how good a network is: one number for one objective, or numbers by name."""


def optimize(
    evaluate: Evaluate,
    *,
    space: SearchSpace | None = None,
    objectives: Sequence[Objective] = (Objective("accuracy", "max"),),
    budget: int = 100,
    workers: int = 1,
    strategy: str = "nsga2",
    population: int = 20,
    crossover: float = 0.4,
    screen: int = 32,
    seed: int = 0,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    num_classes: int = 10,
    timeout: float | None = None,
    ledger: Path | str | None = None,
    on_trial: Callable[[StudyTrial], None] = lambda trial: None,
) -> Study:
    """Search `space` for networks that are good by `evaluate`, `budget` of them, and return all.

    `evaluate` is given a `Blueprint`, to be built by `models.build`, and returns a number for every
    objective: a float where there is one, else a mapping by name, which may hold further finite
    numbers. It runs on one thread with the global random generators seeded for its trial. Where it
    raises, or a number is not finite, the trial has failed: it is recorded and never wins.

    The course depends on `seed` alone, not on `workers`. With several, or with a `timeout` in
    seconds of a trial (in which a fresh worker also imports what it needs), workers are processes,
    for which `evaluate` must be a function of a module; with others trials run one by one here, and
    a warning says so. `strategy` is a name of `STRATEGIES`, which `population`, `crossover` and
    `screen` steer as in `SearchSettings`.
    `input_shape` (C,H,W) and `num_classes` are what the limits of `space` on parameters and MACs
    are counted for: by default CIFAR-10's.

    What is in the file `ledger` is not evaluated again: a search goes on where it was stopped, also
    with a larger `budget`. Raises `ConfigError` for settings that cannot be used and for an
    `evaluate` that does not return what the objectives name, and `RunError` for a ledger of another
    search.

    >>> from robustkit.models import cost
    >>> def size(blueprint):
    ...     spent = cost(blueprint, (1, 16, 16), 10)
    ...     return {"params": spent.params, "blocks": len(blueprint.blocks)}
    >>> wanted = [Objective("params", "min"), Objective("blocks", "max")]
    >>> study = optimize(size, objectives=wanted, budget=12, population=6, input_shape=(1, 16, 16))
    >>> len(study.trials)
    12
    >>> fewest = min(study.trials, key=lambda trial: trial.values["params"])
    >>> fewest in study.front
    True
    """
    _check(objectives, budget, workers, seed, timeout)
    settings = _Settings(
        space=space or SearchSpace(),
        input_shape=input_shape,
        num_classes=num_classes,
        objectives=tuple(objectives),
        population=population,
        generations=-(-budget // max(population, 1)),
        seed=seed,
        crossover=crossover,
        screen=screen,
        candidates=budget,
    )
    search = open_strategy(strategy, settings)
    alone = _alone(evaluate, workers, timeout)
    trials: list[StudyTrial] = []
    with ExitStack() as stack:
        kept = None if ledger is None else stack.enter_context(_opened(Path(ledger)))
        executor = stack.enter_context(
            open_executor("inline")
            if alone
            else open_executor("processes", workers=workers, timeout=timeout)
        )
        identity = _identity(settings, strategy)
        while asked := search.ask():
            told = {} if kept is None else _recorded(kept, asked, identity)
            jobs = [
                _Evaluation(evaluate, each, settings.objectives, seed)
                for each in asked
                if each.number not in told
            ]
            for job, outcome in executor.run(iter(jobs)):
                trial = _trial(job.candidate, outcome)
                if kept is not None:
                    kept.record(_entry(trial, identity))
                told[trial.number] = trial
                on_trial(trial)
            born = [told[number] for number in sorted(told)]
            trials += born
            search.tell({t.number: Scored(t.candidate, t.outcome, t.values) for t in born})
    return Study(settings.objectives, tuple(trials))


@dataclass(frozen=True, kw_only=True)
class _Settings(SearchSettings):
    """Settings for a number of candidates that need not fill the last generation."""

    candidates: int

    @property
    def budget(self) -> int:
        return self.candidates


@dataclass(frozen=True)
class _Evaluation:
    """The job of one trial."""

    evaluate: Evaluate
    candidate: Candidate
    objectives: tuple[Objective, ...]
    seed: int

    def run(self) -> dict[str, float]:
        with isolated_rng(derive_seed(self.seed, "evaluate", self.candidate.number)):
            try:
                returned = self.evaluate(self.candidate.genotype.blueprint())
            except Exception as error:
                if classify(error) is not None:
                    raise
                # Its own kind of failure: the next network may well do.
                raise InvalidCandidateError(
                    f"{type(error).__name__}: {first_line(error)}"
                ) from error
        return _numbers(returned, self.objectives)


def _numbers(returned: object, objectives: Sequence[Objective]) -> dict[str, float]:
    """What was returned, by name; what is beside the objectives and not finite is left out."""
    names = [each.name for each in objectives]
    if not isinstance(returned, Mapping):
        if len(names) > 1:
            raise ConfigError(
                f"evaluate returned {type(returned).__name__}, not a mapping with a number for "
                f"each of the objectives {', '.join(names)}"
            )
        returned = {names[0]: returned}
    values = {str(name): _number(name, value) for name, value in returned.items()}
    for name in names:
        if name not in values:
            raise ConfigError(
                f"evaluate returned nothing for the objective '{name}'{did_you_mean(name, values)}"
            )
        if not math.isfinite(values[name]):
            raise DivergedError(f"{name} is {values[name]}")
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _number(name: object, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ConfigError(
            f"evaluate returned {type(value).__name__} for '{name}', not a number"
        ) from None


def _check(
    objectives: Sequence[Objective], budget: int, workers: int, seed: int, timeout: float | None
) -> None:
    check_seed(seed)
    for name, number in (("budget", budget), ("workers", workers)):
        if number < 1:
            raise ConfigError(f"optimize: {name} must be at least 1, not {number}")
    if timeout is not None and not timeout > 0:
        raise ConfigError(f"optimize: timeout must be above 0 seconds, not {timeout:g}")
    names = [each.name for each in objectives]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"optimize: objectives must be distinct and at least one, not {names}")


def _alone(evaluate: Evaluate, workers: int, timeout: float | None) -> bool:
    """Whether trials run here, one by one: as asked for, or since no process can be given them."""
    if workers == 1 and timeout is None:
        return True
    where = getattr(evaluate, "__module__", type(evaluate).__module__)
    try:
        pickle.dumps(evaluate)
        reason = (
            "" if where != "__main__" or hasattr(sys.modules["__main__"], "__file__") else where
        )
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        reason = first_line(error)
    if not reason:
        return False
    said = f"evaluate cannot be given to worker processes ({reason}): define it in a module"
    if timeout is not None:
        raise ConfigError(f"optimize: {said}, or leave out timeout")
    warnings.warn(f"{said}; trials run one by one here", RuntimeWarning, stacklevel=3)
    return True


# ------------------------------------------------------------------------------------- ledger


def _opened(path: Path) -> Ledger:
    return Ledger.open(path) if path.exists() else Ledger.create(path)


def _identity(settings: _Settings, strategy: str) -> str:
    """16 hexadecimal digits for all that the course depends on, the number of trials left out."""
    plain = {**asdict(settings), "strategy": strategy}
    for name in ("candidates", "generations"):
        del plain[name]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _recorded(ledger: Ledger, asked: Sequence[Candidate], identity: str) -> dict[int, StudyTrial]:
    """Those of the candidates that have been evaluated before, by number."""
    found = {}
    for candidate in asked:
        row = ledger.get(_id(candidate.number))
        if row is None:
            continue
        same = row.payload.get("search") == identity and row.key == candidate.genotype.key()
        if row.arm != _ARM or not same:
            raise RunError(
                f"{ledger.path} is of another search: give the same space, objectives, strategy, "
                "population, seed and images, or another ledger"
            )
        values = None if row.result is None else row.result["values"]
        found[candidate.number] = StudyTrial(
            candidate, row.outcome, values, row.reason, row.seconds
        )
    return found


def _entry(trial: StudyTrial, identity: str) -> Entry:
    return Entry(
        id=_id(trial.number),
        arm=_ARM,
        key=trial.candidate.genotype.key(),
        payload={**described(trial.candidate), "search": identity},
        outcome=trial.outcome,
        reason=trial.reason,
        result=None if trial.values is None else {"values": dict(trial.values)},
        seconds=trial.seconds,
    )


def _id(number: int) -> str:
    return f"{number:06d}"


def _trial(candidate: Candidate, outcome: Outcome) -> StudyTrial:
    if isinstance(outcome, Ok):
        return StudyTrial(candidate, outcome.kind, outcome.value, seconds=outcome.seconds)
    return StudyTrial(candidate, outcome.kind, None, outcome.reason, outcome.seconds)
