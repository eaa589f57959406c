"""Searches as coroutines of a `Scheduler`: by generations, steady, and with successive halving.

Each asks a strategy for candidates, has them evaluated as tasks, and tells the strategy how they
did. None knows what a task computes: `task_of` makes it, and its result has the objectives' values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from evolution.genotype import Candidate, Trial
from evolution.halving import Halving
from evolution.objectives import Objective
from evolution.runner.scheduler import Scheduler, Task
from evolution.strategies import Strategy
from robustkit.errors import RunError
from robustkit.runs import Entry


async def generational(
    strategy: Strategy,
    scheduler: Scheduler,
    task_of: Callable[[Candidate], Task],
    *,
    priority: int = 0,
) -> list[Trial]:
    """Evaluate a generation at a time until the strategy has no more; return all trials by number.

    The strategy is told whole generations in the order of the candidates' numbers, so that the
    search does not depend on which worker was faster.
    """
    trials: list[Trial] = []
    while candidates := strategy.ask():
        pending = [
            scheduler.submit(task_of(candidate), priority=priority) for candidate in candidates
        ]
        generation = [
            trial_of(candidate, await entry)
            for candidate, entry in zip(candidates, pending, strict=True)
        ]
        strategy.tell({trial.number: trial for trial in generation})
        trials += generation
    return trials


async def steady(
    strategy: Strategy,
    scheduler: Scheduler,
    task_of: Callable[[Candidate], Task],
    *,
    in_flight: int,
    recorded: Sequence[Entry] = (),
    priority: int = 0,
) -> list[Trial]:
    """Keep `in_flight` candidates under way; return all trials in the order in which they ended.

    No worker waits for a generation: each candidate is bred from all trials that have ended when it
    is asked for, so the search depends on which trial ends first. `recorded` are the entries that
    the ledger holds of the search, in that order: told these, a fresh strategy asks for the very
    same candidates, and the search goes on where it stopped. Raises `RunError` where they are of
    other candidates.
    """

    def ask() -> _Request | None:
        candidate = strategy.ask_one()
        return None if candidate is None else _Request(candidate)

    return await _continuous(
        ask,
        strategy.tell_one,
        scheduler,
        lambda candidate, rung: task_of(candidate),
        in_flight=in_flight,
        recorded=recorded,
        priority=priority,
    )


async def successive_halving(
    strategy: Strategy,
    scheduler: Scheduler,
    task_of: Callable[[Candidate, int], Task],
    *,
    epochs: Sequence[int],
    rate: int,
    objectives: Sequence[Sequence[Objective]],
    budget: int,
    in_flight: int,
    recorded: Sequence[Entry] = (),
    priority: int = 0,
    forecast: Sequence[Objective] = (),
) -> list[Trial]:
    """Search as `steady` does, and promote one of `rate` candidates to more epochs.

    A candidate is evaluated for `epochs[0]` first, a promoted one for the epochs of its rung;
    `task_of` gets candidate and rung. The strategy breeds from the lowest rung, where all
    candidates can be compared; a promotion goes before a new candidate. `objectives` are those of
    every rung but the last; those of the last one are for a `forecast` (see `Halving`). `budget` is
    in epochs, all rungs together: the search ends when the next evaluation does not fit.
    """
    halving, left = Halving(objectives, rate, forecast=forecast), budget

    def ask() -> _Request | None:
        nonlocal left
        promoted = halving.promote()
        left -= epochs[promoted[1] if promoted else 0]
        if left < 0:
            return None
        if promoted:
            return _Request(*promoted)
        candidate = strategy.ask_one()
        return None if candidate is None else _Request(candidate)

    def tell(trial: Trial) -> None:
        if trial.rung == 0:
            strategy.tell_one(trial)
        halving.tell(trial)

    return await _continuous(
        ask,
        tell,
        scheduler,
        task_of,
        in_flight=in_flight,
        recorded=recorded,
        priority=priority,
    )


def trial_of(candidate: Candidate, entry: Entry, rung: int = 0) -> Trial:
    """Return the trial of a candidate that an entry of the ledger records."""
    values = None if entry.outcome != "Ok" or entry.result is None else _values(entry.result)
    return Trial(candidate, entry.outcome, values, entry.reason, entry.seconds, rung)


def _values(result: Mapping[str, object]) -> dict[str, float]:
    """Return the numbers of a result, which may stand under "values" in it."""
    nested = result.get("values")
    named = nested if isinstance(nested, Mapping) else result
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


class _Request(NamedTuple):
    """A candidate and the rung on which it is to be evaluated."""

    candidate: Candidate
    rung: int = 0


async def _continuous(
    ask: Callable[[], _Request | None],
    tell: Callable[[Trial], None],
    scheduler: Scheduler,
    task_of: Callable[[Candidate, int], Task],
    *,
    in_flight: int,
    recorded: Sequence[Entry],
    priority: int,
) -> list[Trial]:
    """Keep `in_flight` requests under way until `ask` has no more."""
    under_way: dict[str, tuple[_Request, Task]] = {}
    trials: list[Trial] = []

    def next_task() -> Task | None:
        request = ask()
        if request is None:
            return None
        task = task_of(request.candidate, request.rung)
        under_way[task.id] = request, task
        return task

    def end(entry: Entry) -> None:
        request, _ = under_way.pop(entry.id)
        trial = trial_of(request.candidate, entry, request.rung)
        trials.append(trial)
        tell(trial)

    async def evaluate(task: Task | None) -> None:
        """Evaluate one task after the other, each asked for when the last has ended."""
        while task is not None:
            end(await scheduler.submit(task, priority=priority))
            task = next_task()

    for _ in range(in_flight):
        next_task()
    for entry in recorded:
        if entry.id not in under_way or under_way[entry.id][1].key != entry.key:
            raise RunError(
                f"trial '{entry.id}' is not what this search would have asked for: the ledger "
                "was changed, or another version of robustkit wrote it; start the run anew"
            )
        scheduler.recall(entry)
        end(entry)
        next_task()
    for line in [scheduler.start(evaluate(task)) for _, task in list(under_way.values())]:
        await line
    return trials
