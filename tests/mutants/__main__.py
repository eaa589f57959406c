"""`python -m tests.mutants [AREA ...]`: which test notices which mistake, as a table.

Every mistake of every area, or of those named, is put into a copy of the repository, one at a time.
Ends with 1 if one of them was not noticed.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.areas import AREAS
from tests.mutants.mutant import ROOT, Mutant
from tests.mutants.running import MutantError, copied, passed, run_mutant

# What the tests import that is not mutated: forks need not do it again.
HEAVY = ("torch", "torchvision", "hypothesis", "scipy.stats", "scipy.optimize", "sklearn.datasets")


def main(arguments: list[str]) -> int:
    unknown = sorted(set(arguments) - set(AREAS))
    if unknown:
        print(f"no area {', '.join(unknown)}; there are {', '.join(AREAS)}", file=sys.stderr)
        return 2
    for module in HEAVY:
        importlib.import_module(module)
    chosen = {name: AREAS[name] for name in arguments or AREAS}
    start, survivors = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(ROOT, Path(folder))
        needed = [test for area in chosen.values() for each in area for test in each.tests]
        sound = passed(copy, list(dict.fromkeys(needed)), limit=None)
        if sound.killer:
            print(f"{sound.killer} fails without any mutant", file=sys.stderr)
            return 1
        limit = max(300.0, 3 * sound.seconds)
        print("| area | mistake | noticed by | seconds |\n|---|---|---|---|", flush=True)
        for name, area in chosen.items():
            survivors += [each.name for each in area if not _killed(name, each, copy, limit)]
    count = sum(len(area) for area in chosen.values())
    print(f"\n{count - len(survivors)} of {count} noticed, {time.monotonic() - start:.0f} s")
    for each in survivors:
        print(f"not noticed: {each}", file=sys.stderr)
    return 1 if survivors else 0


def _killed(area: str, mutant: Mutant, copy: Path, limit: float) -> bool:
    """One line of the table."""
    try:
        result = run_mutant(copy, mutant, limit)
    except MutantError as error:
        print(f"{mutant.name}: {error}", file=sys.stderr)
        return False
    told = result.killer.rpartition("/")[2] or "**nobody**"
    print(f"| {area} | {mutant.name} | `{told}` | {result.seconds:.1f} |", flush=True)
    return bool(result.killer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
