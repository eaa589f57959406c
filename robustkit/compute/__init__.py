"""Devices, seeds, threads, batches that fit into memory, and files of tensors.

Above `robustkit.runs`; below everything that computes.
Executors, which run jobs, live in `robustkit.jobs`.
"""

from robustkit.compute.batching import Batches, Footprint, Note, fitting_batches, footprint
from robustkit.compute.devices import (
    FreeMemory,
    device_of,
    exact_products,
    fill_device,
    free_memory,
    is_out_of_memory,
    keep_freed_memory,
    on_device,
    resolve_device,
    single_thread,
    synchronize,
    to_device,
)
from robustkit.compute.seeds import derive_seed, isolated_rng, torch_generator

__all__ = [
    "Batches",
    "Footprint",
    "FreeMemory",
    "Note",
    "derive_seed",
    "device_of",
    "exact_products",
    "fill_device",
    "fitting_batches",
    "footprint",
    "free_memory",
    "is_out_of_memory",
    "isolated_rng",
    "keep_freed_memory",
    "on_device",
    "resolve_device",
    "single_thread",
    "synchronize",
    "to_device",
    "torch_generator",
]
