"""Search over architectures for any function that says how good a network is."""

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

from evolution.genotype import Candidate, Genotype, Trial
from evolution.objectives import Objective, front
from evolution.runner import Scheduler, Task, generational, steady, trial_of
from evolution.space import SearchSpace
from evolution.strategies import SearchSettings, open_strategy
from robustkit.compute import derive_seed
from robustkit.compute.seeds import check_seed, isolated_rng
from robustkit.errors import ConfigError, RobustkitError, RunError, did_you_mean, first_line
from robustkit.jobs import (
    DivergedError,
    Executor,
    InvalidCandidateError,
    classify,
    open_executor,
)
from robustkit.models import Blueprint
from robustkit.reading import parse_json, printable
from robustkit.runs import Entry, Ledger
from robustkit.settings import check_choice

FORMAT = 1
MODES = ("generational", "steady")
_STAGE = "optimize"

Evaluate = Callable[[Blueprint], float | Mapping[str, float]]
"""Say how good a network is: a number for a single objective, or numbers by name."""


@dataclass(frozen=True)
class Study:
    """Every trial of a search, by number, and its objectives."""

    objectives: tuple[Objective, ...]
    trials: tuple[Trial, ...]

    @cached_property
    def front(self) -> tuple[Trial, ...]:
        """Return the trials that no other one dominates, by number; never a failed one."""
        return tuple(front(self.trials, self.objectives))

    def to_json(self) -> str:
        """Return the study as JSON that `from_json` reads."""
        plain = {
            "format": FORMAT,
            "objectives": [asdict(objective) for objective in self.objectives],
            "trials": [
                {
                    **_candidate_to_json(trial.candidate),
                    "outcome": trial.outcome,
                    "values": None if trial.values is None else dict(trial.values),
                    "reason": trial.reason,
                    "seconds": trial.seconds,
                }
                for trial in self.trials
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
            objectives = tuple(Objective(**objective) for objective in plain["objectives"])
            trials = tuple(
                Trial(
                    _candidate_from_json(trial),
                    trial["outcome"],
                    trial["values"],
                    trial["reason"],
                    trial["seconds"],
                )
                for trial in plain["trials"]
            )
        except RunError:
            raise
        except (ValueError, KeyError, TypeError, RobustkitError) as error:
            raise RunError(f"no study: {first_line(error)}") from None
        return cls(objectives, trials)


def _candidate_to_json(candidate: Candidate) -> dict[str, object]:
    return {
        "number": candidate.number,
        "genotype": candidate.genotype.to_dict(),
        "parents": list(candidate.parents),
        "operator": candidate.operator,
        "generation": candidate.generation,
    }


def _candidate_from_json(plain: Mapping[str, Any]) -> Candidate:
    """Return what `_candidate_to_json` wrote; raises `ModelError` for no genotype."""
    genotype = Genotype.from_dict(plain["genotype"])
    parents = tuple(plain["parents"])
    return Candidate(plain["number"], genotype, parents, plain["operator"], plain["generation"])


def optimize(
    evaluate: Evaluate,
    *,
    space: SearchSpace | None = None,
    objectives: Sequence[Objective] = (Objective("accuracy", "max"),),
    strategy: str = "nsga2",
    budget: int = 100,
    executor: Executor | None = None,
    ledger: Path | str | None = None,
    workers: int = 1,
    timeout: float | None = None,
    mode: str = "generational",
    in_flight: int | None = None,
    population: int = 20,
    crossover: float = 0.4,
    screen: int = 1,
    seed: int = 0,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    num_classes: int = 10,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Study:
    """Search `space` for networks that are good by `evaluate`; return all trials.

    `evaluate` is given a `Blueprint`, to be built by `models.build`, and returns a number for every
    objective: a float for a single one, else a mapping by name, which may hold further finite
    numbers. It runs on one thread with the global random generators seeded for its trial. Where it
    raises, or a number is not finite, the trial has failed: it is recorded and never wins.

    `budget` networks are evaluated, proposed by `strategy`, a name of `STRATEGIES`, which
    `population`, `crossover` and `screen` control as in `SearchSettings`. `input_shape` (C,H,W) and
    `num_classes` are those for which the limits of `space` on parameters and MACs are counted: by
    default CIFAR-10's. In `mode` "generational" the search depends on `seed` alone, not on
    `workers`. In mode "steady" no worker waits for a generation: `in_flight` networks (by default
    as many as `workers`) are under way at any time, and the search depends on which ends first.

    With several workers, or with a `timeout` in seconds of a trial (in which a fresh worker also
    imports what it needs), workers are processes, for which `evaluate` must be a function of a
    module; with others trials run one by one here, and a warning says so. An open `executor` of
    yours is used instead of them.

    Trials are kept in the file `ledger`, and those in it are not evaluated again: a search goes on
    where it was stopped, also with a larger `budget`. `on_trial` is called with every trial that is
    evaluated. Raises `ConfigError` for settings that cannot be used and for an `evaluate` that does
    not return the objectives, and `RunError` for a ledger of another search.

    >>> from robustkit.models import cost
    >>> def size(blueprint):
    ...     spent = cost(blueprint, (1, 16, 16), 10)
    ...     return {"params": spent.params, "blocks": len(blueprint.blocks)}
    >>> objectives = [Objective("params", "min"), Objective("blocks", "max")]
    >>> study = optimize(
    ...     size, objectives=objectives, budget=12, population=6, input_shape=(1, 16, 16)
    ... )
    >>> len(study.trials)
    12
    >>> fewest = min(study.trials, key=lambda trial: trial.values["params"])
    >>> fewest in study.front
    True
    """
    _check(objectives, budget, workers, seed, timeout)
    _check_mode(mode, in_flight, executor, workers, timeout)
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
    proposing = open_strategy(strategy, settings)
    parallel = in_flight or workers
    search = _search_hash(settings, strategy, parallel if mode == "steady" else None)
    candidates: dict[str, Candidate] = {}

    def task_of(candidate: Candidate) -> Task:
        trial_id = f"{candidate.number:06d}"
        candidates[trial_id] = candidate
        return Task(
            id=trial_id,
            stage=_STAGE,
            key=candidate.genotype.key(),
            job=_Evaluation(evaluate, candidate, settings.objectives, seed),
            payload={**_candidate_to_json(candidate), "search": search},
        )

    with ExitStack() as stack:
        trial_ledger = None if ledger is None else stack.enter_context(_open_ledger(Path(ledger)))
        recorded = [] if trial_ledger is None else trial_ledger.in_order()
        _check_recorded(recorded, search, ledger)
        known_ids = {entry.id for entry in recorded}

        def report(entry: Entry) -> None:
            if entry.id not in known_ids:
                on_trial(trial_of(candidates[entry.id], entry))

        if executor is None:
            inline = _runs_here(evaluate, workers, timeout)
            executor = stack.enter_context(
                open_executor("inline")
                if inline
                else open_executor("processes", workers=workers, timeout=timeout)
            )
        scheduler = Scheduler(executor, trial_ledger, report)
        if mode == "steady":
            running = steady(proposing, scheduler, task_of, in_flight=parallel, recorded=recorded)
        else:
            running = generational(proposing, scheduler, task_of)
        trials = scheduler.run(running)
    return Study(settings.objectives, tuple(sorted(trials, key=lambda trial: trial.number)))


@dataclass(frozen=True, kw_only=True)
class _Settings(SearchSettings):
    """Settings of a search whose last generation need not be full."""

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

    def run(self) -> dict[str, dict[str, float]]:
        with isolated_rng(derive_seed(self.seed, "evaluate", self.candidate.number)):
            try:
                returned = self.evaluate(self.candidate.genotype.blueprint())
            except Exception as error:
                if classify(error) is not None:
                    raise
                # A failure of this network alone: others may succeed.
                raise InvalidCandidateError(
                    f"{type(error).__name__}: {first_line(error)}"
                ) from error
        return {"values": _numbers(returned, self.objectives)}


def _numbers(returned: object, objectives: Sequence[Objective]) -> dict[str, float]:
    """Return the numbers by name, without those beside the objectives that are not finite."""
    names = [objective.name for objective in objectives]
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
    names = [objective.name for objective in objectives]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"optimize: objectives must be distinct and at least one, not {names}")


def _check_mode(
    mode: str,
    in_flight: int | None,
    executor: Executor | None,
    workers: int,
    timeout: float | None,
) -> None:
    check_choice("mode", mode, MODES)
    if in_flight is not None and (mode != "steady" or in_flight < 1):
        raise ConfigError(
            f"optimize: in_flight is of mode 'steady' and at least 1, not {in_flight} "
            f"in mode '{mode}'"
        )
    if executor is not None and (workers != 1 or timeout is not None):
        raise ConfigError("optimize: workers and timeout are your executor's; leave them out")


def _runs_here(evaluate: Evaluate, workers: int, timeout: float | None) -> bool:
    """Return whether trials run here one by one: as asked for, or as processes cannot run them."""
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
    problem = f"evaluate cannot be given to worker processes ({reason}): define it in a module"
    if timeout is not None:
        raise ConfigError(f"optimize: {problem}, or leave out timeout")
    warnings.warn(f"{problem}; trials run one by one here", RuntimeWarning, stacklevel=3)
    return True


def _open_ledger(path: Path) -> Ledger:
    return Ledger.open(path) if path.exists() else Ledger.create(path)


def _search_hash(settings: _Settings, strategy: str, in_flight: int | None) -> str:
    """Return 16 hexadecimal digits of all that the search depends on, but for its length."""
    plain = {**asdict(settings), "strategy": strategy}
    for name in ("candidates", "generations"):
        del plain[name]
    if in_flight is not None:
        plain["in_flight"] = in_flight
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _check_recorded(recorded: Sequence[Entry], search: str, path: Path | str | None) -> None:
    """Raise `RunError` where the ledger at `path` holds an entry of another search."""
    for entry in recorded:
        if entry.stage != _STAGE or entry.payload.get("search") != search:
            raise RunError(
                f"{path} is of another search: give the same space, objectives, strategy, "
                "population, seed and images, or another ledger"
            )
