"""What every executor must do. A new executor is added to `executor` and must pass."""

import random
import traceback
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from robustkit.jobs import Diverged, Executor, Failure, Invalid, Ok, OutOfMemory, open_executor
from tests.robustkit.jobs.jobs import (
    DIVERGED,
    INVALID,
    AllocateTensor,
    DrawGlobally,
    Ones,
    Raise,
    RaiseUnpicklable,
    Sleep,
    Square,
    SumOfShared,
    Threads,
    Train,
    UnpicklableError,
    run_all,
)


@pytest.fixture(params=["inline", "processes", "ray"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "inline":
        return open_executor("inline")
    workers = {"processes": "two_processes", "ray": "two_actors"}
    opened: Executor = request.getfixturevalue(workers[request.param])
    return opened


def test_no_jobs_no_run_all(executor: Executor) -> None:
    assert run_all(executor) == []


def test_every_job_comes_back_with_its_own_value(executor: Executor) -> None:
    jobs = [Square(n) for n in range(7)]
    ended = list(executor.run(iter(jobs)))
    assert sorted(job.number for job, _ in ended) == list(range(7))
    for job, outcome in ended:
        assert any(job is given for given in jobs)
        assert isinstance(outcome, Ok)
        assert outcome.value == job.number**2


def test_seconds_are_those_of_the_job(executor: Executor) -> None:
    (outcome,) = run_all(executor, Sleep(0.2))
    assert 0.2 <= outcome.seconds < 1.0


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (DIVERGED, Diverged, "loss is nan"),
        (INVALID, Invalid, "no such block"),
        (MemoryError(), OutOfMemory, "MemoryError"),
    ],
)
def test_an_ending_is_an_outcome_and_the_run_goes_on(
    executor: Executor, error: Exception, kind: type[Failure], reason: str
) -> None:
    failed, square = run_all(executor, Raise(error), Square(3))
    assert isinstance(failed, kind)
    assert failed.reason == reason
    assert square.value == 9


def test_memory_that_does_not_exist_is_an_outcome(executor: Executor) -> None:
    (outcome,) = run_all(executor, AllocateTensor(2**40))
    assert isinstance(outcome, OutOfMemory)


def test_a_bug_is_raised_with_the_place_where_it_happened(executor: Executor) -> None:
    with pytest.raises(KeyError, match="missing") as caught:
        run_all(executor, Raise(KeyError("missing")))
    told = "".join(traceback.format_exception(caught.value))
    assert "raise self.error" in told
    assert run_all(executor, Square(2))[0].value == 4


def test_an_unpicklable_bug_keeps_its_message(executor: Executor) -> None:
    with pytest.raises((UnpicklableError, RuntimeError), match="kept"):
        run_all(executor, RaiseUnpicklable())


def test_jobs_are_asked_for_only_when_a_worker_is_free(executor: Executor) -> None:
    pulled = 0

    def jobs() -> Iterator[Square]:
        nonlocal pulled
        for number in range(6):
            pulled += 1
            yield Square(number)

    for done, _ in enumerate(executor.run(jobs())):
        assert pulled <= done + 2  # two workers at most


def test_a_none_waits_for_the_next_completion(executor: Executor) -> None:
    """Each generation is made from the outcomes of the one before it."""
    ended: list[int] = []

    def generations() -> Iterator[Square | None]:
        for generation in range(3):
            while len(ended) < 2 * generation:
                yield None
            yield Square(2 * generation)
            yield Square(2 * generation + 1)

    for job, _ in executor.run(generations()):
        ended.append(job.number)
    assert [sorted(ended[i : i + 2]) for i in (0, 2, 4)] == [[0, 1], [2, 3], [4, 5]]


def test_a_none_while_nothing_runs_is_a_bug(executor: Executor) -> None:
    with pytest.raises(RuntimeError, match="would wait for ever"):
        list(executor.run(iter([None])))


def test_leaving_early_leaves_the_executor_usable(executor: Executor) -> None:
    run = executor.run(iter([Square(1), Square(2), Square(3)]))
    next(run)
    run.close()  # type: ignore[attr-defined]
    assert run_all(executor, Square(5))[0].value == 25


def test_the_callers_generators_are_left_alone(executor: Executor) -> None:
    states = random.getstate(), torch.get_rng_state()
    run_all(executor, DrawGlobally())
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


def test_a_job_computes_on_one_thread(executor: Executor) -> None:
    assert run_all(executor, Threads())[0].value == 1


def test_a_training_is_the_same_to_the_bit_everywhere(executor: Executor) -> None:
    with open_executor("inline") as inline:
        first, second = run_all(inline, Train(0), Train(1))
    second_here, first_here = run_all(executor, Train(1), Train(0))
    assert all(map(torch.equal, first_here.value, first.value))
    assert all(map(torch.equal, second_here.value, second.value))


def test_a_huge_result_comes_back_whole(executor: Executor) -> None:
    (outcome,) = run_all(executor, Ones(200))
    assert len(outcome.value) == 200 * 2**20
    assert set(outcome.value[:: 2**20]) == {1}


def test_what_is_shared_is_held_or_not_but_never_something_else(executor: Executor) -> None:
    executor.share("numbers", lambda: np.arange(10))
    (held,) = run_all(executor, SumOfShared("numbers"))
    assert held.value in (None, 45)
    (other,) = run_all(executor, SumOfShared("letters"))
    assert other.value is None
