"""The file of a bench: on which machine, with which versions, what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.figure import is_number
from experiments.benchmarks.record import Record
from robustkit.errors import RobustkitError, RunError
from robustkit.runs import write_json
from robustkit.runs.environment import environment

FORMAT = 1
# What a comparison can depend on beside what every run notes.
_PACKAGES = ("foolbox", "captum", "grad-cam", "zennit", "pycocotools", "ray")
_MACHINE = ("cpu", "cores", "memory_gib", "os", "device")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One suite: its records, since when (UTC), at which commit and by which command they were
    measured, on how many threads of this process, in how many seconds, and on which device;
    `setting` holds the sizes of a suite that has others where it is only rehearsed."""

    records: tuple[Record, ...]
    time: str
    commit: str | None
    command: tuple[str, ...]
    threads: int
    seconds: float
    device: str = "cpu"
    setting: Mapping[str, Any]

    def __post_init__(self) -> None:
        names = [record.what for record in self.records]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"two records are called '{twice[0]}'")


@dataclass(frozen=True)
class Results:
    """Suites by their names, all measured on one `machine` with one set of `versions`."""

    machine: Mapping[str, Any]
    versions: Mapping[str, str | None]
    suites: Mapping[str, Measured]

    def with_suite(self, name: str, measured: Measured) -> Results:
        """These with one suite more, or in the place of the one of that name."""
        return replace(self, suites={**self.suites, name: measured})

    def only(self, names: Sequence[str]) -> Results:
        """These with no other suites than those called `names`."""
        return replace(self, suites={n: s for n, s in self.suites.items() if n in names})

    @property
    def missed(self) -> list[str]:
        """The claims that were not kept."""
        return [
            f"{name}: {record.what}"
            for name, suite in self.suites.items()
            for record in suite.records
            if record.kept is False
        ]


def empty(command: Sequence[str]) -> tuple[Results, dict[str, Any]]:
    """Results of this machine, without suites, and the environment that suites are measured in."""
    found = environment(list(command))
    versions: dict[str, str | None] = {**found["versions"], **dict(map(_version, _PACKAGES))}
    if torch.cuda.is_available():
        versions["cuda"] = torch.version.cuda
        versions["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return Results({name: found[name] for name in _MACHINE}, versions, {}), found


def differences(old: Results, new: Results) -> list[str]:
    """In what the machines and versions of two results differ, as `name old → new`."""
    pairs = [(dict(old.machine), dict(new.machine)), (dict(old.versions), dict(new.versions))]
    return [
        f"{name} {before.get(name)} → {after.get(name)}"
        for before, after in pairs
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def write(path: Path, results: Results) -> None:
    """Write the file, whole or not at all; raises `RunError` where that cannot be."""
    write_json(
        path,
        {
            "format": FORMAT,
            "machine": dict(results.machine),
            "versions": dict(results.versions),
            "suites": {name: _as_dict(suite) for name, suite in results.suites.items()},
        },
    )


def read(path: Path) -> Results:
    """What `write` wrote; raises `RunError`, naming the file and what is wrong in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # of JSON and UTF-8, and of brackets without end
        raise RunError(f"{path}: not JSON: {error}") from None
    if not isinstance(found, Mapping) or "suites" not in found:
        raise RunError(f"{path}: not a file of `robustkit bench`: it has no 'suites'")
    if found.get("format") != FORMAT:
        raise RunError(f"{path}: format {found.get('format')!r}; this robustkit reads {FORMAT}")
    for name in ("machine", "versions", "suites"):
        if not isinstance(found.get(name), Mapping):
            raise RunError(f"{path}: '{name}' should be a mapping, not {found.get(name)!r}")
    for name, version in found["versions"].items():
        if not isinstance(version, str | None):
            raise RunError(f"{path}: the version of {name} should be a text, not {version!r}")
    suites = {name: _read_suite(f"{path}: {name}", each) for name, each in found["suites"].items()}
    return Results(found["machine"], found["versions"], suites)


def _version(package: str) -> tuple[str, str | None]:
    try:
        return package, metadata.version(package)
    except metadata.PackageNotFoundError:
        return package, None


def _as_dict(suite: Measured) -> dict[str, Any]:
    return {
        "time": suite.time,
        "commit": suite.commit,
        "command": list(suite.command),
        "threads": suite.threads,
        "seconds": suite.seconds,
        "device": suite.device,
        "setting": dict(suite.setting),
        "records": [record.to_dict() for record in suite.records],
    }


_TYPES: dict[str, tuple[type, ...]] = {
    "time": (str,),
    "commit": (str, type(None)),
    "command": (list,),
    "threads": (int,),
    "seconds": (int, float),
    "device": (str,),
    "setting": (dict,),
    "records": (list,),
}


def _read_suite(where: str, found: Any) -> Measured:
    if not isinstance(found, Mapping):
        raise RunError(f"{where}: a suite is a mapping")
    if where.endswith(": "):
        raise RunError(f"{where}a suite without a name")
    for name, types in _TYPES.items():
        if name not in found or not isinstance(found[name], types):
            raise RunError(f"{where}: '{name}' is missing or of a wrong type")
    for name in ("threads", "seconds"):
        if not is_number(found[name]):
            raise RunError(f"{where}: '{name}' is no finite number")
    try:
        records = tuple(map(Record.from_dict, found["records"]))
        values = {name: found[name] for name in _TYPES}
        return Measured(
            **{**values, "records": records, "command": tuple(map(str, found["command"]))}
        )
    except (RobustkitError, ValueError) as error:
        raise RunError(f"{where}: {error}") from None
