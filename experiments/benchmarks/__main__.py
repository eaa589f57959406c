"""Print every claim beside its measurement; exit code 1 if one is missed."""

from __future__ import annotations

import sys

import torch

from experiments.benchmarks import (
    batches,
    detectors,
    explain,
    layout,
    matrix,
    penalty,
    repair,
    robust,
    scaling,
    search,
    workers,
)
from robustkit.compute import keep_freed_memory

SUITES = {
    "penalty": penalty,
    "layout": layout,
    "batches": batches,
    "workers": workers,
    "search": search,
    "robust": robust,
    "matrix": matrix,
    "repair": repair,
    "explain": explain,
    "detectors": detectors,
    "scaling": scaling,
}


def main(names: list[str]) -> int:
    """Run the suites called `names`, or all of them."""
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        print(f"unknown benchmark '{unknown[0]}' (known: {', '.join(SUITES)})", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    keep_freed_memory()
    missed = 0
    for name in names or SUITES:
        for claim in SUITES[name].claims():
            print(claim, flush=True)
            missed += not claim.kept
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
