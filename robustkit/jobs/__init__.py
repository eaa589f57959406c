"""Jobs: run many independent computations, with typed outcomes and the same results to the bit.

Whoever has many independent things to compute describes them as jobs and iterates over
`open_executor(...).run(jobs)`, or has `run_jobs` keep what comes out in a run's ledger.
"""

from robustkit.jobs.executors import (
    EXECUTORS,
    Cluster,
    Executor,
    InlineExecutor,
    Job,
    attempt,
    open_executor,
)
from robustkit.jobs.outcomes import (
    Diverged,
    DivergedError,
    Failure,
    Invalid,
    InvalidCandidateError,
    Lost,
    Ok,
    Outcome,
    OutOfMemory,
    Timeout,
    classify,
)
from robustkit.jobs.processes import ProcessExecutor
from robustkit.jobs.ray import RayExecutor

__all__ = [
    "EXECUTORS",
    "Cluster",
    "Diverged",
    "DivergedError",
    "Executor",
    "Failure",
    "InlineExecutor",
    "Invalid",
    "InvalidCandidateError",
    "Job",
    "Lost",
    "Ok",
    "OutOfMemory",
    "Outcome",
    "ProcessExecutor",
    "RayExecutor",
    "Timeout",
    "attempt",
    "classify",
    "open_executor",
]
