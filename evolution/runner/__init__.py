"""The search engine: a scheduler over an executor and a ledger, and searches that run on it.

`evolution.optimize` is the short way in. A search of your own is a coroutine that submits tasks to
a `Scheduler` and awaits their entries.
"""

from evolution.runner.scheduler import Pending, Scheduler, Task
from evolution.runner.searches import generational, steady, successive_halving, trial_of

__all__ = [
    "Pending",
    "Scheduler",
    "Task",
    "generational",
    "steady",
    "successive_halving",
    "trial_of",
]
