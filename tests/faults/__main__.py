"""`python -m tests.faults [--real] [N] [FAULT ...]`: a table of what became of each fault.

Every fault, or those named, at N random moments (100) of a search with cheap stand-ins for trials,
or with `--real` of the command `robustkit evolve`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.faults import FAULTS, suffer
from tests.faults.real import evolution
from tests.faults.standin import search
from tests.faults.victim import Course, undisturbed


def main(arguments: list[str]) -> int:
    work = evolution if "--real" in arguments else search
    count, *names = [each for each in arguments if each != "--real"] or ["100"]
    print("| fault | runs | struck | resumed to the same end | seconds |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as kept:
        course, failed = undisturbed(work, Path(kept)), 0
        for name in names or FAULTS:
            failed += _strike(name, int(count), Path(kept), course)
    return 1 if failed else 0


def _strike(name: str, count: int, folder: Path, course: Course) -> int:
    """One line of the table; how many runs did not end as they should."""
    start, runs, struck, failed = time.monotonic(), 0, 0, 0
    # Until it has struck so often: some runs end before their moment comes.
    while struck < count and runs < 4 * count:
        try:
            struck += suffer(name, runs, folder, course)
        except AssertionError as error:
            print(f"    {name} {runs}: {error}", file=sys.stderr, flush=True)
            failed += 1
        runs += 1
        for done in folder.glob(f"*{name.replace(' ', '-')}-*"):
            shutil.rmtree(done) if done.is_dir() else done.unlink()
    told = f"{runs} | {struck} | {runs - failed} of {runs} | {time.monotonic() - start:.0f}"
    print(f"| {name} | {told} |", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
