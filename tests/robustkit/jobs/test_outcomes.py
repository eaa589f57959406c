import pytest
import torch

from robustkit.jobs import (
    Diverged,
    DivergedError,
    Invalid,
    InvalidCandidateError,
    Lost,
    Ok,
    OutOfMemory,
    Timeout,
    classify,
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DivergedError("loss is nan"), Diverged("loss is nan", 2.0)),
        (InvalidCandidateError("no blocks\nat all"), Invalid("no blocks", 2.0)),
        (MemoryError(), OutOfMemory("MemoryError", 2.0)),
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory("CUDA out of memory", 2.0)),
        (RuntimeError("CUDA error: out of memory"), OutOfMemory("CUDA error: out of memory", 2.0)),
    ],
)
def test_an_ending_has_its_outcome(error: Exception, expected: object) -> None:
    assert classify(error, 2.0) == expected


def test_the_cpu_allocator_runs_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert isinstance(classify(caught.value), OutOfMemory)


@pytest.mark.parametrize("error", [RuntimeError("shape"), ZeroDivisionError(), KeyboardInterrupt()])
def test_a_bug_has_no_outcome(error: BaseException) -> None:
    assert classify(error) is None


def test_kinds_are_the_names_of_the_ledger() -> None:
    outcomes = [Ok(1), *(kind("why") for kind in (Diverged, Timeout, OutOfMemory, Invalid, Lost))]
    names = ["Ok", "Diverged", "Timeout", "OutOfMemory", "Invalid", "Lost"]
    assert [outcome.kind for outcome in outcomes] == names
    assert len(set(outcomes)) == len(outcomes)
