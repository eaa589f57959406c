"""Jobs: run many independent computations, with typed outcomes and the same results to the bit.

Describe each computation as a `Job`, a frozen dataclass, and call `run_jobs`, or `run_phases` to
keep the results in a run's ledger. Whatever needs outcomes as they come, such as a search, iterates
over `open_executor(...).run(jobs)`. Loaders that many jobs of a run call are decorated with
`cached_per_process`.
"""

from robustkit.jobs.executors import (
    EXECUTORS,
    Cluster,
    Executor,
    InlineExecutor,
    Runnable,
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
from robustkit.jobs.run import Job, Log, RecordedJob, executor_of, run_jobs, run_phases
from robustkit.jobs.shared import cached_per_process, share, shared

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
    "Log",
    "Lost",
    "Ok",
    "OutOfMemory",
    "Outcome",
    "ProcessExecutor",
    "RayExecutor",
    "RecordedJob",
    "Runnable",
    "Timeout",
    "attempt",
    "cached_per_process",
    "classify",
    "executor_of",
    "open_executor",
    "run_jobs",
    "run_phases",
    "share",
    "shared",
]
