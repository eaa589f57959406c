"""The file of a bench: on which machine, with which versions, what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict

import torch

from experiments.benchmarks.record import Record
from robustkit.errors import RobustkitError, RunError
from robustkit.reading import Json, check_kind, read_json
from robustkit.runs import write_json
from robustkit.runs.environment import environment
from robustkit.runs.summaries import Amount, Count, check_lines, shown

FORMAT = 1
# What a comparison can depend on beside what every run notes.
_PACKAGES = ("foolbox", "captum", "grad-cam", "zennit", "pycocotools", "ray")
_MACHINE = ("cpu", "cores", "memory_gib", "os", "device")


class SuiteFile(TypedDict):
    """A suite as it lies in a file."""

    time: str
    commit: str | None
    command: list[str]
    threads: Count
    seconds: Count | Amount
    device: str
    setting: Json
    records: list[Any]


class ResultsFile(TypedDict):
    """The file."""

    machine: Json
    versions: dict[str, str | None]
    suites: Json


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
        """Return these results with a suite added or replaced."""
        return replace(self, suites={**self.suites, name: measured})

    def only(self, names: Sequence[str]) -> Results:
        """Return these results without suites that are not in `names`."""
        return replace(self, suites={n: s for n, s in self.suites.items() if n in names})

    @property
    def missed(self) -> list[str]:
        """Return the claims that were not kept."""
        return [
            f"{name}: {record.what}"
            for name, suite in self.suites.items()
            for record in suite.records
            if record.kept is False
        ]


def empty(command: Sequence[str]) -> tuple[Results, Json]:
    """Return results of this machine without suites, and the environment of the suites."""
    found = environment(list(command))
    versions: dict[str, str | None] = {**found["versions"], **dict(map(_version, _PACKAGES))}
    if torch.cuda.is_available():
        versions["cuda"] = torch.version.cuda
        versions["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return Results({name: found[name] for name in _MACHINE}, versions, {}), found


def differences(old: Results, new: Results) -> list[str]:
    """Return the differences of machines and versions, as `name old → new`."""
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
    """Return the results in a file; raises `RunError`, naming the file and the fault."""
    found = read_json(path, error=RunError)
    if not isinstance(found, dict) or "suites" not in found:
        raise RunError(f"{path}: not a file of `robustkit bench`: it has no 'suites'")
    if found.get("format") != FORMAT:
        raise RunError(
            f"{path}: format {shown(found.get('format'))}; this robustkit reads {FORMAT}"
        )
    told = check_kind(found, ResultsFile, str(path), error=RunError)
    check_lines(told, str(path))
    suites = {name: _read_suite(f"{path}: {name}", each) for name, each in told["suites"].items()}
    return Results(told["machine"], told["versions"], suites)


def _version(package: str) -> tuple[str, str | None]:
    try:
        return package, metadata.version(package)
    except metadata.PackageNotFoundError:
        return package, None


def _as_dict(suite: Measured) -> Json:
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


def _read_suite(where: str, value: Any) -> Measured:
    if where.endswith(": "):
        raise RunError(f"{where}a suite without a name")
    found = check_kind(value, SuiteFile, where, error=RunError)
    try:
        records = tuple(
            Record.from_dict(each, f"records[{number}]")
            for number, each in enumerate(found["records"])
        )
        return Measured(
            records=records,
            time=found["time"],
            commit=found["commit"],
            command=tuple(found["command"]),
            threads=found["threads"],
            seconds=found["seconds"],
            device=found["device"],
            setting=found["setting"],
        )
    except (RobustkitError, ValueError) as error:
        raise RunError(f"{where}: {error}") from None


SAME, BETTER, WORSE = (
    "within the spreads",
    "better, beyond the spreads",
    "worse, beyond the spreads",
)
UNKNOWN = "one round: spread unknown"


@dataclass(frozen=True)
class Change:
    """A record then and now; `factor` is new by old, `verdict` what to make of it."""

    suite: str
    what: str
    old: Record | None
    new: Record | None
    factor: float | None
    verdict: str


def changes(old: Results, new: Results) -> Iterator[Change]:
    """Yield a change for every record of the suites that are in both, in the order of the new ones.

    The medians' ratios have changed beyond the spreads where no ratio that the old quartiles allow
    is one that the new ones allow.
    """
    for suite, measured in new.suites.items():
        if suite not in old.suites:
            continue
        before = {record.what: record for record in old.suites[suite].records}
        for record in measured.records:
            yield _change(suite, record.what, before.pop(record.what, None), record)
        for what, record in before.items():
            yield Change(suite, what, record, None, None, "gone")


def unmatched(old: Results, new: Results) -> list[str]:
    """Return lines about suites that only one of the two has."""
    lines = []
    for text, one, other in (("only in the old file", old, new), ("only in the new one", new, old)):
        names = [name for name in one.suites if name not in other.suites]
        if names:
            lines.append(f"not compared, {text}: {', '.join(names)}")
    return lines


def _change(suite: str, what: str, old: Record | None, new: Record) -> Change:
    if old is None:
        return Change(suite, what, None, new, None, "new")
    if old.value is None or new.value is None:
        which = "then" if old.value is None else "now"
        return Change(suite, what, old, new, None, f"no figure {which}")
    if (old.ratio_of, old.higher, *_units(old)) != (new.ratio_of, new.higher, *_units(new)):
        return Change(suite, what, old, new, None, "not the same quantity")
    factor = new.value / old.value if old.value else None
    return Change(suite, what, old, new, factor, _verdict(old, new))


def _units(record: Record) -> tuple[str | None, str | None]:
    ours, peer = (value.unit if value else None for value in (record.ours, record.peer))
    return ours, peer


def _verdict(old: Record, new: Record) -> str:
    if old.span is None or new.span is None:
        return UNKNOWN
    if new.span[0] > old.span[1]:
        return BETTER if new.higher else WORSE
    if new.span[1] < old.span[0]:
        return WORSE if new.higher else BETTER
    return SAME
