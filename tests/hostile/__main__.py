"""`python -m tests.hostile [WORD…]`: every case whose name holds a word, and a table of endings."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.hostile.cases import every
from tests.hostile.child import complaints
from tests.hostile.places import place_for

RUNS = Path(tempfile.gettempdir()) / "robustkit-hostile-runs"


def main(words: list[str]) -> int:
    RUNS.mkdir(exist_ok=True)
    done: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for case in every():
        if words and not any(word in case.name for word in words):
            continue
        kind = case.name.partition("/")[0]
        with tempfile.TemporaryDirectory() as folder:
            found = complaints(case, place_for(Path(folder), RUNS))
        done[kind] += 1
        bad[kind] += bool(found)
        for each in found:
            print(f"{case.name}: {each}", file=sys.stderr, flush=True)
    print("| kind | cases | wrong |\n|---|---|---|")
    for kind, count in done.items():
        print(f"| {kind} | {count} | {bad[kind]} |")
    print(f"| all | {done.total()} | {bad.total()} |")
    return 1 if bad.total() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
