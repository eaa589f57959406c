"""What Ray's executor can do beyond the others, and how it fails."""

from __future__ import annotations

import builtins
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from robustkit.errors import ConfigError, DeviceError
from robustkit.jobs import Cluster, Executor, Lost, Ok, Timeout, open_executor
from tests.robustkit.jobs.drivers import driver, end
from tests.robustkit.jobs.jobs import (
    Die,
    Process,
    Sleep,
    Square,
    SumOfShared,
    Writes,
    run_all,
)


def test_a_hanging_job_is_killed_and_the_others_go_on(two_actors: Executor) -> None:
    start = time.monotonic()
    stopped, *others = run_all(two_actors, Sleep(300, timeout=0.5), Square(1), Square(2))
    assert time.monotonic() - start < 60
    assert isinstance(stopped, Timeout)
    assert stopped.reason == "no result within 0.5 seconds"
    assert [outcome.value for outcome in others] == [1, 4]


def test_a_job_whose_actor_is_killed_is_run_again(two_actors: Executor, tmp_path: Path) -> None:
    (outcome,) = run_all(two_actors, Die(tmp_path / "deaths", times=1))
    assert isinstance(outcome, Ok)
    assert outcome.value == 1


def test_a_job_that_kills_every_actor_is_lost(two_actors: Executor, tmp_path: Path) -> None:
    job = Die(tmp_path / "deaths", times=9)
    lost, square = run_all(two_actors, job, Square(4))
    assert isinstance(lost, Lost)
    assert lost.reason.startswith("its worker died 3 times, at last with ")
    assert job.counter.read_text() == "3"
    assert square.value == 16


def test_actors_outlive_their_jobs_and_not_the_run_they_are_killed_in(two_actors: Executor) -> None:
    workers = {outcome.value for outcome in run_all(two_actors, *(Process() for _ in range(6)))}
    assert os.getpid() not in workers
    assert 1 <= len(workers) <= 2
    jobs: list[Any] = [Process(), Sleep(300)]
    run = two_actors.run(iter(jobs))
    next(run)
    run.close()  # type: ignore[attr-defined]
    assert run_all(two_actors, Square(5))[0].value == 25


def test_what_is_shared_is_read_in_place(two_actors: Executor) -> None:
    two_actors.share("big", lambda: np.arange(10**6))
    assert [each.value for each in run_all(two_actors, SumOfShared("big"), SumOfShared("big"))] == [
        499999500000
    ] * 2
    (outcome,) = run_all(two_actors, Writes("big"))
    assert outcome.value == (False, False)


def test_an_actor_is_replaced_after_so_many_jobs(two_actors: Executor) -> None:
    # Beside the other executor, on the cluster that it has started.
    with open_executor("ray", workers=1, cluster=Cluster(recycle=2)) as own:
        workers = [outcome.value for outcome in run_all(own, *(Process() for _ in range(6)))]
    assert len(set(workers)) == 3
    assert workers[0] == workers[1]
    assert run_all(two_actors, Square(3))[0].value == 9


def test_no_gpu_is_told_at_once(two_actors: Executor) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    own = open_executor("ray", workers=1, cluster=Cluster(gpus_per_trial=0.25))
    with own, pytest.raises(DeviceError, match="the cluster has no GPU"):
        run_all(own, Square(1))


def test_a_cluster_without_room_is_told_after_a_while(
    two_actors: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustkit.jobs.ray.PATIENCE", 2.0)
    own = open_executor("ray", workers=1, cluster=Cluster(cpus_per_trial=64))
    with own, pytest.raises(DeviceError, match="each needs 64 CPUs"):
        run_all(own, Square(1))


def test_without_ray_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **more: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"pip install 'robustkit\[ray\]'"):
        open_executor("ray")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"address": "nowhere"}, "must be auto or HOST:PORT, not 'nowhere'"),
        ({"address": "host:99999"}, "must be auto or HOST:PORT"),
        ({"cpus_per_trial": 0}, "cpus_per_trial must be above 0"),
        ({"gpus_per_trial": -1}, "gpus_per_trial must be a fraction"),
        ({"gpus_per_trial": 1.5}, "gpus_per_trial must be a fraction"),
        ({"gpus_per_trial": float("nan")}, "gpus_per_trial must be a fraction"),
        ({"recycle": 0}, "recycle must be at least 1"),
    ],
)
def test_senseless_clusters_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Cluster(**options)


@pytest.mark.parametrize("name", ["inline", "processes"])
def test_executors_of_one_machine_know_no_cluster(name: str) -> None:
    with pytest.raises(ConfigError, match="use 'ray'"):
        open_executor(name, cluster=Cluster(gpus_per_trial=1))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=str)
def test_actors_and_cluster_end_with_their_driver(tmp_path: Path, how: signal.Signals) -> None:
    with driver(tmp_path, "ray") as (process, number):
        # Ray's agents look for their machine's manager about once a minute, and end later.
        cluster = [
            each
            for each in psutil.Process(process.pid).children(recursive=True)
            if not each.name().endswith("Agent")
        ]
        actor = psutil.Process(number)
        end(process, how)
    _, alive = psutil.wait_procs([actor, *cluster], timeout=60)
    assert not alive
