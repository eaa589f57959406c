"""Where and how things are computed: devices, seeds, threads, and the outcomes of jobs.

On the ground floor beside `robustkit.runs`: it knows no other room but `robustkit.errors`.
Executors, which run jobs, live in `robustkit.compute.executors`.
"""

from robustkit.compute.allocator import keep_freed_memory
from robustkit.compute.batching import Batches, Footprint, Note, fitting_batches, footprint
from robustkit.compute.device import (
    device_of,
    is_out_of_memory,
    on_device,
    resolve_device,
    synchronize,
)
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
    "Batches",
    "Diverged",
    "DivergedError",
    "Failure",
    "Footprint",
    "FreeMemory",
    "Invalid",
    "InvalidCandidateError",
    "Lost",
    "Note",
    "Ok",
    "OutOfMemory",
    "Outcome",
    "Timeout",
    "classify",
    "derive_seed",
    "device_of",
    "exact_products",
    "fitting_batches",
    "footprint",
    "free_memory",
    "handed",
    "is_out_of_memory",
    "isolated_rng",
    "keep_freed_memory",
    "on_device",
    "placed",
    "resolve_device",
    "single_thread",
    "synchronize",
    "torch_generator",
]
