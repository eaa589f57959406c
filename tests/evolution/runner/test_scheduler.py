"""The scheduler: which task runs first, which need not run, and what a failure does to others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evolution.runner import Pending, Scheduler, Task
from robustkit.errors import RunError
from robustkit.jobs import Executor, Runnable, open_executor
from robustkit.runs import Entry, Ledger
from tests.evolution.runner.executor import Shuffled
from tests.evolution.runner.jobs import BUG, DIVERGED, INVALID, Allocate, Answer, Die, Hang, Raise


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create(tmp_path / "ledger.sqlite") as made:
        yield made


def task(name: str, job: Runnable, *, key: str = "", needed: bool = False) -> Task:
    return Task(id=name, stage="arm", key=key or name, job=job, needed=needed)


def worked(executor: Executor, ledger: Ledger, tasks: list[tuple[int, Task]]) -> list[Entry]:
    """The entries of `tasks` with their priorities, in the order in which they became known."""
    seen: list[Entry] = []
    scheduler = Scheduler(executor, ledger, seen.append)

    async def main() -> None:
        entries = [scheduler.submit(each, priority=priority) for priority, each in tasks]
        for (_, each), entry in zip(tasks, entries, strict=True):
            assert (await entry).id == each.id

    scheduler.run(main())
    return seen


@settings(max_examples=10)
@given(priorities=st.lists(st.integers(0, 3), max_size=12))
def test_smaller_priorities_go_first_and_equal_ones_in_turn(
    tmp_path_factory: pytest.TempPathFactory, priorities: list[int]
) -> None:
    tasks = [
        (priority, task(f"{place:02d}", Answer(place))) for place, priority in enumerate(priorities)
    ]
    with Ledger.create(tmp_path_factory.mktemp("agenda") / "ledger.sqlite") as ledger:
        seen = worked(open_executor("inline"), ledger, tasks)
    # Python's sort is stable: an independent statement of "in turn".
    expected = [each.id for _, each in sorted(tasks, key=lambda pair: pair[0])]
    assert [trial.id for trial in seen] == expected


def test_what_a_trial_makes_possible_overtakes_what_is_less_urgent(ledger: Ledger) -> None:
    seen: list[str] = []
    scheduler = Scheduler(open_executor("inline"), ledger, lambda entry: seen.append(entry.id))

    async def main() -> None:
        scheduler.submit(task("idle", Answer(9)), priority=5)
        await scheduler.submit(task("first", Answer(1)), priority=2)
        await scheduler.submit(task("urgent", Answer(2)), priority=1)
        await scheduler.submit(task("later", Answer(3)), priority=6)

    scheduler.run(main())
    assert seen == ["first", "urgent", "idle", "later"]


@pytest.mark.parametrize("seed", range(5))
def test_one_key_runs_once_and_every_task_of_it_is_told(ledger: Ledger, seed: int) -> None:
    executor = Shuffled(seed)
    tasks = [(0, task(f"{n}", Answer(n % 2), key=f"same {n % 2}")) for n in range(6)]
    seen = worked(executor, ledger, tasks)
    assert sorted(job.number for job in executor.started) == [0, 1]
    assert {trial.id: trial.result for trial in seen} == {
        f"{n}": {"number": n % 2} for n in range(6)
    }
    assert ledger.trials() == sorted(seen, key=lambda trial: trial.id)
    assert [trial.seconds > 0 for trial in ledger.trials()].count(True) == 2


def test_a_key_that_is_done_is_not_run_again(ledger: Ledger) -> None:
    scheduler = Scheduler(open_executor("inline"), ledger)
    again = task("again", BUG, key="same")  # would raise if it were run

    async def main() -> None:
        await scheduler.submit(task("once", DIVERGED, key="same"))
        await scheduler.submit(again)

    scheduler.run(main())
    assert [(trial.id, trial.outcome) for trial in ledger.trials()] == [
        ("again", "Diverged"),
        ("once", "Diverged"),
    ]
    assert ledger.trials()[0].reason == "the loss is not finite"


def test_the_ledger_answers_instead_of_a_run(ledger: Ledger) -> None:
    before = worked(
        open_executor("inline"), ledger, [(0, task("a", Answer(1))), (0, task("b", DIVERGED))]
    )
    executor = Shuffled(0)
    after = worked(executor, ledger, [(0, task("a", BUG)), (0, task("b", BUG))])
    assert after == before
    assert executor.started == []


def test_a_known_trial_answers_other_tasks_of_its_key(ledger: Ledger) -> None:
    worked(open_executor("inline"), ledger, [(0, task("a", Answer(1), key="same"))])
    tasks = [(0, task("a", BUG, key="same")), (0, task("b", BUG, key="same"))]
    seen = worked(open_executor("inline"), ledger, tasks)
    assert [trial.result for trial in seen] == [{"number": 1}] * 2


def test_a_ledger_of_something_else_is_not_mixed_in(ledger: Ledger) -> None:
    worked(open_executor("inline"), ledger, [(0, task("a", Answer(1), key="old"))])
    with pytest.raises(RunError, match="trial 'a' was of old, now it would be of new"):
        worked(open_executor("inline"), ledger, [(0, task("a", Answer(2), key="new"))])


def test_a_needed_task_that_fails_ends_the_run_and_is_tried_again(ledger: Ledger) -> None:
    tasks = [(0, task("net", DIVERGED, needed=True)), (1, task("rest", Answer(1)))]
    with pytest.raises(RunError, match=r"net: Diverged \(the loss is not finite\); the run cannot"):
        worked(open_executor("inline"), ledger, tasks)
    assert ledger.trials() == []
    tasks[0] = (0, task("net", Answer(7), needed=True))
    seen = worked(open_executor("inline"), ledger, tasks)
    assert [trial.result for trial in seen] == [{"number": 7}, {"number": 1}]


def test_a_bug_is_raised_and_leaves_what_came_before(ledger: Ledger) -> None:
    with pytest.raises(KeyError, match="a bug"):
        worked(open_executor("inline"), ledger, [(0, task("a", Answer(1))), (1, task("b", BUG))])
    assert [trial.id for trial in ledger.trials()] == ["a"]


def test_failures_of_every_type_enter_the_ledger_and_the_rest_goes_on(ledger: Ledger) -> None:
    jobs: dict[str, tuple[Runnable, str]] = {
        "a hangs": (Hang(), "Timeout"),
        "b diverges": (DIVERGED, "Diverged"),
        "c cannot be built": (INVALID, "Invalid"),
        "d runs out of memory": (Raise(MemoryError("no more")), "OutOfMemory"),
        "e takes more than it may": (Allocate(64), "OutOfMemory"),
        "f kills its worker": (Die(), "Lost"),
        "g is fine": (Answer(1), "Ok"),
    }
    tasks = [(0, task(name, job)) for name, (job, _) in jobs.items()]
    tasks.append((1, task("h does the same as a", Hang(), key="a hangs")))
    with open_executor("processes", workers=1, timeout=4.0, memory_gib=8) as executor:
        worked(executor, ledger, tasks)
    expected = {name: outcome for name, (_, outcome) in jobs.items()}
    expected["h does the same as a"] = "Timeout"
    assert {trial.id: trial.outcome for trial in ledger.trials()} == expected
    for trial in ledger.trials():
        assert (trial.outcome == "Ok") == (trial.reason == "") == (trial.result is not None)


def test_a_not_a_number_never_enters_the_ledger(ledger: Ledger) -> None:
    class Nan:
        def run(self) -> dict[str, float]:
            return {"accuracy": float("nan")}

    with pytest.raises(ValueError, match="JSON"):
        worked(open_executor("inline"), ledger, [(0, task("a", Nan()))])
    assert ledger.trials() == []


def test_coroutines_go_on_in_the_order_in_which_they_began_to_wait(ledger: Ledger) -> None:
    scheduler, seen = Scheduler(open_executor("inline"), ledger), []

    async def waiting(name: str, other: Pending[Entry]) -> str:
        seen.append(f"{name} waits")
        await other
        seen.append(f"{name} goes on")
        return name

    async def main() -> list[str]:
        first = scheduler.submit(task("first", Answer(1)))
        started = [scheduler.start(waiting(name, first)) for name in "abc"]
        seen.append("all wait")
        return [await each for each in started]

    assert scheduler.run(main()) == ["a", "b", "c"]
    waits, goes_on = ([f"{name} {what}" for name in "abc"] for what in ("waits", "goes on"))
    assert seen == [*waits, "all wait", *goes_on]


def test_what_nothing_settles_is_not_waited_for(ledger: Ledger) -> None:
    scheduler = Scheduler(open_executor("inline"), ledger)

    async def main() -> None:
        await Pending()

    with pytest.raises(RuntimeError, match="awaits something that no task settles"):
        scheduler.run(main())


def test_an_error_in_a_coroutine_ends_the_run_and_closes_the_others(ledger: Ledger) -> None:
    scheduler, closed = Scheduler(open_executor("inline"), ledger), []

    async def waiting() -> None:
        try:
            await scheduler.submit(task("never", Answer(1)), priority=1)
        finally:
            closed.append(True)

    async def main() -> None:
        scheduler.start(waiting())
        await scheduler.submit(task("first", Answer(0)))
        raise RunError("no further")

    with pytest.raises(RunError, match="no further"):
        scheduler.run(main())
    assert closed == [True]


def test_without_a_ledger_nothing_is_kept() -> None:
    scheduler = Scheduler(open_executor("inline"))

    async def main() -> object:
        return (await scheduler.submit(task("a", Answer(1)))).result

    assert scheduler.run(main()) == {"number": 1}
