"""The suites by their names, and how one is measured."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from experiments.benchmarks.record import Record
from experiments.benchmarks.results import Measured
from robustkit.compute import keep_freed_memory, single_thread
from robustkit.errors import ConfigError, did_you_mean

SUITES = {
    "penalty": "training steps with the misalignment penalty, in plain steps",
    "lazy": "training steps with the penalty in one of four, beside the penalty in each",
    "layout": "training steps with channels last, in the same steps without",
    "batches": "augmented batches from memory beside a DataLoader",
    "workers": "two worker processes beside one",
    "search": "a search beside DEAP's own loop over a DataLoader, and what it costs itself",
    "robust": "attacks beside torchattacks and foolbox",
    "transfer": "transfer attacks beside torchattacks and torchattack; seconds of each at 224 px",
    "matrix": "a transfer matrix, crafted once and kept, beside one crafted per pair",
    "repair": "a swarm's iteration beside plain forward passes, a whole repair, its memory",
    "explain": "maps beside Captum, grad-cam and zennit",
    "detectors": "adversarial steps of a detector, and evaluation beside pycocotools",
    "scaling": "what a driver costs beside its trials: executors, generations, ledger, memory",
}
# Suites that share a module, as `NAME_records()`; any other is `records()` of a module of its own
# name. Modules are imported only when they are measured.
_MODULES = {
    **dict.fromkeys(("penalty", "lazy", "layout", "batches", "workers"), "training"),
    **dict.fromkeys(("robust", "matrix"), "attacks"),
}
# These take sizes and a device; `gpu` is all of them.
GPU = "gpu"
GPU_SUITES = {
    "gpu-training": "training steps in float32 and bfloat16, in both layouts",
    "gpu-images": "images attacked and explained in a second",
    "gpu-gradients": "reference gradients: how fast, how large, and where they lie",
    "gpu-packing": "short trainings in one process or several on one device",
}
ABOUT = {**SUITES, **GPU_SUITES}


def chosen(names: Sequence[str]) -> list[str]:
    """Return the suites called `names`, each once; without names all that need no GPU.

    Raises `ConfigError` for a name that is none.
    """
    known = [*ABOUT, GPU]
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown benchmark '{name}'{did_you_mean(name, known)}")
    if not names:
        return list(SUITES)
    return [name for name in ABOUT if name in names or (GPU in names and name in GPU_SUITES)]


def measure(name: str, device: torch.device, found: Mapping[str, Any]) -> Measured:
    """Measure one suite on one thread; `found` is the environment it is measured in."""
    keep_freed_memory()
    begun, start = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    with single_thread():
        records, setting = _open(name, device)
        measured = tuple(records)
        threads = torch.get_num_threads()
    return Measured(
        records=measured,
        time=begun,
        commit=found["commit"],
        command=tuple(found["command"]),
        threads=threads,
        seconds=round(time.perf_counter() - start, 1),
        device=str(device) if name in GPU_SUITES else "cpu",
        setting=setting,
    )


def _open(name: str, device: torch.device) -> tuple[Iterator[Record], Mapping[str, object]]:
    if name in GPU_SUITES:
        from experiments.benchmarks.gpu import RECORDS, sizes_for

        sizes = sizes_for(device)
        return RECORDS[name](sizes, device), asdict(sizes)
    module = importlib.import_module(f"experiments.benchmarks.{_MODULES.get(name, name)}")
    records = getattr(module, f"{name}_records" if name in _MODULES else "records")
    return records(), {}
