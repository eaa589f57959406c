"""`robustkit doctor`: check this installation and print the fix for what is wrong."""

from __future__ import annotations

import base64
import hashlib
import importlib
import importlib.metadata
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import psutil

from robustkit.cli.parser import CommandParser, Options
from robustkit.reading import printable

OLDEST_PYTHON = (3, 11)
ENOUGH_MEMORY_GIB = 4.0
ENOUGH_DISK_GIB = 1.0
TESTED_PAIR = Path(__file__).parents[2] / "constraints.txt"


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis: `status` is `ok`, `note` (usable as it is) or `wrong`."""

    what: str
    status: str
    detail: str
    fix: str = ""


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Whether this Python is new enough."""
    found = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return Finding(
            "Python",
            "wrong",
            found,
            "install Python 3.11 or newer, then: make PYTHON=python3.11 setup",
        )
    return Finding("Python", "ok", f"{found} ({sys.executable})")


def torch_pair() -> Finding:
    """Whether torch and torchvision load, and were built for each other."""
    try:
        torch = importlib.import_module("torch")
        torchvision = importlib.import_module("torchvision")
        _suppress_a_box(torch)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        return Finding("torch, torchvision", "wrong", f"{_installed()}: {reason}", _pair_fix())
    return Finding("torch, torchvision", "ok", f"{torch.__version__}, {torchvision.__version__}")


def packages() -> Finding:
    """Whether every package robustkit requires is installed."""
    missing = []
    for requirement in importlib.metadata.requires("robustkit") or []:
        name = re.split(r"[ <>=!~;\[]", requirement, maxsplit=1)[0]
        if "extra ==" not in requirement and _version(name) is None:
            missing.append(name)
    if missing:
        fix = f"{sys.executable} -m pip install {' '.join(missing)}"
        return Finding("packages", "wrong", f"not installed: {', '.join(missing)}", fix)
    return Finding("packages", "ok", "all that are required are installed")


def robustbench() -> Finding:
    """Whether RobustBench, if it is there, is whole: torchattacks brings an old copy of it."""
    try:
        files = importlib.metadata.files("robustbench") or []
    except importlib.metadata.PackageNotFoundError:
        return Finding("RobustBench", "ok", "not installed; only models of robustbench: need it")
    if any(_was_overwritten(file) for file in files if file.suffix == ".py"):
        fix = f"{sys.executable} -m pip install --force-reinstall --no-deps robustbench"
        return Finding("RobustBench", "note", "torchattacks' old copy of it lies over it", fix)
    return Finding("RobustBench", "ok", importlib.metadata.version("robustbench"))


def cores() -> Finding:
    """How many cores this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    advice = f"--executor processes --workers {usable} uses them all"
    return Finding("cores", "ok", f"{usable} usable; {advice}")


def memory() -> Finding:
    """Whether there is memory for a worker or two."""
    gib = psutil.virtual_memory().available / 2**30
    if gib < ENOUGH_MEMORY_GIB:
        fix = (
            f"close other programs or use --workers 1; {ENOUGH_MEMORY_GIB:.0f} GiB are comfortable"
        )
        return Finding("memory", "note", f"{gib:.1f} GiB free", fix)
    return Finding("memory", "ok", f"{gib:.1f} GiB free")


def disk(folder: Path = Path()) -> Finding:
    """Whether runs can be written in `folder`."""
    gib = psutil.disk_usage(str(folder)).free / 2**30
    detail = f"{gib:.1f} GiB free in {folder.resolve()}"
    if not os.access(folder, os.W_OK):
        fix = "run robustkit in a folder you may write to, or give --out"
        return Finding("disk", "note", f"cannot write in {folder.resolve()}", fix)
    if gib < ENOUGH_DISK_GIB:
        return Finding("disk", "note", detail, "free some space, or give --out on another disk")
    return Finding("disk", "ok", detail)


def gpu() -> Finding:
    """Which accelerators torch can use; none is needed."""
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError, RuntimeError):
        return Finding("GPU", "note", "unknown: torch does not load")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Finding("GPU", "ok", f"{', '.join(names)} (CUDA {torch.version.cuda})")
    if torch.backends.mps.is_available():
        return Finding("GPU", "ok", "Apple MPS")
    return Finding("GPU", "note", "none; everything runs on the CPU")


def data_roots() -> Finding:
    """What `ROBUSTKIT_DATA`, the default of --root, holds; the embedded digits need nothing."""
    root = os.environ.get("ROBUSTKIT_DATA")
    if root is None:
        detail = "ROBUSTKIT_DATA is not set; --data digits works without it"
        return Finding("data", "note", detail, "export ROBUSTKIT_DATA=/folder/of/your/data")
    folder = Path(root)
    try:
        there = folder.is_dir()
    except OSError:  # a name too long to be one
        there = False
    if not there:
        fix = "export ROBUSTKIT_DATA=/an/existing/folder, or unset it"
        return Finding("data", "wrong", f"ROBUSTKIT_DATA={root[:200]} is not a folder", fix)
    held = sorted(entry.name for entry in folder.iterdir() if _holds_images(entry))
    if not held:
        return Finding("data", "note", f"{root} holds no .npz file and no folder of images")
    return Finding("data", "ok", f"{root}: {', '.join(held)}")


CHECKS: tuple[Callable[[], Finding], ...] = (
    python,
    torch_pair,
    packages,
    robustbench,
    cores,
    memory,
    disk,
    gpu,
    data_roots,
)


def _was_overwritten(file: importlib.metadata.PackagePath) -> bool:
    """Whether an installed file is not the one that its package recorded."""
    if file.hash is None or not Path(file.locate()).is_file():
        return False
    digest = hashlib.new(file.hash.mode, file.read_binary()).digest()
    return file.hash.value != base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _suppress_a_box(torch: ModuleType) -> None:
    """Call the compiled operator whose absence betrays a mismatched pair."""
    ops = importlib.import_module("torchvision.ops")
    ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)


def _pair_fix(constraints: Path = TESTED_PAIR) -> str:
    """The command that installs a torch and a torchvision that agree.

    Both are reinstalled, and so come from one index: versions may agree and the builds still not,
    as with a CPU-only torch beside a torchvision for CUDA. A checkout names the pair it is tested
    with; without one, the newest two agree.
    """
    pins = constraints.read_text() if constraints.is_file() else ""
    pair = re.findall(r"^(torch(?:vision)?) *== *(\S+)", pins, flags=re.MULTILINE)
    wanted = " ".join(f"{name}=={version}" for name, version in pair) or "torch torchvision"
    return f"{sys.executable} -m pip install --force-reinstall {wanted}"


def _installed() -> str:
    pair = ((name, _version(name)) for name in ("torch", "torchvision"))
    return ", ".join(f"{name} {version or 'not installed'}" for name, version in pair)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _holds_images(entry: Path) -> bool:
    return entry.suffix == ".npz" or (entry.is_dir() and not entry.name.startswith("."))


_SIGNS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def add_arguments(parser: CommandParser) -> None:
    """The doctor has no options of its own."""


def run(options: Options) -> int:
    """Print every finding and its fix; 1 when something must be fixed, 0 when usable."""
    findings = [check() for check in CHECKS]
    for finding in findings:
        print(_lines(finding))
    wrong = [finding.what for finding in findings if finding.status == "wrong"]
    if wrong:
        print(f"\nTo be fixed: {', '.join(wrong)}.")
        return 1
    print("\nrobustkit is usable.")
    return 0


def _lines(finding: Finding) -> str:
    line = printable(f"{_SIGNS[finding.status]}  {finding.what}: {finding.detail}")
    return f"{line}\n       fix: {finding.fix}" if finding.fix else line
