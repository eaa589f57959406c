"""`robustkit report DIR`: draw a run's `report.html` anew from what its folder holds."""

from __future__ import annotations

from pathlib import Path

from experiments.options import Options, VerbParser
from experiments.verbs import VERBS, verb_module
from robustkit.errors import RunError
from robustkit.runs import RunFolder


def add_arguments(parser: VerbParser) -> None:
    """Which run."""
    parser.add_argument("run", metavar="DIR", help="run folder")


def run(options: Options) -> int:
    """Leave the report to the verb that made the run, and say where it is."""
    folder = RunFolder.open(Path(options.run))
    report = getattr(verb_module(folder.verb), "report", None) if folder.verb in VERBS else None
    if report is None:
        raise RunError(f"{folder.path}: runs of '{folder.verb}' have no report")
    print(report(folder))
    return 0
