"""`robustkit doctor`: is this installation usable, and if not, what mends it."""

from __future__ import annotations

from experiments import diagnosis
from experiments.diagnosis import Finding
from experiments.options import Options, VerbParser

_SIGNS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def add_arguments(parser: VerbParser) -> None:
    """The doctor has no options of its own."""


def run(options: Options) -> int:
    """Print every finding and its fix; 1 when something must be mended, 0 when usable."""
    findings = [check() for check in diagnosis.CHECKS]
    for finding in findings:
        print(_lines(finding))
    wrong = [finding.what for finding in findings if finding.status == "wrong"]
    if wrong:
        print(f"\nTo be mended: {', '.join(wrong)}.")
        return 1
    print("\nrobustkit is usable.")
    return 0


def _lines(finding: Finding) -> str:
    line = f"{_SIGNS[finding.status]}  {finding.what}: {finding.detail}"
    return f"{line}\n       fix: {finding.fix}" if finding.fix else line
