"""`python -m tests.fuzz [N] [FORMAT…]`: N hostile files of every kind, and a table of endings."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import psutil

from tests.fuzz.formats import Format, formats
from tests.fuzz.reading import SECONDS, Ending, ending

ROOM = 2 * 2**30  # bytes of address space that reading one file may add


def main(arguments: list[str]) -> int:
    count = int(arguments[0]) if arguments else 10_000
    now = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, resource.RLIM_INFINITY))
    print("| format | inputs | read | refused | slowest | bugs |\n|---|---|---|---|---|---|")
    bugs = 0
    with tempfile.TemporaryDirectory() as name:
        for each in formats(Path(name)):
            if len(arguments) > 1 and each.name not in arguments[1:]:
                continue
            bugs += run(each, count, Path(name))
    return 1 if bugs else 0


def run(each: Format, count: int, folder: Path) -> int:
    endings: Counter[str] = Counter()
    slowest, shown = 0.0, 0
    for seed in range(count):
        start = time.perf_counter()
        found: Ending = ending(each, Random(f"{each.name}/{seed}"), folder)
        slowest = max(slowest, time.perf_counter() - start)
        endings[found.kind] += 1
        if found.kind == "bug" and shown < 5:
            shown += 1
            print(f"    {each.name} {seed}: {found.told}", file=sys.stderr, flush=True)
    late = "" if slowest <= SECONDS else " LATE"
    print(
        f"| {each.name} | {count:,} | {endings['read']:,} | {endings['refused']:,} "
        f"| {slowest:.2f} s{late} | {endings['bug']} |",
        flush=True,
    )
    return endings["bug"] + bool(late)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
