"""Measure on the device, print a table, write the JSON."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.gpu import gradients, images, packing, training
from experiments.benchmarks.gpu.figure import Figure, table
from experiments.benchmarks.gpu.setting import setting_for
from robustkit.compute import keep_freed_memory, resolve_device, single_thread
from robustkit.errors import DeviceError, RobustkitError, RunError
from robustkit.runs import write_json
from robustkit.runs.environment import environment

FORMAT = 1
SUITES = (training, images, gradients, packing)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; 2 with one line where there is no such device or no place for the JSON."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _options(given)
    try:
        device = _device(options.device)
        if not options.out.parent.is_dir():
            raise RunError(f"cannot write {options.out}: {options.out.parent} is not a folder")
        with single_thread():
            result = measure(device, ["bench-gpu", *given])
        write_json(options.out, result)
    except RobustkitError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"written to {options.out}")
    return 0


def measure(device: torch.device, command: list[str]) -> dict[str, Any]:
    """Everything, as the JSON has it; the table is printed on the way."""
    setting = setting_for(device)
    found: list[Figure] = []
    for suite in SUITES:
        some = list(suite.figures(setting, device))
        print(table(some), flush=True)
        found += some
    kept = gradients.placement(setting, device)
    where = "on the device" if kept["gradients_on_device"] else "with the host"
    print(f"gradients of {kept['images']} images: {kept['gradient_bytes']:,} bytes, kept {where}")
    return {
        "format": FORMAT,
        "device": _described(device),
        "rehearsal": device.type == "cpu",
        "environment": environment(command),
        "setting": asdict(setting),
        "figures": {each.name: each.to_dict() for each in found},
        "reference_gradients": kept,
    }


def _options(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-gpu", description=__doc__, allow_abbrev=False)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, mps; cpu: a rehearsal")
    parser.add_argument("--out", type=Path, default=Path("bench-gpu.json"), metavar="FILE")
    return parser.parse_args(given)


def _device(name: str) -> torch.device:
    try:
        return resolve_device(name)
    except DeviceError as error:
        if not name.startswith("cuda") or torch.cuda.is_available():
            raise
        raise DeviceError(
            "no GPU on this machine: nothing to measure (--device cpu rehearses it in small)"
        ) from error


def _described(device: torch.device) -> dict[str, Any]:
    """Which device it is, and the versions of what drives it."""
    if device.type != "cuda":
        return {"type": device.type, "name": platform.processor() or platform.machine()}
    found = torch.cuda.get_device_properties(device)
    return {
        "type": "cuda",
        "name": found.name,
        "memory_bytes": found.total_memory,
        "capability": f"{found.major}.{found.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
