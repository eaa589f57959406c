"""The environment of a run: everything needed to run it again."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import psutil

from robustkit.reading import Json

_PACKAGES = (
    "robustkit", "torch", "torchvision", "numpy", "deap", "torchattacks", "scikit-learn",
    "safetensors",
)  # fmt: skip


def environment(command: list[str]) -> Json:
    """Return versions, commit, machine and threads of this process, as plain values.

    `command` is what was typed, `time` is UTC, `memory_gib` is the machine's; `commit` is None
    where robustkit is not run from a checkout, and ends in "+changes" where the checkout differs
    from it. Imports torch.
    """
    return {
        "command": command,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | _versions(),
        "commit": _commit(Path(__file__).parents[2]),
        "device": _device(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "threads": _threads(),
        "os": platform.platform(),
    }


def _versions() -> dict[str, str | None]:
    def version(package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    return {package: version(package) for package in _PACKAGES}


def _commit(root: Path) -> str | None:
    """Return the commit checked out at `root`, or None where there is no checkout or no git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    if not (root / ".git").exists():
        return None
    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _cpu() -> str:
    """Return the processor's model name; Linux keeps it in a file."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
