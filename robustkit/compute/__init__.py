"""Where and how things are computed: devices, seeds, threads, and the outcomes of jobs.

On the ground floor beside `robustkit.runs`: it knows no other room but `robustkit.errors`.
Executors, which run jobs, live in `robustkit.compute.executors`.
"""

from robustkit.compute.allocator import keep_freed_memory
from robustkit.compute.device import device_of, resolve_device, synchronize
from robustkit.compute.outcomes import (
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
from robustkit.compute.placement import FreeMemory, free_memory, handed, placed
from robustkit.compute.precision import exact_products
from robustkit.compute.seeds import derive_seed, isolated_rng, torch_generator
from robustkit.compute.threads import single_thread

__all__ = [
    "Diverged",
    "DivergedError",
    "Failure",
    "FreeMemory",
    "Invalid",
    "InvalidCandidateError",
    "Lost",
    "Ok",
    "OutOfMemory",
    "Outcome",
    "Timeout",
    "classify",
    "derive_seed",
    "device_of",
    "exact_products",
    "free_memory",
    "handed",
    "isolated_rng",
    "keep_freed_memory",
    "placed",
    "resolve_device",
    "single_thread",
    "synchronize",
    "torch_generator",
]
