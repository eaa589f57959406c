"""`robustkit bench`: measure what is claimed about speed, beside libraries that do the same."""

from __future__ import annotations

from pathlib import Path

import torch

from experiments.benchmarks import results, tables
from experiments.benchmarks.results import WORSE, Results, changes, unmatched
from experiments.benchmarks.suites import ABOUT, GPU_SUITES, chosen, measure
from robustkit.cli.context import RUNS
from robustkit.cli.output import print_table
from robustkit.cli.parser import CommandParser, Options
from robustkit.compute import resolve_device
from robustkit.errors import ConfigError, DeviceError, RunError

DEVICE = "cuda"  # of the GPU's suites, which alone have a choice


def add_arguments(parser: CommandParser) -> None:
    """Declare which suites to measure, where to put the results, and what to compare them with."""
    suites = parser.add_argument(
        "suites",
        nargs="?",
        metavar="SUITE",
        help="suites, or gpu; none: all that need no GPU",
    )
    # Of any number one would be required, unless by a default, which older jsonargparse refuses.
    suites.nargs = "*"
    parser.add_argument("--list", action="store_true", help="list the suites and stop")
    parser.add_argument(
        "--out",
        metavar="FILE.json",
        help="file of the results; in one that is there already the suites that are named are "
        "measured anew and the others stay; none: the next free one under runs/",
    )
    parser.add_argument(
        "--measured", metavar="FILE.json", help="take the results of this file, measure nothing"
    )
    parser.add_argument(
        "--compare",
        metavar="OLD.json",
        help="set the results beside older ones; exit code 1 says that a claim is missed now, "
        "never that something got slower",
    )
    parser.add_argument("--page", metavar="FILE.md", help="write the results as a page of Markdown")
    parser.add_argument("--device", default=DEVICE, help="of the GPU's suites; cpu: a rehearsal")


def run(options: Options) -> int:
    """Measure, print a table, compare; 1 when a claim is missed, otherwise 0."""
    named = options.suites or []
    names = chosen(named)
    if options.list:
        listed = names if named else ABOUT
        print("\n".join(f"{name}\t{ABOUT[name]}" for name in listed))
        return 0
    if options.measured is not None and options.out is not None:
        raise ConfigError("--measured measures nothing, so there is nothing to write to --out")
    if options.device != DEVICE and (options.measured or not set(names) & set(GPU_SUITES)):
        raise ConfigError("--device is of the GPU's suites, and none of them is to be measured")
    old = None if options.compare is None else results.read(Path(options.compare))
    if options.page is not None:
        tables.check_page(Path(options.page))
    if options.measured is None:
        everything = _measure(names, options, named=bool(named))
    else:
        everything = _measured(Path(options.measured), names if named else None)
    found = everything.only(names) if named or options.out else everything
    print_table(("suite", *tables.HEAD), tables.all_rows(found), boxed=True)
    if options.page is not None:
        tables.write_page(Path(options.page), everything)
        print(f"page: {options.page}")
    worse = 0 if old is None else _compare(old, found)
    return _verdict(found, worse if old is not None else None)


def _measure(names: list[str], options: Options, *, named: bool) -> Results:
    """Measure the suites, each written as soon as it has ended; returns all that the file holds."""
    device = _device(options.device) if set(names) & set(GPU_SUITES) else torch.device("cpu")
    path = _next_free() if options.out is None else Path(options.out)
    found, environment = results.empty(options.command)
    if path.exists():
        found = _opened(path, found, named=named)
    results.write(path, found)  # what cannot be written is known before anything is measured
    for name in names:
        try:
            measured = measure(name, device, environment)
        except KeyboardInterrupt as interrupt:
            hint = f"the suites that had ended are in {path}"
            raise KeyboardInterrupt(hint) from interrupt
        found = found.with_suite(name, measured)
        results.write(path, found)
        print(f"{name}: {len(measured.records)} records in {measured.seconds:.0f} s", flush=True)
    print(f"results: {path}")
    return found


def _opened(path: Path, here: Results, *, named: bool) -> Results:
    """Return the results that are in the file already, if new ones may stand beside them."""
    there = results.read(path)
    if not named:
        missing = [name for name in chosen(()) if name not in there.suites]
        hint = f" (not in it yet: {', '.join(missing)})" if missing else ""
        raise RunError(
            f"{path}: exists; name the suites to be measured anew in it{hint}, or give another file"
        )
    apart = results.differences(there, here)
    if apart:
        raise RunError(f"{path}: was measured elsewhere ({apart[0]}); give another file")
    return there


def _measured(path: Path, names: list[str] | None) -> Results:
    """Return the results of a file, which has to hold some of the suites called `names`."""
    found = results.read(path)
    if not found.suites:
        raise RunError(f"{path}: holds no suite; nothing was measured yet")
    if names is not None and not found.only(names).suites:
        raise RunError(
            f"{path}: holds nothing of {', '.join(names)}; it has {', '.join(found.suites)}"
        )
    return found


def _next_free() -> Path:
    RUNS.mkdir(exist_ok=True)
    number = 1
    while (path := RUNS / f"bench-{number}.json").exists():
        number += 1
    return path


def _device(name: str) -> torch.device:
    try:
        return resolve_device(name)
    except DeviceError as error:
        if not name.startswith("cuda") or torch.cuda.is_available():
            raise
        raise DeviceError(
            "no GPU on this machine: nothing to measure (--device cpu rehearses it in small)"
        ) from error


def _compare(old: Results, new: Results) -> int:
    """Print what has changed; returns how much of it for the worse."""
    apart = results.differences(old, new)
    if apart:
        print(f"not the same machine or versions: {'; '.join(apart)}")
    found = list(changes(old, new))
    print_table(tables.CHANGES, tables.change_rows(found), boxed=True)
    for line in unmatched(old, new):
        print(line)
    return sum(change.verdict == WORSE for change in found)


def _verdict(found: Results, worse: int | None) -> int:
    """Print what the exit code means, and return it."""
    code = 1 if found.missed else 0
    for claim in found.missed:
        print(f"missed: {claim}")
    said = f"{len(found.missed)} claims missed" if code else "no claim missed"
    if worse is not None:
        said += f"; {worse} worse than before beyond the spreads, which does not change it"
    print(f"exit code {code}: {said}")
    return code
