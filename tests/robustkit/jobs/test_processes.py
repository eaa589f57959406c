"""What only processes can do: outlive jobs that hang, die or eat the memory."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from robustkit.errors import DeviceError
from robustkit.jobs import (
    Executor,
    Lost,
    Ok,
    ProcessExecutor,
    Timeout,
    open_executor,
    processes,
)
from tests.robustkit.jobs.drivers import driver, end
from tests.robustkit.jobs.jobs import (
    Allocate,
    AllocateTensor,
    Die,
    Process,
    Sleep,
    Square,
    run_all,
)


def test_workers_outlive_their_jobs(two_processes: Executor) -> None:
    workers = {outcome.value for outcome in run_all(two_processes, *(Process() for _ in range(6)))}
    assert os.getpid() not in workers
    assert 1 <= len(workers) <= 2


def test_a_hanging_job_is_stopped_and_the_others_go_on(two_processes: Executor) -> None:
    start = time.monotonic()
    stopped, *others = run_all(two_processes, Sleep(300, timeout=0.5), Square(1), Square(2))
    assert time.monotonic() - start < 60
    assert isinstance(stopped, Timeout)
    assert stopped.reason == "no result within 0.5 seconds"
    assert 0.5 <= stopped.seconds < 5
    assert [outcome.value for outcome in others] == [1, 4]


def test_a_job_whose_worker_is_killed_is_run_again(two_processes: Executor, tmp_path: Path) -> None:
    (outcome,) = run_all(two_processes, Die(tmp_path / "deaths", times=1))
    assert isinstance(outcome, Ok)
    assert outcome.value == 1


def test_a_job_that_kills_every_worker_is_lost(two_processes: Executor, tmp_path: Path) -> None:
    job = Die(tmp_path / "deaths", times=9)
    lost, square = run_all(two_processes, job, Square(4))
    assert isinstance(lost, Lost)
    assert lost.reason == "its worker died 3 times, at last with SIGKILL"
    assert job.counter.read_text() == "3"
    assert square.value == 16


def test_an_idle_worker_that_was_killed_costs_no_try(two_processes: Executor) -> None:
    (first,) = run_all(two_processes, Process())
    os.kill(first.value, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(first.value)], timeout=5)
    (second,) = run_all(two_processes, Process())
    assert second.value != first.value


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")
def test_a_job_may_allocate_so_much_and_workers_end_with_the_context() -> None:
    jobs = [Allocate(128), Allocate(1024), AllocateTensor(1024), AllocateTensor(128)]
    with open_executor("processes", memory_gib=0.5) as executor:
        *outcomes, worker = run_all(executor, *jobs, Process())
        assert psutil.pid_exists(worker.value)
    assert not psutil.pid_exists(worker.value)
    assert [outcome.kind for outcome in outcomes] == ["Ok", "OutOfMemory", "OutOfMemory", "Ok"]


def test_workers_that_do_not_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "serve", os._exit)
    message = r"worker processes do not start \(exit code 1\)"
    with ProcessExecutor() as executor, pytest.raises(DeviceError, match=message):
        run_all(executor, Square(1))


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)], ids=str
)
def test_workers_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    with driver(tmp_path, "processes") as (parent, number):
        worker = psutil.Process(number)
        errors = end(parent, how)
    _, alive = psutil.wait_procs([worker], timeout=10)
    assert not alive
    assert errors.count("Traceback") == (1 if how == signal.SIGINT else 0)
