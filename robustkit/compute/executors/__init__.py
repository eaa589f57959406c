"""Executors: run jobs inline or in processes, with typed outcomes and the same results to the bit.

Part of `robustkit.compute`; whoever has many independent things to compute describes them as jobs
and iterates over `open_executor(...).run(jobs)`.
"""

from robustkit.compute.executors.base import Executor, Job, attempt
from robustkit.compute.executors.cluster import Cluster
from robustkit.compute.executors.inline import InlineExecutor
from robustkit.compute.executors.processes import ProcessExecutor
from robustkit.compute.executors.ray import RayExecutor
from robustkit.compute.executors.registry import EXECUTORS, open_executor

__all__ = [
    "EXECUTORS",
    "Cluster",
    "Executor",
    "InlineExecutor",
    "Job",
    "ProcessExecutor",
    "RayExecutor",
    "attempt",
    "open_executor",
]
