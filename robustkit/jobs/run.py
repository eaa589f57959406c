"""Run many jobs once each: on an executor, with their results in a run's ledger."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import msgspec

from robustkit.errors import RunError
from robustkit.jobs.executors import Cluster, Executor, Runnable, open_executor
from robustkit.jobs.outcomes import Diverged, Ok, Outcome
from robustkit.reading import Json, printable
from robustkit.runs import Entry, Ledger, RunFolder
from robustkit.runs.folder import EDITED
from robustkit.runs.summaries import check_summary

Log = Callable[[str], None]
"""Takes one line about the progress of a run."""


class Job(Runnable, Protocol):
    """A computation with an id, which is unique in the run and names it in logs and errors."""

    @property
    def id(self) -> str:
        """The id."""


class RecordedJob(Job, Protocol):
    """A job, a dataclass, whose result a ledger keeps: a `Result` or a JSON object."""

    @property
    def kind(self) -> Any:
        """The type of the result, as `check_summary` takes it."""


def executor_of(config: Mapping[str, Any]) -> Executor:
    """Return the executor that a run's settings choose; raise `ConfigError` for impossible ones."""
    return open_executor(
        config["executor"],
        workers=config["workers"],
        timeout=config.get("timeout"),
        memory_gib=config.get("memory_gib"),
        cluster=Cluster(
            address=config["ray_address"],
            cpus_per_trial=config["cpus_per_trial"],
            gpus_per_trial=config["gpus_per_trial"],
        ),
    )


def run_jobs(
    jobs: Sequence[Job],
    executor: Executor,
    ledger: Ledger | None = None,
    *,
    stage: str = "",
    log: Log,
) -> list[Any]:
    """Run `jobs` on `executor` and return their results, in the order of `jobs`.

    With a `ledger`, jobs that it holds are not run again, and each new result is recorded as a
    trial of `stage` when its job has ended. `log` gets a line for each job that was run. Raises
    `RunError` where a job ends without a result; results recorded until then stay.
    """
    results: dict[str, object] = {}
    missing = [job for job in jobs if ledger is None or ledger.get(job.id) is None]
    for job, outcome in executor.run(iter(missing)):
        if not isinstance(outcome, Ok):
            hint = "" if ledger is None else f"; {_hint(outcome)}"
            raise RunError(f"{job.id}: {outcome.kind} ({outcome.reason}){hint}")
        if ledger is None:
            results[job.id] = outcome.value
        else:
            ledger.record(_trial(job, stage, outcome))
        log(f"{job.id}: {outcome.seconds:.0f} s")
    return [results[job.id] if ledger is None else _recorded(ledger, job.id) for job in jobs]


def run_phases(
    phases: Sequence[Sequence[RecordedJob]], folder: RunFolder, *, stage: str, log: Log
) -> list[Entry]:
    """Run the jobs that the ledger of `folder` lacks, phase after phase; return all their trials.

    The executor is the one that the run's settings choose. Raises `RunError` as `run_jobs` does,
    and where the ledger holds a trial that is none of these jobs' or has a result of another type.
    """
    path = folder.file("ledger.sqlite")
    # First the executor: settings that it refuses leave nothing behind.
    with (
        executor_of(folder.config) as executor,
        Ledger.open(path) if os.path.lexists(path) else Ledger.create(path) as ledger,
    ):
        known = {job.id: job for jobs in phases for job in jobs}
        _check(ledger.trials(), known, stage, path)
        for jobs in phases:
            run_jobs(jobs, executor, ledger, stage=stage, log=log)
        return [trial for trial in ledger.trials() if trial.id in known]


def _recorded(ledger: Ledger, identity: str) -> Any:
    trial = ledger.get(identity)
    if trial is None or trial.outcome != Ok.__name__:
        raise RunError(f"{ledger.path}: trial '{printable(identity)}': no result")
    return trial.result


def _trial(job: Job, stage: str, outcome: Ok) -> Entry:
    return Entry(
        id=job.id,
        stage=stage,
        key=job.id,
        payload=_payload(job),
        outcome=outcome.kind,
        result=msgspec.to_builtins(outcome.value, enc_hook=_plain_float),
        seconds=outcome.seconds,
    )


def _check(
    trials: Sequence[Entry], known: Mapping[str, RecordedJob], stage: str, path: Path
) -> None:
    """Raise `RunError`, naming ledger and trial, for a trial that none of the jobs has made.

    Of payloads, numbers are compared: paths are others once a folder has been moved.
    """
    for trial in trials:
        where = f"{path}: trial '{printable(trial.id)}'"
        if trial.id not in known or trial.stage != stage or trial.key != trial.id:
            raise RunError(f"{where}: none that this run would make: {EDITED}; start the run anew")
        if trial.outcome != Ok.__name__ or trial.result is None:
            raise RunError(f"{where}: {printable(trial.outcome)}, and only results are kept here")
        check_summary(trial.result, known[trial.id].kind, where)
        for name, value in json.loads(json.dumps(_payload(known[trial.id]))).items():
            if _is_numeric(value) and trial.payload.get(name, value) != value:
                raise RunError(
                    f"{where}: has another {name} than this run would give it: {EDITED}; "
                    "start the run anew"
                )


def _is_numeric(value: object) -> bool:
    return all(isinstance(x, int | float) for x in (value if isinstance(value, list) else [value]))


def _plain_float(value: object) -> float:
    if isinstance(value, float):  # of NumPy
        return float(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON holds")


def _hint(outcome: Outcome) -> str:
    if isinstance(outcome, Diverged):
        return "it would again: start anew, with a smaller learning rate perhaps"
    return "--resume tries it again"


def _payload(job: Any) -> Json:
    # The folder may be moved between two sessions; it is no part of what was done.
    return {name: value for name, value in asdict(job).items() if name != "path"}
